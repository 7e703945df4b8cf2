"""The one place that starts CellProfiler: which one, with what environment and arguments."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path

from bpcp import failure
from bpcp.errors import BpcpError, Exit, run_main

# One library thread for each process: GNU parallel fills the cores, and the last digits of a
# result depend on how many threads BLAS used. PYTHONHASHSEED: CellProfiler keeps the names of its
# relationships in a set, and writes object relationships in that set's order.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "MPLBACKEND": "Agg",
}
# The JVM only reads images; its parallel collectors and its second compiler take a thread for each
# core of the machine, in each process, and give nothing back here. Its young generation would grow
# with the machine's memory, to 1 GB for each process where that is 192 GB.
JVM_OPTIONS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmn24m"

# What CellProfiler logs when a module is done with an image set.
MODULE_DONE = r": Image # (\d+), module (\S+) # (\d+): CPU_time"
_MODULE_DONE = re.compile(MODULE_DONE.encode())
# Source: cellprofiler_core 4.2.8.1, utilities/hdf5_dict.py (__getitem__).
_UNCOUNTED = re.compile(rb"AssertionError: Feature Count_(.+) for Image does not exist\s*$")

_TRACEBACK = re.compile(r"^(?=Traceback \(most recent call last\):$)", re.MULTILINE)
# Some have no words.
_ERROR = re.compile(r"^[\w.]*(?:Error|Exception)(?:: .*)?$", re.MULTILINE)
# The lines before tracebacks: of a pipeline, and of what CellProfiler goes on without.
_NOT_LOADED = "Failed to load pipeline"
_LEFT_OUT = re.compile(
    r"(?:Could not load|Failed to load(?! pipeline$)) (\S+)$|(MySQL) could not be"
)
# The file of the module that raised an error, one of CellProfiler's or a plugin, and what stands
# before its name in the answer.
_MODULE_FILE = re.compile(
    r'File "(?:.*[/\\]modules|(?:(?!site-packages|cellprofiler_core).)*)[/\\]([a-z0-9]\w*)\.py"'
)
OF_MODULE = ", in "
# What stands between the words about a module that is lacking and the reason, where that is known.
DOES_NOT_LOAD = ", which does not load: "
_LACKING = re.compile(r"Could not find the (\w+) module")

# Reads a pipeline and saves it as CellProfiler does today; where that would be read otherwise, as
# notes with quotes are, or where it does not load, nothing.
_SAVE = """\
import io, logging, sys
logging.disable(logging.CRITICAL)
from cellprofiler_core.preferences import set_headless, set_plugin_directory
set_headless()
if sys.argv[3:]:
    set_plugin_directory(sys.argv[3], globally=False)
import cellprofiler_core.modules
from cellprofiler_core.pipeline import LoadException, Pipeline
def saved(source):
    pipeline, out, failed = Pipeline(), io.StringIO(), []
    pipeline.add_listener(lambda p, event: isinstance(event, LoadException) and failed.append(1))
    pipeline.load(source)
    pipeline.dump(out)
    return "" if failed else out.getvalue()
text = saved(sys.argv[1])
if text and saved(io.StringIO(text)) == text:
    with open(sys.argv[2], "w", encoding="utf-8", newline="") as file:
        file.write(text)
