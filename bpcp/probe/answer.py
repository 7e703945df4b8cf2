"""What does not work on the CellProfiler in use: the probe's answer, kept for the next question.

ami_setup/install.sh asks at its end, and keeps the answer beside the environment; any other
CellProfiler is asked on first use, and the answer is in the user's cache. It holds for the identity
that it names: the versions of what CellProfiler runs on, and the probe's own text.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpcp import cellprofiler
from bpcp.errors import BpcpError

PROGRAM = Path(__file__).with_name("modules.py")
# About a minute on a free core.
TIMEOUT_S = 1200
NAME = "bpcp-probe.json"


@dataclass(frozen=True)
class Broken:
    """A module that does not work with some settings.

    Attributes
    ----------
    kind : str
        The images that it was tried on: "2-D", "3-D", or "any" where it does not even load.
    when : tuple of ((str, int), str)
        A setting's label, which of those with this label it is, from 0, and its value, or a range
        of numbers, as "2..6"; none where it works with no settings at all.
    error : str
        The exception, in Python's words.
    """

    module: str
    kind: str
    when: tuple[tuple[tuple[str, int], str], ...]
    error: str

    def settings(self) -> str:
        """Name the settings for people; "" where it works with none."""
        return ", ".join(f"{label}: {value}" for (label, _), value in self.when)


@dataclass(frozen=True)
class Answer:
    """What the probe found.

    Attributes
    ----------
    versions : dict of str to str
        By "python" and the names of packages.
    modules, modes : int
        How many were run.
    broken : tuple of Broken
    """

    versions: dict[str, str]
    modules: int
    modes: int
    broken: tuple[Broken, ...]

    def runs_on(self) -> str:
        """Name what matters most: Python and scikit-image."""
        parts = [("Python", "python"), ("scikit-image", "scikit-image"), ("numpy", "numpy")]
        return ", ".join(f"{word} {self.versions.get(name, '')}" for word, name in parts)


def of_json(known: Any) -> Answer:
    """Read an answer as the probe writes it."""
    return Answer(
        dict(known["identity"]),
        known["modules"],
        known["modes"],
        tuple(
            Broken(
                found["module"],
                found["kind"],
                tuple(((label, at), value) for (label, at), value in found["when"]),
                found["error"],
            )
            for found in known["broken"]
        ),
    )


def of_command(argv: Sequence[str], *, installing: bool = False) -> Answer | None:
    """Give what is known of a CellProfiler; asks it where nothing is known, about a minute.

    Parameters
    ----------
    installing : bool
        Whether this is its installation: the answer is kept beside the environment.

    Returns
    -------
    Answer or None
        None where it can't be asked: its Python is unknown (a container, a wrapper), or the probe
        does not end well on it. Nothing is claimed of such a CellProfiler.
    """
    python = cellprofiler.python_of(argv)
    if python is None:
        return None
    try:
        identity = _asked(python, ["--identity"], 60)
        beside, cached = Path(python).parent.parent / NAME, _cached(python, identity)
        known = _read(beside, identity) or (None if installing else _read(cached, identity))
        if known is None:
            if not installing:
                print(
                    "bpcp: trying each module of this CellProfiler, once, about a minute …",
                    file=sys.stderr,
                    flush=True,
                )
            known = _asked(python, [], TIMEOUT_S)
            _keep(beside if installing else cached, known)
        return of_json(known)
    except (OSError, RuntimeError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None


def of_this() -> Answer | None:
    """Give what is known of the CellProfiler in use; None where there is none either."""
    try:
        argv = cellprofiler.command()
    except BpcpError:
        # who needs it says so
        return None
    return of_command(argv)


def summary(found: Answer, at_most: int = 6) -> str:
    """Say in a line what does not work."""
    if not found.broken:
        return "all work"
    parts: dict[str, list[str]] = {}
    for broken in found.broken:
        part = f" ({where})" if (where := broken.settings()) else ""
        parts.setdefault(f"{broken.module}{part}", []).append(broken.kind)
    names = [f"{name} in 3-D" if kinds == ["3-D"] else name for name, kinds in parts.items()]
    more = f"; and {len(names) - at_most} more" if len(names) > at_most else ""
    return f"does not work: {'; '.join(names[:at_most])}{more}"


def _asked(python: str, words: Sequence[str], timeout_s: float) -> Any:
    done = subprocess.run(
        [python, str(PROGRAM), *words],
        env=cellprofiler.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=timeout_s,
        check=True,
    )
    return json.loads(done.stdout)


def _cached(python: str, identity: Any) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    text = json.dumps([python, identity], sort_keys=True)
    return Path(cache) / "bpcp" / "probe" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _read(path: Path, identity: Any) -> Any:
    """Read a kept answer; None where there is none that holds for this identity."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return known if known["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(path: Path, known: Any) -> None:
    """Keep an answer, where that can be; else it is asked for again the next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(known, file, indent=1)
        os.chmod(file.name, 0o644)  # noqa: PTH101 -- others use this environment, too
        os.replace(file.name, path)  # noqa: PTH105
    except OSError:
        pass
