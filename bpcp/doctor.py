"""Look at everything that a run needs from its machine, and say what to do about what lacks."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

from bpcp import cellprofiler, disks
from bpcp.errors import BpcpError, Exit, Parser, run_main
from bpcp.limits import GB, PROCESS_MEM_GB, Limits, read_limits
from bpcp.probe import answer

State = Literal["ok", "warn", "FAIL"]

ROOT = Path(__file__).resolve().parents[1]
INSTALL = "ami_setup/install.sh"
PROBE = "PYTHON bpcp/probe/modules.py, PYTHON being the one that CellProfiler runs on"

# The JVM starts most of them.
PROCESS_THREADS = 22
# The oldest GNU parallel that bpcp's tests have seen (Ubuntu 22.04).
PARALLEL_OLDEST = 20210822
OPEN_FILES_LEAST = 1024
WORKSPACE_FREE_GB = 10
TMPDIR_FREE_GB = 2
SHM_FREE_GB = 1


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what to do where it is not well.

    Attributes
    ----------
    remedy : str
        Empty where all is well.
    code : Exit
        The exit code that a FAIL asks for.
    """

    name: str
    state: State
    found: str
    remedy: str = ""
    code: Exit = Exit.UNAVAILABLE


@dataclass(frozen=True)
class Answer:
    """What a tool answered: its exit code (None: it could not be started) and its text."""

    code: int | None
    text: str


def ask(argv: Sequence[str]) -> Answer:
    """Run a tool with nothing on its stdin; stdout and stderr come as one text."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer(None, "no answer after 60 s")
    except OSError as error:
        return Answer(None, error.strerror or str(error))
    return Answer(done.returncode, done.stdout)


@dataclass(frozen=True)
class Host:
    """The machine, as the checks see it; tests put another one in its place."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    ask: Callable[[Sequence[str]], Answer] = ask
    which: Callable[[str], str | None] = shutil.which
    installed: Callable[[str], str] = metadata.version
    cellprofiler_command: Callable[[], list[str]] = cellprofiler.command
    cellprofiler_version: Callable[[Sequence[str]], str] = cellprofiler.version
    probed: Callable[[Sequence[str]], answer.Answer | None] = answer.of_command
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    mount_flags: Callable[[Path], int] = lambda path: os.statvfs(path).f_flag
    shm: Path = Path("/dev/shm")  # noqa: S108 -- the RAM disk itself
    lock: Path = ROOT / "ami_setup" / "locks" / "bpcp.txt"
    venv: Path = ROOT / ".venv"


# --- tools ------------------------------------------------------------------------------------


def check_bash(host: Host) -> Finding:
    answer = host.ask(["bash", "-c", 'printf "%s.%s" "${BASH_VERSINFO[@]:0:2}"'])
    version = _numbers(answer.text)
    if answer.code != 0 or not version:
        return Finding("bash", "FAIL", _failed(answer), "install bash 4.4 or later")
    if version < (4, 4):
        return Finding("bash", "FAIL", answer.text, "install bash 4.4 or later, first on PATH")
    return Finding("bash", "ok", answer.text)


def check_parallel(host: Host) -> Finding:
    name = "GNU parallel"
    path = host.which("parallel")
    if path is None:
        return Finding(name, "FAIL", "not on PATH", f"{INSTALL}, or install the package parallel")
    answer = host.ask(["parallel", "--version"])
    match = re.search(r"GNU parallel (\d{8})", answer.text)
    if match is None:
        if "invalid option" in answer.text or "command -- arguments" in answer.text:
            return Finding(
                name,
                "FAIL",
                f"{path} is the parallel of moreutils, another program",
                "install the package parallel (or gnu_parallel), first on PATH",
            )
        return Finding(name, "FAIL", f"{path}: {_failed(answer)}", "install the package parallel")
    if int(match[1]) < PARALLEL_OLDEST:
        return Finding(
            name,
            "FAIL",
            f"{match[1]} ({path})",
            f"install {PARALLEL_OLDEST} or later, first on PATH",
        )
    return Finding(name, "ok", match[1])


def check_tool(host: Host, name: str) -> Finding:
    """Check a tool of util-linux or the like that only has to be there and run."""
    answer = host.ask([name, "--version"])
    if answer.code != 0:
        return Finding(
            name, "FAIL", _failed(answer), f"{INSTALL}, or install the package util-linux"
        )
    return Finding(name, "ok", _first_line(answer.text))