"""
# CellProfiler's own option.
PLUGINS_DIRECTORY = "--plugins-directory"

# Beyond any real image set: CellProfiler lists the measurements, finds no image set, and ends.
_NO_IMAGE_SET = "999999999"


@dataclass(frozen=True)
class Job:
    """What one CellProfiler process is asked to do.

    Attributes
    ----------
    pipeline : Path
        The .cppipe file, or a batch file, which holds its image sets.
    image_list : Path or None
        The LoadData CSV; None with a batch file.
    first, last : int
        The image sets to run, 1-based and inclusive, in the numbering of what it reads.
    output, tmpdir, done_file : Path
        The default output folder, the folder for temporary files, and the file that CellProfiler
        writes its one word into when it ends by itself.
    input_folder : Path or str, optional
        The Default Input Folder; by itself CellProfiler takes the home folder.
    """

    pipeline: Path
    image_list: Path | None
    first: int
    last: int
    output: Path
    tmpdir: Path
    done_file: Path
    input_folder: Path | str | None = None


def command(environ: Mapping[str, str] = os.environ, plugins: Path | None = None) -> list[str]:
    """Find the CellProfiler in use.

    Parameters
    ----------
    plugins : Path, optional
        A folder of plugins, besides those that it knows of by itself.

    Returns
    -------
    list of str
        The start of an argument list: `BPCP_CELLPROFILER` where it is set (a file, or a command
        with arguments, quoted as a shell would), else the one that ami_setup/install.sh made.

    Raises
    ------
    BpcpError
        69 where there is none, 78 where `BPCP_CELLPROFILER` can't be read.
    """
    found = _installed(environ)
    # of two, CellProfiler takes the last
    return [*found, PLUGINS_DIRECTORY, str(plugins)] if plugins else found


def _installed(environ: Mapping[str, str]) -> list[str]:
    named = environ.get("BPCP_CELLPROFILER", "").strip()
    if named:
        if Path(named).is_file():
            return [named]
        try:
            words = shlex.split(named)
        except ValueError as error:
            raise BpcpError(
                Exit.BAD_SETTING, f"BPCP_CELLPROFILER can't be read ({error}): {named}"
            ) from None
        if shutil.which(words[0]) is None:
            raise BpcpError(
                Exit.UNAVAILABLE,
                f"BPCP_CELLPROFILER names a command that is not there: {words[0]}",
                "name another one, or unset it to use the one that ami_setup/install.sh makes",
            )
        return words
    venv = Path(environ.get("BPCP_VENV") or Path(__file__).parents[1] / ".venv")
    installed = venv / "cellprofiler" / "bin" / "cellprofiler"
    if not installed.is_file():
        raise BpcpError(
            Exit.UNAVAILABLE,
            f"CellProfiler is not installed: {installed} is missing",
            "ami_setup/install.sh, or name one: BPCP_CELLPROFILER=COMMAND",
        )
    return [str(installed)]


def environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give the environment in which every CellProfiler process runs."""
    own = {
        k: v for k, v in environ.items() if k not in ("PYTHONPATH", "DISPLAY", "WAYLAND_DISPLAY")
    }
    java = " ".join(filter(None, (JVM_OPTIONS, environ.get("JAVA_TOOL_OPTIONS", ""))))
    return {**own, **ONE_THREAD, "JAVA_TOOL_OPTIONS": java}


def arguments(job: Job) -> list[str]:
    """Give CellProfiler's arguments for a job."""
    return [
        "-c",
        "-r",
        "-p",
        str(job.pipeline),
        *(["--data-file", str(job.image_list)] if job.image_list else []),
        *_input_folder(job.input_folder),
        "-f",
        str(job.first),
        "-l",
        str(job.last),
        "-o",
        str(job.output),
        "-t",
        str(job.tmpdir),
        "-d",
        str(job.done_file),
    ]


def _input_folder(folder: Path | str | None, *, lists_files: bool = False) -> list[str]:
    """Give the arguments that name the Default Input Folder, and nothing else.

    By `-i` alone CellProfiler walks the whole tree for images, also where LoadData needs none of
    them; given a list of files, it takes the files of the list instead, and an empty one will do.

    Parameters
    ----------
    lists_files : bool
        Whether there is a `--file-list` already.

    Source: CellProfiler 4.2.8.1, __main__.py (run_pipeline_headless).
    """
    if not folder:
        return []
    return ["-i", str(folder), *([] if lists_files else ["--file-list", os.devnull])]


def version(argv: Sequence[str], timeout_s: float = 120) -> str:
    """Ask a CellProfiler for its version, e.g. "4.2.8.1".

    Raises
    ------
    BpcpError
        69 where it does not start or answers something else.
    """
    done = _ask([*argv, "--version"], timeout_s)
    lines = done.stdout.split()
    if done.returncode != 0 or not lines or not lines[-1][:1].isdigit():
        raise BpcpError(
            Exit.UNAVAILABLE,
            f"{shlex.join(argv)} --version: no version ({_tail(done)})",
            "bpcp doctor",
        )
    return lines[-1]


def python_of(argv: Sequence[str], which: Callable[[str], str | None] = shutil.which) -> str | None:
    """Find the Python that a CellProfiler command runs on; None for a container or a wrapper."""
    first = which(argv[0])
    if first is None:
        return None
    if re.fullmatch(r"python[0-9.]*", Path(first).name):
        return first
    beside = Path(first).parent / "python"
    if Path(first).name == "cellprofiler" and beside.is_file():
        # /usr/local/bin/cellprofiler may well be a wrapper beside some other Python
        with Path(first).open("rb") as script:
            if str(beside.parent).encode() in script.read(400):
                return str(beside)
    return None


def python_version(argv: Sequence[str]) -> str:
    """Give the version of the Python that a CellProfiler runs on, e.g. "3.11"; "" if unknown.

    Some of CellProfiler's values depend on it, and on ami_setup/bpcp_skimage.py, if that is in it:
    then "3.11 with layer 0123abcd".
    """
    python = python_of(argv)
    if python is None:
        return ""
    code = """\
import sys
layer = sys.modules.get("bpcp_skimage")
state = layer.identity() if layer else ""
print("%d.%d" % sys.version_info[:2] + (" with layer " + state if state else ""))
"""
    return _ask([python, "-I", "-c", code], 30).stdout.strip()


