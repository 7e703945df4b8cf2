"""Watch over a CellProfiler at work: whether it shows life, and whether it takes too long.

This is part of every chunk, so it imports nothing heavy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bpcp import processes
from bpcp.failure import Kind

# A JVM with nothing to do takes some thousandths of a core; who works takes more than this.
_ALIVE = 0.02
# So much later than it should a look may come, on a machine with much to do.
_LATE_S = 10.0
# How often it is asked how long it may take, while nobody knows.
_ASK_S = 30.0


class Watchdog:
    """Tells when a process has to be ended.

    Its `limit` says how long it may take, in seconds, or None while there is nothing to learn from.

    It shows life by a line in its log, or by CPU time of its own or of what it started. To look
    costs a read of two small files; what it started is looked for only where it seems dead itself.
    """

    def __init__(
        self,
        pid: int,
        log: Path,
        stall_s: float,
        limit: Callable[[], float | None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pid, self._log, self._now = pid, log, now
        self._stall_s, self._limit = stall_s, limit
        self._limit_s: float | None = None
        self._asks_at = 0.0
        self._began = self._since = self._looked = now()
        self._size, self._cpu_s, self._tree_s = -1, 0.0, 0.0

    @property
    def look_s(self) -> float:
        """How long to wait between two looks, in seconds."""
        return min(2.0, max(0.05, self._stall_s / 10))

    def look(self) -> Kind | None:
        """Tell why the process has to be ended, if it has to."""
        now = self._now()
        # who could not look, as the machine slept or somebody stopped it, has seen nothing
        missed_s = now - self._looked - _LATE_S - self.look_s
        if missed_s > 0:
            self._began += missed_s
            self._since += missed_s
        self._looked = now
        if self._limit_s is None and now >= self._asks_at:
            # the first ones start before there is anything to learn from
            self._limit_s, self._asks_at = self._limit(), now + _ASK_S
        if self._limit_s is not None and now - self._began > self._limit_s:
            return Kind.TIMEOUT
        if self._shows_life(now):
            self._since = now
        return Kind.STALLED if now - self._since > self._stall_s else None

    def _shows_life(self, now: float) -> bool:
        size = self._log.stat().st_size
        own = processes.read(self._pid)
        cpu_s = own.cpu_s if own else 0.0
        quiet_s = now - self._since
        if size != self._size or cpu_s - self._cpu_s > _ALIVE * quiet_s:
            self._size, self._cpu_s = size, cpu_s
            self._tree_s = 0.0
            return True
        if quiet_s < self._stall_s / 2:
            return False
        # perhaps a child of its own works for it
        tree_s = sum(p.cpu_s for p in processes.tree(self._pid))
        before, self._tree_s = self._tree_s or tree_s, tree_s
        if tree_s - before <= _ALIVE * self.look_s:
            return False
        self._tree_s = 0.0
        return True