def check_optional(host: Host, name: str, argv: Sequence[str], use: str, remedy: str) -> Finding:
    """Check a tool that only some commands need; `use` says which, after "needed for"."""
    answer = host.ask(argv)
    if answer.code != 0:
        return Finding(name, "warn", f"{_failed(answer)}; needed for {use}", remedy)
    return Finding(name, "ok", _first_line(answer.text))


def check_aws(host: Host) -> Finding:
    own = host.venv / "bpcp" / "bin" / "aws"
    path = host.which("aws") or (str(own) if own.is_file() else "aws")
    return check_optional(host, "aws", [path, "--version"], "buckets (s3://…)", INSTALL)


def check_valgrind(host: Host) -> Finding:
    return check_optional(
        host,
        "valgrind",
        ["valgrind", "--version"],
        "memory profiles",
        f"{INSTALL}, or install the package valgrind",
    )


def check_java(host: Host) -> Finding:
    """Check the Java that reads CellProfiler's images: `JAVA_HOME`'s, else the one on PATH."""
    for variable in ("CP_JAVA_HOME", "JAVA_HOME"):
        home = host.environ.get(variable)
        if home is not None:
            java = Path(home) / "bin" / "java"
            if not java.is_file():
                return Finding(
                    "Java",
                    "FAIL",
                    f"{variable} names {home}, where there is no bin/java",
                    f"unset {variable}, or correct it",
                    Exit.BAD_SETTING,
                )
            break
    answer = host.ask(["java", "-version"])
    if answer.code != 0:
        remedy = f"{INSTALL}, or install a Java runtime, version 17, and put it on PATH"
        return Finding("Java", "FAIL", _failed(answer), remedy)
    lines = [line for line in answer.text.splitlines() if not line.startswith("Picked up ")]
    return Finding("Java", "ok", _first_line("\n".join(lines)))


# --- Python and CellProfiler ------------------------------------------------------------------


def read_lock(text: str) -> dict[str, str]:
    """Read the pins of a lock file: version by package name."""
    pins = [line.split("==", 1) for line in text.splitlines() if re.match(r"[^#\s]+==", line)]
    return {name: version.strip() for name, version in pins}


def check_packages(host: Host) -> Finding:
    name = "bpcp's packages"
    try:
        pins = read_lock(host.lock.read_text(encoding="utf-8"))
    except OSError as error:
        remedy = "get a whole copy of bpcp: part of it is missing"
        return Finding(name, "FAIL", f"{host.lock}: {error.strerror}", remedy)
    wrong = []
    for package, pinned in pins.items():
        try:
            version = host.installed(package)
        except metadata.PackageNotFoundError:
            wrong.append(f"{package} is missing")
            continue
        if version != pinned:
            wrong.append(f"{package} {version}, not {pinned}")
    if wrong:
        return Finding(name, "FAIL", _some(wrong), f"rm -r {host.venv / 'bpcp'}; {INSTALL}")
    return Finding(name, "ok", f"{len(pins)}, all as pinned")


def check_cellprofiler(host: Host) -> list[Finding]:
    """Check the CellProfiler in use and, where it is a plain one, the Python that it lives in."""
    try:
        argv = host.cellprofiler_command()
        version = host.cellprofiler_version(argv)
    except BpcpError as error:
        # a version that can't be had sends people here, so the remedy must not do so too
        remedy = INSTALL if error.todo in ("", "bpcp doctor") else error.todo
        code = error.code if error.code == Exit.BAD_SETTING else Exit.UNAVAILABLE
        return [Finding("CellProfiler", "FAIL", str(error), remedy, code)]
    findings = [Finding("CellProfiler", "ok", f"{version} ({' '.join(argv)})")]
    python = cellprofiler.python_of(argv, host.which)
    if python is None:
        found = "not tried: a container or a wrapper, whose Python can't be asked"
        return [*findings, Finding("its modules", "ok", found)]
    answer = host.ask([python, "-c", 'import sys; print("%d.%d.%d" % sys.version_info[:3])'])
    numbers = _numbers(answer.text)
    if answer.code == 0 and numbers >= (3, 12):
        findings.append(
            Finding(
                "its Python",
                "warn",
                f"{answer.text.strip()}: some values differ (ties in Location_MaxIntensity)",
                "for results that must agree with other labs, use Python 3.9 to 3.11: "
                f"{INSTALL} --python PYTHON",
            )
        )
    elif answer.code == 0:
        findings.append(Finding("its Python", "ok", answer.text.strip()))
    answer = host.ask([python, "-c", "import MySQLdb"])
    if answer.code == 0:
        findings.append(Finding("its MySQLdb", "ok", "imports"))
    else:
        findings.append(
            Finding(
                "its MySQLdb",
                "warn",
                f"{_last_line(answer.text)}; ExportToDatabase fails without it, even for SQLite",
                "install mysqlclient==1.4.6 where that CellProfiler is",
            )
        )
    return [*findings, check_modules(host, argv)]