def finished_in(log: str, last_module: int, at: int = 0, count: int = 0) -> tuple[int, int]:
    """Count the image sets that an attempt has finished, from CellProfiler's log.

    Parameters
    ----------
    at, count : int
        What the last call gave: how far the log was read, in bytes, and how many there were.
    """
    try:
        with Path(log).open("rb") as file:
            file.seek(at)
            while (line := file.readline()).endswith(b"\n"):
                at += len(line)
                found = _MODULE_DONE.search(line)
                count += bool(found and int(found[3]) == last_module)
    except FileNotFoundError:
        pass
    return at, count


@dataclass(frozen=True)
class Course:
    """How far a process came, by CellProfiler's log.

    Attributes
    ----------
    reached : dict of int to int
        By image set, the module that was done with it last; not of those in which a module failed.
    uncounted : tuple of str
        Objects of which ExportToSpreadsheet found no Count_, and gave up: no image set came as far
        as the module that makes them.
    """

    reached: Mapping[int, int] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()


def course_of(log: Path) -> Course:
    """Read how far a process came."""
    reached: dict[int, int] = {}
    failed: set[int] = set()
    uncounted, ends_badly, fails = [], 0, False
    try:
        with log.open("rb") as file:
            for line in file:
                if done := _MODULE_DONE.search(line):
                    # its line stands behind the traceback
                    reached[int(done[1])] = int(done[3])
                    failed |= {int(done[1])} if fails else set()
                    fails = False
                elif line.startswith(b"Error detected during run of module"):
                    fails = True
                elif line.startswith(b"Failed to complete post_run processing for module"):
                    ends_badly += 1
                elif objects := _UNCOUNTED.match(line):
                    uncounted.append(objects[1].decode("utf-8", "replace"))
    except FileNotFoundError:
        pass
    return Course(
        {n: module for n, module in reached.items() if n not in failed},
        tuple(uncounted) if ends_badly == len(uncounted) else (),
    )


def make_batch_file(
    argv: Sequence[str],
    pipeline: Path,
    inputs: Sequence[str],
    output: Path,
    tmpdir: Path,
    cwd: Path,
    input_folder: Path | None = None,
) -> str:
    """Let a pipeline's CreateBatchFiles module write what it has to, and say what went wrong.

    Parameters
    ----------
    inputs : sequence of str
        How the images are named: `--file-list FILE`, `--data-file FILE`, or nothing for a project.
    output : Path
        Where Batch_data.h5 will be.

    Returns
    -------
    str
        What CellProfiler said was wrong, for where the file is not there or holds nothing: its exit
        code is 1 also where all went well.
    """
    folders = ["-o", str(output), "-t", str(tmpdir)]
    # may take minutes; ends with this process, however this process ends
    bound = ["setpriv", "--pdeathsig", "KILL", "--"]
    looks_in = _input_folder(input_folder, lists_files="--file-list" in inputs)
    words = ["-c", "-r", "-p", str(pipeline), *inputs, *looks_in, *folders]
    done = _ask([*bound, *argv, *words], None, cwd)
    return _cause(done)


def measurements(
    argv: Sequence[str],
    pipeline: Path,
    image_list: Path | None,
    scratch: Path,
    input_folder: Path | None = None,
    timeout_s: float = 600,
) -> list[tuple[str, str]]:
    """Ask CellProfiler which measurements a pipeline makes; this also proves that it loads.

    Parameters
    ----------
    image_list : Path or None
        A LoadData CSV: one row of each type is enough. None where the pipeline reads none.
    scratch : Path
        An existing folder, for what CellProfiler writes by the way.

    Returns
    -------
    list of (str, str)
        Object ("Image", "Experiment", "Nuclei" …) and feature, in the pipeline's order.

    Raises
    ------
    BpcpError
        65 where the pipeline does not load: an unknown module, a plugin that is missing.
    """
    done = _ask(
        [
            *argv,
            "-c",
            "-p",
            str(pipeline),
            *(["--data-file", str(image_list)] if image_list else []),
            *_input_folder(input_folder),
            "--measurements",
            "-f",
            _NO_IMAGE_SET,
            "-l",
            _NO_IMAGE_SET,
            "-o",
            str(scratch),
            "-t",
            str(scratch),
        ],
        timeout_s,
    )
    lines = done.stdout.splitlines()
    try:
        first = lines.index("Object,Feature,Type") + 1
        last = lines.index("--- end measurements ---")
    except ValueError:
        _refuse_killed(done)
        raise BpcpError(
            Exit.MALFORMED_INPUT,
            f"CellProfiler can't load {pipeline}: {_cause(done)}",
            f"open it in CellProfiler, or see: bpcp cellprofiler -c -p {shlex.quote(str(pipeline))}"
            " --measurements",
        ) from None
    found = [line.split(",") for line in lines[first:last]]
    return [(words[0], words[1]) for words in found]


