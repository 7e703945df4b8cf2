"""How far a check of many files is: one line on a terminal, with an ETA."""

from __future__ import annotations

import sys
import time

from bpcp.words import duration


class Progress:
    """One line on a terminal, with an ETA."""

    def __init__(self) -> None:
        self.started = self.said = 0.0
        self.at_start = self.shown = 0

    def told(self, done: int, total: int) -> None:
        """Show how many files of how many were looked at."""
        now = time.monotonic()
        if not self.started:
            # processes take a while to start, which says nothing of their pace
            self.started, self.said, self.at_start = now, now, done
        if now - self.said < 0.5:
            return
        self.said = now
        left = (total - done) * (now - self.started) / (done - self.at_start)
        text = f"check: {100 * done // total} % of {total:,} files · ETA {duration(left)}"
        print(f"\r{text:<{self.shown}}", end="", file=sys.stderr, flush=True)
        self.shown = len(text)

    def end(self) -> None:
        """Take the line away."""
        if self.shown:
            print(f"\r{' ' * self.shown}\r", end="", file=sys.stderr, flush=True)
