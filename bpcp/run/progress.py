"""Show how far a run is while it runs: one line, with an ETA."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bpcp.cellprofiler import finished_in
from bpcp.chunk import admission
from bpcp.errors import Exit, Parser, run_main
from bpcp.words import duration
from bpcp.workspace import Planned, Workspace, of_status, read_json, read_plan, verdict

_BAR = 20
_TERMINAL_S = 1.0
# to a file or a pipe: a line now and then
_LOG_S = 30.0
# What is waited for is said when it lasts so long; after a while without, it is said anew.
_LASTS_S = 5.0
_FORGOTTEN_S = 300.0


class Waits:
    """Tells when it is time to say for what a run waits: once for each thing, if it lasts."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # when each thing was seen first, and last; and what was said already
        self._since: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._said: set[str] = set()

    def to_say(self, waits: str) -> str:
        """Give what is to be said now, of what is waited for; mostly ""."""
        now, thing = self._now(), waits.partition(":")[0]
        if not thing:
            return ""
        if now - self._seen.get(thing, -_FORGOTTEN_S) >= _FORGOTTEN_S:
            self._since[thing] = now
            self._said.discard(thing)
        self._seen[thing] = now
        if thing in self._said or now - self._since[thing] < _LASTS_S:
            return ""
        self._said.add(thing)
        return f"the next chunk waits for {waits}"


class Watch:
    """What is known of a run, brought up to date at little cost: what is done is read once."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.open: dict[str, Planned] = {p.id: p for p in read_plan(workspace)}
        self.total = sum(len(p.image_numbers) for p in self.open.values())
        run = read_json(workspace.run) or {}
        self.last_module, self.fetches = int(run["last_module"]), bool(run["fetches"])
        # chunks whose images are here before they run
        self.ahead = 0
        self.done = self.failed = self.running = self.under_way = 0
        # for what the next chunk waits, in words
        self.waits = ""
        self._read: dict[str, tuple[int, int]] = {}
        self.look()
        self.at_start = self.done + self.failed
        self.started = time.monotonic()

    def look(self) -> None:
        """Read what has changed."""
        self.waits = admission.waits_for(self.workspace)
        self.running = self.under_way = self.ahead = 0
        for chunk_id, planned in list(self.open.items()):
            found = verdict(self.workspace, planned)
            running = read_json(self.workspace.chunk(chunk_id).running)
            if running is not None:
                self.running += 1
                self.under_way += int(running["decided"])
                if found is not None:
                    # what is tried again has neither failed nor succeeded yet
                    self.under_way += len(planned.image_numbers) - len(found["failed"])
                log = running["log"]
                read = self._read.get(log, (0, 0))
                self._read[log] = finished_in(log, self.last_module, *read)
                self.under_way += self._read[log][1]
            elif found is not None:
                self.failed += len(found["failed"])
                self.done += len(planned.image_numbers) - len(found["failed"])
                del self.open[chunk_id]
            elif self.fetches and self.workspace.chunk(chunk_id).fetched.exists():
                self.ahead += 1

    def line(self, width: int) -> str:
        """Give the line to show, at most `width` characters."""
        elapsed = time.monotonic() - self.started
        reached = min(self.total, self.done + self.failed + self.under_way)
        gained = reached - self.at_start
        filled = _BAR * reached // self.total
        words = [f"{reached:,}/{self.total:,} image sets", f"{self.running} running"]
        if self.fetches:
            words.append(f"{self.ahead} ahead")
        if self.failed:
            words.append(f"{self.failed} failed")
        if self.waits:
            # the rest of it stands on a line of its own
            words.append(f"waits for {self.waits.partition(':')[0]}")
        if gained > 0:
            rate = gained / elapsed
            words.append(_pace(rate))
            words.append(f"ETA {duration((self.total - reached) / rate)}")
        text = f"[{'#' * filled}{'-' * (_BAR - filled)}] {' · '.join(words)}"
        return text[: width - 1]


def _pace(rate: float) -> str:
    if rate >= 1:
        return f"{rate:.1f}/s"
    return f"{rate * 60:.0f}/min" if rate * 60 >= 1 else f"{rate * 3600:.0f}/h"


def main(argv: Sequence[str]) -> int:
    """Show a run's progress until told to end, or until the run's process is no more."""
    parser = Parser("progress")
    parser.add_argument("run", type=Path)
    args = parser.parse_args(argv)
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    parent = os.getppid()

    def over() -> bool:
        return bool(ended) or os.getppid() != parent

    watch, waits = Watch(of_status(args.run)), Waits()
    terminal = sys.stderr.isatty()
    pause_s = _TERMINAL_S if terminal else _LOG_S
    while not over():
        # sleep is not cut short by a handler that returns, so it is kept short
        until = time.monotonic() + pause_s
        while not over() and time.monotonic() < until:
            time.sleep(0.1)
        began = time.monotonic()
        watch.look()
        # on a run of many thousand chunks a look takes a while; it must never cost a core
        pause_s = max(pause_s, 20 * (time.monotonic() - began))
        said = waits.to_say(watch.waits)
        width = shutil.get_terminal_size().columns if terminal else 200
        if said and not over():
            print(f"\r{said:<{width - 1}}" if terminal else said, file=sys.stderr)
        if terminal:
            print(f"\r{watch.line(width):<{width - 1}}", end="", file=sys.stderr, flush=True)
        elif not over():
            print(watch.line(width), file=sys.stderr, flush=True)
    if terminal:
        print(file=sys.stderr)
    return Exit.OK


if __name__ == "__main__":
    run_main("progress", main)