def errors_by_image_set(
    argv: Sequence[str], pipeline: Path, image_list: Path, scratch: Path, timeout_s: float
) -> list[str]:
    """Run a pipeline of one module over all image sets, and give each one's last error, or "".

    Source: its log, which says after each image set which module is done with it; see MODULE_DONE.
    """
    done = _ask(
        [
            *argv, "-c", "-r", "-p", str(pipeline), "--data-file", str(image_list),
            "-o", str(scratch), "-t", str(scratch), "--always-continue",
        ],
        timeout_s,
    )  # fmt: skip
    found, error = [], ""
    for line in done.stderr.splitlines():
        if _ERROR.match(line):
            error = line.strip()
        elif re.search(MODULE_DONE, line):
            found.append(error)
            error = ""
    return found


def saved(argv: Sequence[str], pipeline: Path, scratch: Path, timeout_s: float = 120) -> str | None:
    """Give a pipeline as CellProfiler saves it: all settings as they are called and read today.

    Parameters
    ----------
    scratch : Path
        An existing folder, for what CellProfiler writes by the way.

    Returns
    -------
    str, or None
        None where it does not load, or where nobody knows on which Python CellProfiler runs.
    """
    python = python_of(argv)
    if python is None:
        return None
    target = scratch / "saved.cppipe"
    named = [b for a, b in pairwise(argv) if a == PLUGINS_DIRECTORY][-1:]
    _ask([python, "-c", _SAVE, str(pipeline), str(target), *named], timeout_s, scratch)
    return target.read_text(encoding="utf-8") if target.is_file() else None


def _ask(
    argv: Sequence[str], timeout_s: float | None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BpcpError(
            Exit.UNAVAILABLE,
            f"{shlex.join(argv)}: no answer after {timeout_s:.0f} s",
            "bpcp doctor",
        ) from None
    except OSError as error:
        raise BpcpError(Exit.UNAVAILABLE, f"{argv[0]}: {error.strerror}", "bpcp doctor") from None


def _refuse_killed(done: subprocess.CompletedProcess[str]) -> None:
    """Refuse the answer of a CellProfiler that crashed, or that somebody ended.

    Raises
    ------
    BpcpError
        75: it says nothing of the pipeline.
    """
    if number := failure.signal_behind(done.returncode):
        raise BpcpError(
            Exit.STOPPED,
            f"CellProfiler was ended by {failure.of_signal(number)} while it loaded the pipeline:"
            f" {_tail(done)}",
            "run the same command again; where it comes again, memory may be short: bpcp doctor",
        )


def _cause(done: subprocess.CompletedProcess[str]) -> str:
    """Give the first error of the traceback that tells why CellProfiler stopped.

    What follows in it is only about having met that. CellProfiler goes on without a plugin, and
    without mysqlclient, that it can't import: such an error counts where there is no other, or
    where the module that it then lacks is that plugin's.

    Source: cellprofiler_core 4.2.8.1, pipeline/_pipeline.py (setup_modules) and
    utilities/core/modules/__init__.py (fill_modules); seen with plugins that fail.
    """
    loading: list[str] = []
    others: list[str] = []
    # of what it went on without, by name in small letters
    without: dict[str, list[str]] = {}
    errors, head, module = others, "", ""
    for part in _TRACEBACK.split(done.stderr):
        # with an empty line before it, it goes on from the last one
        if left_out := _LEFT_OUT.match(head):
            errors = without.setdefault((left_out[1] or left_out[2]).casefold(), [])
        elif head:
            errors = loading if head == _NOT_LOADED else others
        if errors is loading and not loading and (at := _MODULE_FILE.findall(part)):
            module = f"{OF_MODULE}{at[-1]}"
        errors += (line.strip() for line in _ERROR.findall(part))
        head = (part.splitlines() or [""])[-1].strip()
    found = next(chain(loading, others, *without.values()), "")
    lacking = _LACKING.search(found)
    why = without.get(lacking[1].casefold(), []) if lacking else []
    return f"{found}{DOES_NOT_LOAD}{why[0]}" if why else found + module if found else _tail(done)


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Picked up JAVA_TOOL_OPTIONS")]
    return lines[-1] if lines else f"exit code {done.returncode}, no message"


def main(argv: Sequence[str]) -> int:
    """Become CellProfiler, just as a run would start it."""
    words = [*command(), *argv]
    os.execvpe(words[0], words, environment())  # noqa: S606 -- an argument list, no shell


if __name__ == "__main__":
    run_main("cellprofiler", main)
