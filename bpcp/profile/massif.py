"""What allocates memory inside CellProfiler: valgrind's massif on one image set, summarised.

massif sees what a program takes by malloc and the like: Python's objects, arrays, and the JVM's own
structures, but not the JVM's heap.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bpcp import cellprofiler
from bpcp.errors import BpcpError, Exit

# valgrind computes with 64 bits where SciPy's Boost functions insist on 80, and so can't be loaded.
# They are distributions; under valgrind these give nan. CellProfiler asks for one only on the way
# to a p value that it drops (pearsonr in MeasureColocalization).
_SHIM = """\
import sys
import types


class Empty(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments: sum(arguments) * float("nan")


sys.modules["scipy.stats._boost"] = Empty("scipy.stats._boost")
"""
# How many times longer everything takes; measured 15 to 20 with CellProfiler, and hundreds with
# Python code that does nothing but allocate.
SLOWER = (10, 500)
_ROW = re.compile(r" *(\d+)" + r" +([\d,]+)" * 5)
_PEAK = re.compile(r"(\d+) \(peak\)")
_SITE = re.compile(r"(?P<depth>[| ]*)->(?P<share>[\d.]+)% \((?P<bytes>[\d,]+)B\) (?P<what>.+)")


@dataclass(frozen=True)
class Site:
    """Where memory was allocated that was held at the peak.

    Attributes
    ----------
    mb, share : float
        How much, and in percent of all.
    inner, outer : str
        The function that allocated, and the last one up the stack that is behind nearly all of it.
    """

    mb: float
    share: float
    inner: str
    outer: str


@dataclass(frozen=True)
class Summary:
    """What ms_print says of one process.

    Attributes
    ----------
    command : str
    peak_mb, useful_mb : float
        The most that it held, and without what malloc itself needs.
    sites : tuple of Site
        The largest first.
    """

    command: str
    peak_mb: float
    useful_mb: float
    sites: tuple[Site, ...]


def tools() -> tuple[str, str]:
    """Find valgrind and ms_print.

    Raises
    ------
    BpcpError
        69 where one is missing.
    """
    found = [shutil.which(name) for name in ("valgrind", "ms_print")]
    if not found[0] or not found[1]:
        raise BpcpError(
            Exit.UNAVAILABLE,
            "valgrind is missing",
            "ami_setup/install.sh, or install the package valgrind",
        )
    return found[0], found[1]


def run(job: cellprofiler.Job, command: Sequence[str], folder: Path, log: Path) -> list[Path]:
    """Run a job under massif to its end; this takes long.

    Parameters
    ----------
    folder : Path
        An existing private folder for what massif writes.
    log : Path
        Where CellProfiler's words go.

    Returns
    -------
    list of Path
        What massif wrote, one for each process, the largest first.

    Raises
    ------
    BpcpError
        69 where CellProfiler did not come to its end.
    """
    valgrind, _ = tools()
    shim = folder / "site"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(_SHIM, encoding="utf-8")
    # a % in the folder's name is doubled: %p is the process
    each = f"{str(folder).replace('%', '%%')}/massif.%p"
    argv = [
        *("setpriv", "--pdeathsig", "KILL", "--"),
        *(valgrind, "--tool=massif", "--trace-children=yes"),
        f"--massif-out-file={each}.out",
        # else its words are in what programs read from those that they start, like Java's folder
        f"--log-file={each}.log",
        *(*command, *cellprofiler.arguments(job)),
    ]
    environment = {
        **cellprofiler.environment(),
        "TMPDIR": str(job.tmpdir),
        "PYTHONPATH": str(shim),
    }
    with log.open("wb") as sink:
        process = subprocess.Popen(
            argv,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    said = job.done_file.read_text(encoding="utf-8").strip() if job.done_file.is_file() else ""
    if said != "Complete":
        raise BpcpError(
            Exit.UNAVAILABLE,
            f"CellProfiler did not come to its end under valgrind (exit code {process.returncode})",
            f"see {log}",
        )
    return sorted(folder.glob("massif.*.out"), key=lambda p: p.stat().st_size, reverse=True)


def print_out(path: Path) -> str:
    """Give ms_print's words on a file of massif.

    Raises
    ------
    BpcpError
        69 where it can't read it.
    """
    done = subprocess.run(
        [tools()[1], str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        raise BpcpError(Exit.UNAVAILABLE, f"ms_print {path}: {done.stderr.strip()}")
    return done.stdout


def has_peak(text: str) -> bool:
    """Tell whether a process lived long enough for a peak, from what ms_print printed."""
    return _PEAK.search(text) is not None


def read(text: str, at_most: int = 8) -> Summary:
    """Summarise what ms_print printed.

    Raises
    ------
    BpcpError
        65 where it names no peak: the process ended before massif saw one.
    """
    command = re.search(r"^Command: +(.*)$", text, re.MULTILINE)
    peak = _PEAK.search(text)
    if not command or not peak:
        raise BpcpError(Exit.MALFORMED_INPUT, "ms_print names no peak")
    lines = iter(text.splitlines())
    for line in lines:
        row = _ROW.fullmatch(line)
        if row and row[1] == peak[1]:
            break
    else:
        raise BpcpError(Exit.MALFORMED_INPUT, f"ms_print gives no snapshot {peak[1]}")
    tree = []
    for line in lines:
        if _ROW.fullmatch(line) or line.startswith("----"):
            break
        if found := _SITE.fullmatch(line):
            tree.append(found)
    return Summary(command[1], _mb(row[3]), _mb(row[4]), tuple(_sites(tree)[:at_most]))


def _sites(tree: Sequence[re.Match[str]]) -> list[Site]:
    found: list[Site] = []
    for i, line in enumerate(tree):
        # "in 12 places, all below massif's threshold": each is too small to be a site
        if line["depth"] or line["what"].startswith("in "):
            continue
        size, outer = _mb(line["bytes"]), line
        # down the tree is up the stack; follow it as long as one caller is behind nearly all
        for caller in tree[i + 1 :]:
            if not caller["depth"] or _mb(caller["bytes"]) < 0.9 * size:
                break
            outer = caller
        inner, above = _function(line), _function(outer)
        # one function at two of its lines is no news
        same = above.split(" ")[0] == inner.split(" ")[0]
        found.append(Site(size, float(line["share"]), inner, inner if same else above))
    return sorted(found, key=lambda s: -s.mb)


def _function(line: re.Match[str]) -> str:
    # "0x49F9897: _PyObject_Malloc (obmalloc.c:2003)", "0x731AA13: default_malloc (in /…/x.so)"
    name = re.sub(r"^0x[0-9A-F]+: ", "", line["what"])
    return re.sub(r"\(in .*/([^/]+)\)$", r"(\1)", name)


def _mb(text: str) -> float:
    return int(text.replace(",", "")) / 1024**2


def as_text(summaries: Sequence[Summary]) -> str:
    """Lay summaries out for people."""
    lines = []
    for found in summaries:
        lines.append(f"{found.peak_mb:9,.1f} MB  {found.command[:80]}")
        for site in found.sites:
            by = f"  ← {site.outer}" if site.outer != site.inner else ""
            lines.append(f"{site.mb:9,.1f} MB  {site.share:5.1f} %  {site.inner}{by}")
    return "".join(f"{line}\n" for line in lines)
