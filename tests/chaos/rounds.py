"""A round: a real run is harmed, then started again in peace until it is done; then judged."""

from __future__ import annotations

import heapq
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import judge
import marked
from disk import Disk, mounts_below
from judge import Fault, Problem
from schedule import Harm, Kind, Schedule, victims
from screen import DATASET, TAG, Product, Screen

# Whatever a start left must be gone so long after its entry script.
ORPHANS_S = 10.0
# A second start is refused within: it waits a moment for the lock, and reads the command line.
_REFUSED_S = 45.0
_SHARED = Path("/dev/shm")  # noqa: S108
_LOOK_S = 0.05
# What a bad image's reason must say.
_REASONS = {"gone": "missing file", "cut": r"ends|holds|trunc|cut off", "bytes": r"\w"}


@dataclass(frozen=True)
class Bench:
    """What all rounds share.

    Attributes
    ----------
    mark : str
        What marks all processes of the bench begin with.
    timeout_s : float
        A start that takes longer hangs.
    patience_s : float
        So long after a process was stopped, the entry script is killed, as a user would.
    run_s : float
        How long an undisturbed run takes.
    stall_min : str
        For --stall-min; "" where the product has no such option.
    """

    product: Product
    screen: Screen
    work: Path
    mark: str
    timeout_s: float
    patience_s: float
    run_s: float
    most_restarts: int = 4
    stall_min: str = ""


@dataclass
class Start:
    """One start of the command."""

    name: str
    mark: str
    process: subprocess.Popen[bytes]
    began: float
    cause: str = ""