def check_modules(host: Host, argv: Sequence[str]) -> Finding:
    """Say which modules do not work on the CellProfiler in use; the rest of it is of use still."""
    known = host.probed(argv)
    if known is None:
        return Finding("its modules", "warn", "could not be tried", f"see: {PROBE}")
    found = f"{known.modules} in {known.modes} modes: {answer.summary(known)}"
    if not known.broken:
        return Finding("its modules", "ok", found)
    remedy = f"{INSTALL} --python python3.9; bpcp check refuses a pipeline that needs one of these"
    return Finding("its modules", "warn", found, remedy)


# --- room -------------------------------------------------------------------------------------


def check_cores(limits: Limits) -> Finding:
    parts = []
    if limits.cores_allowed < limits.cores_seen:
        parts.append(f"affinity allows {limits.cores_allowed}")
    if limits.cpu_quota is not None and limits.cpu_quota < limits.cores_allowed:
        parts.append(f"the container's quota is {limits.cpu_quota:.1f}")
    found = f"{limits.cores} of {limits.cores_seen}" + "".join(f", {part}" for part in parts)
    return Finding("cores", "ok", found)


def check_memory(limits: Limits) -> Finding:
    """Compare the memory that is free with one process on each core."""
    fits = int(limits.mem_free_gb / PROCESS_MEM_GB)
    found = (
        f"{limits.mem_free_gb:.1f} GB free: room for {fits} processes of {PROCESS_MEM_GB} GB, "
        f"{limits.cores} cores"
    )
    if fits < limits.cores:
        remedy = f"run at most {max(1, fits)} at a time, or use a machine with more memory"
        return Finding("memory", "warn", found, remedy)
    return Finding("memory", "ok", found)


def check_tasks(limits: Limits) -> Finding:
    need = limits.cores * (PROCESS_THREADS + 8) + 100
    if limits.tasks is None:
        return Finding("processes", "ok", "no limit")
    if limits.tasks < need:
        return Finding(
            "processes",
            "warn",
            f"at most {limits.tasks} processes and threads; {limits.cores} cores need about {need}",
            f"ulimit -u {need * 2} (or the container's pids limit), or run fewer at a time",
        )
    return Finding("processes", "ok", f"at most {limits.tasks}")


def check_open_files(limits: Limits) -> Finding:
    if limits.open_files is None:
        return Finding("open files", "ok", "no limit")
    if limits.open_files < OPEN_FILES_LEAST:
        return Finding("open files", "warn", f"at most {limits.open_files}", "ulimit -n 4096")
    return Finding("open files", "ok", f"at most {limits.open_files}")


def check_workspace(host: Host, folder: Path) -> Finding:
    name = "disk at workspace"
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding(
            name,
            "FAIL",
            f"{folder}: no permission to write",
            "name a workspace of yours: bpcp doctor DIR",
            Exit.BAD_SETTING,
        )
    free_gb = host.free_bytes(folder) / GB
    found = f"{free_gb:.1f} GB free at {folder}"
    if free_gb < WORKSPACE_FREE_GB:
        return Finding(name, "warn", found, "make room, or name a workspace on another disk")
    return Finding(name, "ok", found)


def check_tmpdir(host: Host) -> Finding:
    """Check the folder for temporary files; where it is full, CellProfiler aborts."""
    name = "TMPDIR"
    folder = Path(host.environ.get("TMPDIR") or "/tmp")  # noqa: S108 -- what mktemp falls back to
    trouble = _unwritable(folder)
    if trouble:
        return Finding(
            name, "FAIL", trouble, "export TMPDIR=FOLDER that you can write to", Exit.BAD_SETTING
        )
    free_gb = host.free_bytes(folder) / GB
    found = f"{free_gb:.1f} GB free at {folder}"
    if host.mount_flags(folder) & os.ST_NOEXEC:
        return Finding(
            name,
            "warn",
            f"{found}, mounted noexec: Java can't load the libraries that it unpacks there",
            "export TMPDIR=FOLDER on a disk without noexec",
        )
    if free_gb < TMPDIR_FREE_GB:
        return Finding(name, "warn", found, "export TMPDIR=FOLDER on a larger disk")
    return Finding(name, "ok", found)


