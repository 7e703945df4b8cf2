"""Files that several chunks saved under one name: which of them one process would have left.

One process saves in the order in which it processes image sets, that of the ImageNumbers unless the
list itself numbers its groups; so the file of the last image set stays; or of
the first, where SaveImages must not overwrite. Chunks finish in any order, and each keeps what it
found in the result under its own file's name; so each content is in the result or kept somewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

from bpcp import imagelist, pipeline, saved
from bpcp.beside import Places
from bpcp.errors import BpcpError, Exit
from bpcp.imagelist import Type
from bpcp.publish import put_back, sha256
from bpcp.saved import Named, Saver
from bpcp.workspace import Json, Planned, Workspace, read_json, verdict

# So many chunks' names are kept in memory.
_CHUNKS = 256


@dataclass(frozen=True)
class Claim:
    """A file that a chunk saved.

    Attributes
    ----------
    sha256 : str
    size : int
        In bytes.
    chunk : str
    first : int
        Place of its first image set in the chunk, 0-based.
    numbers : sequence of int
        The ImageNumbers of the process that saved it, ascending.
    """

    sha256: str
    size: int
    chunk: str
    first: int
    numbers: Sequence[int]


def _parts(
    workspace: Workspace, plan: Sequence[Planned]
) -> Iterator[tuple[Planned, Json, int, Sequence[int]]]:
    """Give the parts of chunks that have a verdict: with their first places, and ImageNumbers."""
    for planned in plan:
        done = verdict(workspace, planned)
        first = workspace.chunk(planned.id).first if done else 0
        for part in done["parts"] if done else ():
            start, end = part["first"] - first, part["last"] - first + 1
            yield planned, part, start, planned.image_numbers[start:end]


def kept(workspace: Workspace, plan: Sequence[Planned]) -> tuple[dict[str, Claim], set[str]]:
    """Give, of each saved file, the claim that counts; and the files of different content.

    Returns
    -------
    dict of str to Claim, set of str
        By path in the result.
    """
    found: dict[str, Claim] = {}
    several: dict[str, list[Claim]] = {}
    for planned, part, start, numbers in _parts(workspace, plan):
        for file in part["files"]:
            claim = Claim(file["sha256"], file["size"], planned.id, start, numbers)
            first = found.setdefault(file["path"], claim)
            if first is not claim:
                several.setdefault(file["path"], [first]).append(claim)
    order = _Order(workspace)
    contested = {path for path, every in several.items() if len({c.sha256 for c in every}) > 1}
    for path in contested:
        found[path] = order.choose(path, several[path])
    return found, contested


def settle(workspace: Workspace, plan: Sequence[Planned]) -> dict[str, str]:
    """Have in the result, of each file that was saved, what one process would have left.

    Returns
    -------
    dict of str to str
        SHA-256 of each saved file, by path.

    Raises
    ------
    BpcpError
        75 where a file is nowhere any more; its chunk runs again.
    """
    files, contested = kept(workspace, plan)
    # whose chunks are gone, or run again, may still stand where another chunk's should
    doubtful = contested.union(files.keys() & (read_json(workspace.superseded) or {}).keys())
    aside = _Aside(workspace)
    for path in sorted(doubtful):
        claim, target = files[path], workspace.analysis / path
        if _is(target, claim):
            continue
        paths = workspace.chunk(claim.chunk)
        source = next((file for file in aside.files(path) if _is(file, claim)), None)
        if source is None:
            paths.done.unlink(missing_ok=True)
            raise BpcpError(
                Exit.STOPPED,
                f"{path} of chunk {claim.chunk} is gone: another chunk saved a file of that name",
                "run the same ./run_analysis_pipeline.sh command again: that chunk runs again",
            )
        try:
            put_back(source, path, workspace.analysis, paths)
        except OSError as error:
            raise BpcpError(
                Exit.CANNOT_CREATE, f"can't write {target}: {error.strerror}", "make room"
            ) from error
    return {path: claim.sha256 for path, claim in files.items()}


def lost(workspace: Workspace, plan: Sequence[Planned]) -> set[str]:
    """Name the chunks whose file counts of those of one name, and is nowhere, by its size."""
    files, contested = kept(workspace, plan)
    aside = _Aside(workspace)
    found = set()
    for path in contested:
        claim = files[path]
        places = (workspace.analysis / path, *aside.files(path))
        if not any(_size(place) == claim.size for place in places):
            found.add(claim.chunk)
    return found


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _is(path: Path, claim: Claim) -> bool:
    return _size(path) == claim.size and sha256(path) == claim.sha256


class _Aside:
    """The files that chunks found where they put their own."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @cached_property
    def _known(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        chunks = self._workspace.chunks
        for chunk in sorted(chunks.iterdir()) if chunks.is_dir() else ():
            home = self._workspace.chunk(chunk.name).replaced
            for file in home.rglob("*") if home.is_dir() else ():
                found.setdefault(str(file.relative_to(home)), []).append(file)
        return found

    def files(self, path: str) -> list[Path]:
        """Give those that stood at a path of the result."""
        found = list(self._known.get(path, ()))
        # where a chunk ran again, it found another one
        n = 2
        while more := self._known.get(f"{path}.{n}"):
            found += more
            n += 1
        return found


class _Order:
    """In which order one process would have saved what chunks did."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        # of some chunks: those of all would be the whole list
        self._written = lru_cache(maxsize=_CHUNKS)(self._names)

    def choose(self, path: str, every: Sequence[Claim]) -> Claim:
        """Give the claim that counts."""
        turns = {id(c): sorted(map(self._turn, c.numbers)) for c in every}
        apart = all(a[-1] < b[0] for a, b in pairwise(sorted(turns.values())))
        # one after the other, or, where a chunk's image sets lie between another's, by their names
        last = {id(c): turns[id(c)][-1] if apart else self._last(path, c) for c in every}
        return (min if self._first_stays else max)(every, key=lambda c: last[id(c)])

    @cached_property
    def _first_stays(self) -> bool:
        modules = pipeline.read(self._workspace.pipeline).named("SaveImages")
        label = "Overwrite existing files without warning?"
        return bool(modules) and all(m.get(label) == "No" for m in modules)

    @cached_property
    def _run(self) -> Json:
        return read_json(self._workspace.run) or {}

    @cached_property
    def _turns(self) -> dict[int, int]:
        return {number: turn for turn, number in enumerate(self._run.get("processed") or (), 1)}

    def _turn(self, number: int) -> int:
        """Tell when an image set is processed, by its ImageNumber."""
        return self._turns.get(number, number)

    @cached_property
    def _savers(self) -> list[Saver]:
        run = self._run
        types = {name: Type[kind] for name, kind in run.get("columns", {}).items()}
        named = run.get("input_folder")
        where = Places(Path(run.get("root", "/")), Path(named) if named else None)
        about = Named(tuple(types), types, int(run.get("image_sets", 0)), where)
        return list(saved.savers(pipeline.read(self._workspace.pipeline), about))

    def _last(self, path: str, claim: Claim) -> int:
        """Tell when the last image set of a claim that writes a file does, as far as is known."""
        names = self._written(claim.chunk, claim.first, tuple(claim.numbers))
        found = names.get(path) or names.get(saved.unnumbered(path))
        return self._turn(found) if found else max(map(self._turn, claim.numbers))

    def _names(self, chunk: str, first: int, numbers: tuple[int, ...]) -> dict[str, int]:
        rows = imagelist.read(self._workspace.chunk(chunk).images).rows[first:]
        image_sets = sorted(zip(numbers, rows, strict=False), key=lambda one: self._turn(one[0]))
        return saved.writers(self._savers, image_sets)