@dataclass
class Outcome:
    """What came of a round.

    Attributes
    ----------
    harms, endings : list of str
        What was done to whom and when; exit codes, or signals below 0, as they came.
    restarts : int
        Plain starts after the harm.
    first_s : float
        How long its first start took.
    """

    number: int
    schedule: Schedule
    harms: list[str] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    restarts: int = 0
    seconds: float = 0.0
    first_s: float = 0.0
    problems: list[Problem] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Say in a few words what is wrong."""
        kinds = dict.fromkeys(p.fault.value for p in self.problems)
        return ", ".join(kinds) if kinds else "ok"

    def line(self) -> str:
        """Say in a line what was done, how starts ended, and what came of it."""
        where = (
            f"{self.schedule.disk}{f', -t {self.schedule.tmpdir}' if self.schedule.tmpdir else ''}"
        )
        return (
            f"round {self.number} [{where}]: {'; '.join(self.harms) or 'no harm'}"
            f" | ends {', '.join(self.endings)} | restarts {self.restarts}"
            f" | {self.seconds:.0f} s | {self.verdict}"
        )


class Round:
    """A round, while it is played."""

    def __init__(self, bench: Bench, number: int, schedule: Schedule) -> None:
        self.bench, self.schedule = bench, schedule
        self.out = Outcome(number, schedule)
        self.mark = f"{bench.mark}/{number}"
        self.folder = bench.work / "rounds" / str(number)
        self.base = self.folder / "disk" / "lab"
        self.pipeline = self.base / "pipelines" / f"{TAG}.cppipe"
        self.disk: Disk | None = None
        self.ram: Disk | None = None
        self.bad: dict[int, str] = {}
        self._starts = 0
        self._second: Start | None = None
        self._killed_at = float("inf")
        self._events: list[tuple[float, int, bool, Callable[[], None]]] = []
        self._serial = count()
        self._began = 0.0
        self._dark = False
        self._shared = _in_shared()

    # --- the way of a round -----------------------------------------------------------------

    def play(self) -> Outcome:
        """Play it to its end; whatever happens, nothing of it runs or is mounted afterwards."""
        self._began = time.monotonic()
        try:
            self._prepare()
            code = self._harm()
            if code != 0 or self.bad:
                code = self._in_peace()
            self._finally(code)
        finally:
            self._clear_away()
        self.out.seconds = time.monotonic() - self._began
        return self.out

    def _prepare(self) -> None:
        for name in ("tmp", "t", "disk"):
            (self.folder / name).mkdir(parents=True)
        if self.schedule.disk != "folder":
            late = self.schedule.disk == "ext4 late"
            self.disk = Disk(self.folder / "disk", self.folder / "disk.img", late)
            self.disk.make()
        if self.schedule.tmpdir == "tmpfs":
            self.ram = Disk(self.folder / "t")
            self.ram.make()
        self.bench.screen.copy_to(self.base)
        if self.disk:
            self.disk.flush()

    def command(self) -> list[str]:
        """Give the command of this round; it is always the same."""
        words = [
            str(self.bench.product.script), "-d", DATASET, "-p", str(self.pipeline),
            "-P", "2", "--chunk-size", "2",
        ]  # fmt: skip
        if self.schedule.tmpdir == "ramdisk":
            words += ["--ramdisk", "128M"]
        elif self.schedule.tmpdir:
            words += ["-t", str(self.folder / "t")]
        if self.bench.stall_min:
            words += ["--stall-min", self.bench.stall_min]
        return words

    def _start(self) -> Start:
        self._starts += 1
        name = f"start {self._starts}"
        mark = f"{self.mark}/{self._starts}"
        with (self.folder / "starts.log").open("ab") as log:
            log.write(f"--- {name}, {self._clock()}\n".encode())
            log.flush()
            process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=self.bench.product.environment(mark, self.folder / "tmp"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Start(name, mark, process, time.monotonic())

    def _clock(self) -> str:
        return f"{time.monotonic() - self._began:.1f} s"

    def _problem(self, fault: Fault, what: str) -> None:
        self.out.problems.append(Problem(fault, what))

    # --- harm -------------------------------------------------------------------------------

    def _later(self, due: float, act: Callable[[], None], *, mends: bool) -> None:
        heapq.heappush(self._events, (due, next(self._serial), mends, act))

    def _harm(self) -> int:
        """Do what is scheduled; give the exit code of the last start that was harmed."""
        start = self._start()
        for harm in self.schedule.harms:
            due = start.began + harm.at * self.bench.run_s
            self._later(due, partial(self._do, harm, lambda: start), mends=False)
        while True:
            while self._events and self._events[0][0] <= time.monotonic():
                heapq.heappop(self._events)[3]()
            self._look_at_second(start)
            code = self._look_at(start)
            if code is None:
                time.sleep(_LOOK_S)
                continue
            harmful = [e for e in self._events if not e[2]]
            if harmful and code not in (0, 1):
                start = self._start()
                continue
            if harmful:
                self.out.harms.append(f"{len(harmful)} more too late")
            self._events = sorted(e for e in self._events if e[2])
            for event in self._events:
                event[3]()
            self._events = []
            break
        while self._second:
            self._look_at_second(None)
            time.sleep(_LOOK_S)
        return code

    def _do(self, harm: Harm, current: Callable[[], Start]) -> None:
        start, at = current(), self._clock()
        told = self.out.harms
        if harm.kind in (Kind.KILL, Kind.STOP):
            living = marked.found(self.mark, below=True, entry=start.process.pid)
            hit = victims(harm, living)
            for victim in hit:
                marked.send(victim.pid, harm.signal, self.mark)
            name = harm.signal.name.removeprefix("SIG")
            told.append(f"{at} {name} {', '.join(map(str, hit)) or 'nobody'}")
            if hit and harm.signal is signal.SIGSTOP:
                due = time.monotonic() + self.bench.patience_s
                self._killed_at = min(self._killed_at, due)
        elif harm.kind is Kind.TWICE:
            self._second = self._start()
            told.append(f"{at} {self._second.name} beside it")
        elif harm.kind is Kind.SPOIL:
            path = self.bench.screen.spoil(harm.image_set, harm.way)
            self.bad[harm.image_set] = harm.way
            back = f", back after {harm.for_s} s{' as it was' if harm.old_time else ''}"
            told.append(
                f"{at} image set {harm.image_set} {harm.way}{back if harm.for_s else ' for good'}"
            )
            if harm.for_s:
                self._later(
                    time.monotonic() + harm.for_s, partial(self._put_back, harm, path), mends=True
                )
        elif harm.kind is Kind.FILL:
            disk = self.ram if harm.way == "tmpdir" else self.disk
            if not disk:
                raise ValueError(f"no disk to fill: {self.schedule}")
            told.append(f"{at} {harm.way} full ({disk.fill() >> 20} MB) for {harm.for_s} s")
            self._later(time.monotonic() + harm.for_s, disk.free, mends=True)
        else:
            self._cut_power(start)
            told.append(f"{at} power cut{'' if self.disk else ' (processes only)'}")

    def _put_back(self, harm: Harm, path: Path) -> None:
        self.bench.screen.put_back(path, old_time=harm.old_time)
        self.bad[harm.image_set] = "back"

    def _cut_power(self, start: Start) -> None:
        if self.disk:
            self.disk.cut_power()
        left = marked.end_all(self.mark)
        if left:
            self._problem(Fault.ORPHAN, f"not even SIGKILL ended {left[0]}: {left[0].state}")
        start.process.wait()
        start.cause = "power"
        if self._second:
            self._second.process.wait()
            self._second = None
        for disk in (self.disk, self.ram):
            if disk:
                disk.power_on()

    # --- endings ----------------------------------------------------------------------------

    def _look_at(self, start: Start) -> int | None:
        """Give the exit code of a start that ended, and judge what it left; None while it runs."""
        now = time.monotonic()
        code = start.process.poll()
        if code is None:
            if now > self._killed_at:
                start.cause = "stopped, and so killed by hand"
            elif now > start.began + self.bench.timeout_s:
                start.cause = "hung"
                words = "; ".join(map(str, marked.found(start.mark, entry=start.process.pid)))
                self._problem(
                    Fault.HUNG, f"{start.name} after {self.bench.timeout_s:.0f} s: {words}"
                )
            else:
                return None
            self._killed_at = float("inf")
            marked.send(start.process.pid, signal.SIGKILL, self.mark)
            code = start.process.wait()
        self._killed_at = float("inf")
        self.out.first_s = self.out.first_s or now - start.began
        self.out.endings.append(f"{code}{f' ({start.cause})' if start.cause else ''}")
        self._orphans(start, str(code))
        if code in (0, 1):
            self._judge(start.name, code)
        return code

    def _orphans(self, start: Start, ending: str) -> None:
        left = marked.await_none(lambda: marked.found(start.mark), ORPHANS_S)
        for process in left:
            what = f"{process}, {process.state}, of {start.name}, {ORPHANS_S:.0f} s after {ending}"
            self._problem(Fault.ORPHAN, f"{what}: {process.words}")
        if left:
            marked.end_all(start.mark)

    def _look_at_second(self, first: Start | None) -> None:
        """Look at the start beside the first; None where that has ended meanwhile."""
        second = self._second
        if not second:
            return
        # had it ended before this was asked, the second may have been let in
        alone = first is None or first.process.poll() is not None
        code = second.process.poll()
        age = time.monotonic() - second.began
        if code is None:
            if alone and age < self.bench.timeout_s:
                return
            if not alone and age < _REFUSED_S:
                return
            what = "hung" if alone else "was not refused"
            self._problem(Fault.HUNG if alone else Fault.SECOND, f"{second.name} {what}")
            marked.send(second.process.pid, signal.SIGKILL, self.mark)
            code = second.process.wait()
        elif not alone and code != 75 and code >= 0:
            self._problem(Fault.SECOND, f"{second.name}, beside the first, ends with {code}")
        self._second = None
        self.out.endings.append(f"{code} (second)")
        self._orphans(second, str(code))
        if alone and code in (0, 1):
            self._judge(second.name, code)

    # --- peace, and the end -----------------------------------------------------------------

    def _in_peace(self) -> int:
        """Start the same command until it is done; give its exit code."""
        code = -1
        while code not in (0, 1):
            if self.out.restarts == self.bench.most_restarts:
                self._problem(Fault.ENDLESS, f"not done after {self.out.restarts} plain restarts")
                return code
            self.out.restarts += 1
            start = self._start()
            while (found := self._look_at(start)) is None:
                time.sleep(_LOOK_S)
            code = found
        return code

    def _judge(self, who: str, code: int) -> None:
        """Judge what is there when a start says that it ran to the end: that is a promise."""
        failed = self._failed() if code == 1 else {}
        result = self.base / "analysis" / DATASET / TAG
        clean = self.bench.screen.clean
        if len(failed) == len(self.bench.screen.rows):
            self._problem(Fault.NAMED, f"{who}: every image set failed: {failed[1]}")
            return
        found = judge.counted(clean, result, failed)
        scratch = self.folder / "expected"
        found += judge.equal(self._compare, clean, result, failed, scratch)
        shutil.rmtree(scratch, ignore_errors=True)
        self.out.problems += [Problem(p.fault, f"{who} ({code}): {p.what}") for p in found]

    def _compare(self, left: Path, right: Path) -> tuple[int, str]:
        done = self.bench.product.bpcp("compare", "-q", str(left), str(right))
        return done.returncode, done.stdout or done.stderr

    def _failed(self) -> dict[int, str]:
        done = self.bench.product.bpcp("status", "-d", DATASET, "-p", str(self.pipeline), "--json")
        try:
            listed = json.loads(done.stdout)["failed"]
        except (ValueError, KeyError):
            self._problem(Fault.NAMED, f"status ends with {done.returncode}: {done.stderr[:200]}")
            return {}
        return {int(f["image_number"]): str(f["reason"]) for f in listed}

    def _finally(self, code: int) -> None:
        if code in (0, 1):
            bad = {n: way for n, way in self.bad.items() if way != "back"}
            failed = self._failed()
            expected = {n: _REASONS[way] for n, way in bad.items()}
            gone = [n for n, way in bad.items() if way == "gone"]
            self.out.problems += judge.named(failed, expected, gone)
            if code != (1 if failed else 0):
                self._problem(Fault.NAMED, f"exit {code}, and status names {len(failed)}")
            self._audit()
        status = self.base / "status" / DATASET / TAG
        own = {str(d.place) for d in (self.disk, self.ram) if d}
        self.out.problems += judge.left_behind(
            [self.folder / "tmp", self.folder / "t", status / "attempts"],
            [place for place in mounts_below(self.folder) if place not in own],
            sorted(_in_shared() - self._shared),
        )
        for path in [*judge.hidden(status), *_strange(self.base)]:
            self._problem(Fault.LEFT, str(path.relative_to(self.base)))

    def _audit(self) -> None:
        if self.bench.product.has("audit"):
            done = self.bench.product.bpcp("audit", "-d", DATASET, "-p", str(self.pipeline))
            if done.returncode:
                words = (done.stdout + done.stderr).strip()[-300:]
                self._problem(Fault.AUDIT, f"bpcp audit ends with {done.returncode}: {words}")

    def _clear_away(self) -> None:
        marked.end_all(self.mark)
        strange = self.bench.screen.mend()
        if strange:
            self._problem(Fault.LEFT, f"among the images: {', '.join(strange)}")
        for disk in (self.ram, self.disk):
            if disk:
                disk.free()
        if self.out.problems and self.disk and self.base.is_dir():
            shutil.copytree(self.base, self.folder / "kept", symlinks=True)
        for disk in (self.ram, self.disk):
            if disk:
                disk.remove()
        if not self.out.problems:
            shutil.rmtree(self.folder)


def _in_shared() -> set[str]:
    return (
        {p.name for p in _SHARED.iterdir() if p.name.startswith("bpcp")}
        if _SHARED.is_dir()
        else set()
    )


def _strange(base: Path) -> Sequence[Path]:
    """List what lies in a workspace beside the folders that belong there."""
    own = {"pipelines", "load_data_csv", "analysis", "status", "log"}
    return sorted(p for p in base.iterdir() if p.name not in own)