def check_shm(host: Host, folder: Path) -> Finding:
    """Check the RAM disk that everybody may use, and say whether one would help at a workspace."""
    name = "RAM disk"
    trouble = _unwritable(host.shm)
    if trouble:
        return Finding(name, "warn", trouble, "runs work without it, on TMPDIR")
    free_gb = host.free_bytes(host.shm) / GB
    mount = disks.mount_of(folder)
    helps = disks.advice(mount, disks.model_of(mount))
    found = f"{free_gb:.1f} GB free at {host.shm}; {helps}"
    if free_gb < SHM_FREE_GB:
        remedy = "give the container more (docker run --shm-size 4g), or empty it"
        return Finding(name, "warn", found, remedy)
    return Finding(name, "ok", found)


def check_locale(host: Host) -> Finding:
    """Check that names beyond ASCII survive; `locale` sees through one that isn't installed."""
    names = [host.environ.get(key) for key in ("LC_ALL", "LC_CTYPE", "LANG")]
    named = next(filter(None, names), "not set")
    answer = host.ask(["locale", "charmap"])
    charmap = _last_line(answer.text) if answer.code == 0 else ""
    if not charmap:
        charmap = "UTF-8" if re.search(r"utf-?8", named, re.I) else "unknown"
    if charmap.upper().replace("-", "") != "UTF8":
        return Finding(
            "locale",
            "warn",
            f"{named} ({charmap}): file names beyond ASCII may break",
            "export LC_ALL=C.UTF-8",
        )
    return Finding("locale", "ok", f"{named} ({charmap})")


# --- words ------------------------------------------------------------------------------------


def _numbers(text: str) -> tuple[int, ...]:
    match = re.match(r"\s*(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _last_line(text: str) -> str:
    return _first_line("\n".join(reversed(text.splitlines())))


def _failed(answer: Answer) -> str:
    if answer.code is None:
        return answer.text
    return _last_line(answer.text) or f"exit code {answer.code}"


def _some(items: Sequence[str], at_most: int = 4) -> str:
    more = len(items) - at_most
    return "; ".join(items[:at_most]) + (f"; and {more} more" if more > 0 else "")


def _unwritable(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is not a folder"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"{folder}: {error.strerror}"


# --- the command ------------------------------------------------------------------------------


def examine(host: Host, limits: Limits, folder: Path) -> list[Finding]:
    """Run every check.

    Parameters
    ----------
    folder : Path
        The workspace; it exists.
    """
    return [
        check_bash(host),
        check_parallel(host),
        check_tool(host, "flock"),
        check_tool(host, "setpriv"),
        check_packages(host),
        *check_cellprofiler(host),
        check_java(host),
        check_aws(host),
        check_valgrind(host),
        check_cores(limits),
        check_memory(limits),
        check_workspace(host, folder),
        check_tmpdir(host),
        check_shm(host, folder),
        check_open_files(limits),
        check_tasks(limits),
        check_locale(host),
    ]


def exit_code(findings: Iterable[Finding]) -> Exit:
    """Give 0 where nothing failed; a missing tool goes before a bad setting."""
    codes = {finding.code for finding in findings if finding.state == "FAIL"}
    if not codes:
        return Exit.OK
    return Exit.UNAVAILABLE if Exit.UNAVAILABLE in codes else min(codes)


def as_text(findings: Sequence[Finding]) -> str:
    """Lay the findings out for people; every line ends with a newline."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<4}  {finding.name:<{width}}  {finding.found}\n")
        if finding.remedy:
            lines.append(f"      → {finding.remedy}\n")
    return "".join(lines)


def as_json(findings: Sequence[Finding]) -> str:
    """Give the findings as a JSON list of objects: name, state, found, remedy."""
    rows = [asdict(finding) for finding in findings]
    for row in rows:
        del row["code"]
    return json.dumps(rows, ensure_ascii=False, indent=2) + "\n"


def main(argv: Sequence[str], host: Host | None = None) -> int:
    parser = Parser("doctor")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("folder", metavar="DIR", nargs="?", type=Path, default=Path())
    options = parser.parse_args(argv)
    folder: Path = options.folder
    if not folder.is_dir():
        raise BpcpError(Exit.NO_INPUT, f"{folder}: no such folder", "name an existing folder")
    if host is None:
        venv = os.environ.get("BPCP_VENV")
        host = Host(venv=Path(venv)) if venv else Host()
    findings = examine(host, read_limits(), folder.resolve())
    print((as_json if options.json else as_text)(findings), end="", flush=True)
    return int(exit_code(findings))


if __name__ == "__main__":
    run_main("doctor", main)
