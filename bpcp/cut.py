"""Cut an image list into chunks: pure functions of the list, the pipeline and what is asked for.

A chunk is named and judged by its content: its rows, how the whole list types them, and the recipe
by which they are run. Its place in the list is no part of it, for ImageNumbers are restored by the
merge; so a list that grew, shrank or was sorted anew costs only the image sets that changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from bpcp import binding, imagelist, pipeline
from bpcp.imagelist import ImageList, Row, Type, row_text
from bpcp.imagesets import ImageSets

# A process costs about 3 s before its first image set, and what one bad image can drag along is a
# chunk: so neither a handful of image sets, nor hundreds.
CHUNK_SIZE = 24


@dataclass(frozen=True)
class Cut:
    """A list and where it is cut.

    Attributes
    ----------
    images : ImageList
        The rows in the order of their ImageNumbers.
    types : tuple of Type
        Of each column, over the whole list.
    groups : list of tuple of str
        The group of each row; rows of one group stand in one chunk.
    bonds : list of tuple of str
        What the pipeline itself holds together: rows of one bond can't be parted even where one
        of them fails. At least as fine as the groups.
    own : list of tuple of str
        The group that CellProfiler puts each row into; one for all where the pipeline has none.
    batched : bool
        Whether image sets stand in a batch file: a process reads its own and nothing of the others.
    beside : tuple of tuple of str
        Rows by which columns are typed as well, though they are not run.
    """

    images: ImageList
    types: tuple[Type, ...]
    groups: list[Row]
    bonds: list[Row]
    own: list[Row]
    batched: bool = False
    beside: tuple[Row, ...] = ()


def order(sets: ImageSets, pipe: pipeline.Pipeline, group_by: Sequence[str]) -> Cut:
    """Put a list's rows in the order of their ImageNumbers, and say which must stay together."""
    images, types = sets.images, sets.types
    asked = imagelist.group_values(images.header, types, images.rows, group_by)
    if sets.groups is None:
        own = imagelist.group_values(images.header, types, images.rows, pipe.group_keys)
        at = imagelist.numbering(own, images.header)
    else:
        own, at = sets.groups, list(range(len(images.rows)))
    alone: list[Row] = [(str(place),) for place in range(len(at))]
    together = binding.aggregators(pipe)
    # one process for all where the pipeline's groups do not bound what a module looks at
    held: list[Row] = [()] * len(at) if binding.needing_all(pipe) else [own[i] for i in at]
    bonds = held if together else alone
    grouped = bool(pipe.group_keys or together)
    if not group_by:
        groups = held if grouped else alone
    elif not grouped:
        groups = [asked[i] for i in at]
    else:
        # where the pipeline's groups lie across the ones that were asked for, they decide
        fits = _refines(own, asked)
        groups = [asked[i] for i in at] if fits and held[:1] != [()] else held
    ordered = images.only(at)
    groups_own = [own[i] for i in at]
    return Cut(ordered, types, groups, bonds, groups_own, sets.groups is not None, sets.beside)


def _refines(own: Sequence[Row], asked: Sequence[Row]) -> bool:
    """Tell whether all rows of each group of `own` also agree in `asked`."""
    seen: dict[Row, Row] = {}
    return all(seen.setdefault(a, b) == b for a, b in zip(own, asked, strict=True))


def pack(sizes: Sequence[int], limit: int, count: int = 0) -> list[list[int]]:
    """Pack groups into chunks, in order.

    Parameters
    ----------
    sizes : sequence of int
        Image sets in each group.
    limit : int
        Image sets in a chunk; a larger group makes a chunk of its own.
    count : int
        Into how many chunks at least, where nothing is grouped.

    Returns
    -------
    list of list of int
        Indexes of groups, one list for each chunk. Where each group is one image set, chunks are
        as even as can be; otherwise each takes what fits.
    """
    n = len(sizes)
    if all(size == 1 for size in sizes):
        many = min(n, max(count, -(-n // max(limit, 1))))
        return [list(range(i * n // many, (i + 1) * n // many)) for i in range(many)]
    chunks: list[list[int]] = []
    filled = 0
    for i, size in enumerate(sizes):
        if not chunks or filled + size > limit:
            chunks.append([])
            filled = 0
        chunks[-1].append(i)
        filled += size
    return chunks


def even_count(image_sets: int, slots: int) -> int:
    """Choose how many chunks to make: near the usual size, and the same number for each slot."""
    waves = max(1, round(image_sets / slots / CHUNK_SIZE))
    return min(image_sets, slots * waves)


def ramped(image_sets: int, slots: int) -> list[int]:
    """Choose the sizes of chunks whose images come from afar: small ones first.

    Nothing computes before the images of a chunk are there, so each slot's first chunk is a quarter
    of the usual one.

    Returns
    -------
    list of int
        Image sets in each chunk; empty where so few are not worth it.
    """
    count = even_count(image_sets, slots)
    first = -(-image_sets // count) // 4 if count else 0
    rest = image_sets - slots * first
    if first < 2 or rest < count:
        return []
    return [first] * slots + [(i + 1) * rest // count - i * rest // count for i in range(count)]


def boundaries(
    cut: Cut,
    kept: Sequence[Sequence[Row]],
    size: int | None,
    slots: int,
    *,
    one_each: bool,
    ramp: bool = False,
) -> list[list[int]]:
    """Cut the rows into chunks: those that still exist as they were, and the rest packed anew.

    Parameters
    ----------
    kept : sequence of sequence of tuple of str
        The rows of chunks that were made before.
    size : int or None
        Image sets in a chunk; None leaves it to `even_count`.
    slots : int
        How many chunks will run at once.
    one_each : bool
        Whether each group makes a chunk of its own.
    ramp : bool
        Whether the first chunks should be small; see `ramped`.

    Returns
    -------
    list of list of int
        Places of rows in `cut.images`, in order; the chunks by their first row.
    """
    members: dict[Row, list[int]] = {}
    for place, group in enumerate(cut.groups):
        members.setdefault(group, []).append(place)
    places: dict[str, list[int]] = {}
    for place in range(len(cut.groups) - 1, -1, -1):
        places.setdefault(row_text(cut.images.rows[place]), []).append(place)
    chunks: list[list[int]] = []
    taken: set[int] = set()
    for rows in kept:
        chunk = _find(rows, places)
        if chunk is None:
            continue
        whole = {p for p in chunk for p in members[cut.groups[p]]}
        mixes = one_each and len({cut.groups[p] for p in chunk}) > 1
        if whole != set(chunk) or mixes:
            continue
        for p in chunk:
            places[row_text(cut.images.rows[p])].remove(p)
        taken.update(chunk)
        chunks.append(sorted(chunk))
    left = [group for group, rows in members.items() if rows[0] not in taken]
    sizes = [len(members[group]) for group in left]
    count = even_count(sum(sizes), slots) if sizes and size is None else 0
    limit = 1 if one_each else size or -(-sum(sizes) // max(count, 1))
    single = ramp and size is None and not one_each and all(n == 1 for n in sizes)
    steps = ramped(len(sizes), slots) if single else []
    ends = list(accumulate(steps))
    ramps = [list(range(end - n, end)) for end, n in zip(ends, steps, strict=True)]
    for packed in ramps or pack(sizes, limit, count):
        chunks.append(sorted(p for i in packed for p in members[left[i]]))
    return sorted(chunks)


def _find(rows: Sequence[Row], places: dict[str, list[int]]) -> list[int] | None:
    found: list[int] = []
    used: dict[str, int] = {}
    for row in rows:
        text = row_text(row)
        n = used.get(text, 0)
        free = places.get(text, [])
        if n >= len(free):
            return None
        found.append(free[-1 - n])
        used[text] = n + 1
    return found


@dataclass(frozen=True)
class Chunk:
    """A chunk as it will be written.

    Attributes
    ----------
    id, digest : str
        Its name, from its content; and that with the recipe: everything its result depends on.
    image_numbers, lines : list of int
        The ImageNumbers of its image sets, and where they stand in the user's list.
    rows : list of tuple of str
    witness : tuple of str or None
        The row to put behind them, see `imagelist.witness_row`.
    units : list of (int, int)
        First and last of the image sets that can't be parted, in the numbering of the list that
        CellProfiler is given: from 1 in a chunk's own, ImageNumbers in the whole.
    """

    id: str
    digest: str
    image_numbers: list[int]
    lines: list[int]
    rows: list[Row]
    witness: Row | None
    units: list[tuple[int, int]]


def chunks_of(
    cut: Cut,
    places: Sequence[list[int]],
    whole: bool,
    recipe: str,
    keys: Sequence[str] = (),
) -> Iterator[Chunk]:
    """Make chunks of the places of their rows.

    Parameters
    ----------
    whole : bool
        Whether each process reads the whole list instead of the chunk's own rows.
    recipe : str
        What else a result depends on: the pipeline, CellProfiler, and how bpcp runs it.
    keys : sequence of str
        The metadata tags by which CellProfiler groups.
    """
    header, everything = cut.images.header, cut.images.rows
    known = cut.beside or everything
    # what else is in the list matters only to a chunk that reads the whole of it
    alone = cut.batched or not whole
    surroundings = "" if alone else imagelist.digest(map(row_text, everything))
    kinds = ",".join(t.name for t in cut.types)
    twins: dict[str, int] = {}
    for own in places:
        rows = [everything[p] for p in own]
        first = own[0] if whole else 0
        content = imagelist.digest(
            [row_text(header), kinds, f"{surroundings} {first}", *map(row_text, rows)]
            + [row_text(cut.own[p]) for p in own if cut.batched]
        )
        twins[content] = twins.get(content, 0) + 1
        suffix = f"-{twins[content]}" if twins[content] > 1 else ""
        units = units_of([cut.bonds[p] for p in own])
        alike = None if whole else imagelist.witness_row(header, cut.types, known, rows, keys)
        yield Chunk(
            id=content[:10] + suffix,
            digest=imagelist.digest([content, recipe]),
            image_numbers=[p + 1 for p in own],
            lines=[cut.images.lines[p] for p in own],
            rows=rows,
            witness=alike,
            units=[(a + first, b + first) for a, b in units],
        )


def units_of(groups: Sequence[Row]) -> list[tuple[int, int]]:
    """Give the runs of rows that part no group, as 1-based first and last.

    Groups that lie across each other, as where the list itself numbers them, make one run.
    """
    last = {group: i for i, group in enumerate(groups, 1)}
    units: list[tuple[int, int]] = []
    end = 0
    for i, group in enumerate(groups, 1):
        if i <= end:
            units[-1] = (units[-1][0], i)
        else:
            units.append((i, i))
        end = max(end, last[group])
    return units


def group_sizes(cut: Cut) -> list[int]:
    """Count the image sets of each group that CellProfiler makes, in the order of the groups."""
    if cut.batched:
        return [last - first + 1 for first, last in units_of(cut.own)]
    return [size for _, size in sorted(Counter(cut.own).items())]


def listed_groups(cut: Cut) -> list[tuple[int, int | None]] | None:
    """Give each image set's Group_Number and Group_Index where the list brings them, else None.

    CellProfiler takes both from the list. Where it has no Group_Index, the image set that is
    processed first has both anew, and no other has a Group_Index; source: pipeline/_pipeline.py
    (prepare_run, group).
    """
    header = cut.images.header
    number, index = imagelist.GROUP_COLUMNS[:2]
    if cut.batched or number not in header:
        return None
    at = header.index(number)
    numbers = [int(row[at]) for row in cut.images.rows]
    if index in header:
        at = header.index(index)
        return [(n, int(row[at])) for n, row in zip(numbers, cut.images.rows, strict=True)]
    first = min(range(len(numbers)), key=lambda i: cut.own[i])
    return [(1, 1) if i == first else (n, None) for i, n in enumerate(numbers)]


def processed(cut: Cut) -> list[int] | None:
    """Give the ImageNumbers in the order in which CellProfiler processes them: group by group.

    None where that is their own order: always, unless the list numbers its groups.
    """
    if cut.batched:
        return None
    at = imagelist.numbering(cut.own)
    return None if at == list(range(len(at))) else [i + 1 for i in at]


def witness_is_apart(cut: Cut, chunk: Chunk, keys: Sequence[str]) -> bool:
    """Tell whether CellProfiler numbers a grouped chunk's rows 1 to n, the witness behind them."""
    if chunk.witness is None or not keys:
        return True
    rows = [*chunk.rows, chunk.witness]
    header = cut.images.header
    groups = imagelist.group_values(header, cut.types, rows, keys)
    in_order = imagelist.numbering(groups, header) == list(range(len(rows)))
    return groups[-1] not in groups[:-1] and in_order


def contiguous(chunks: Sequence[list[int]], bonds: Sequence[Row]) -> list[list[int]]:
    """Cut chunks where their rows don't lie together, for `-f` and `-l` name a range.

    Parameters
    ----------
    bonds : sequence of tuple of str
        As `Cut.bonds`: chunks are joined where a bond lies across other rows.
    """
    found: list[list[int]] = []
    for chunk in chunks:
        start = 0
        for i in range(1, len(chunk) + 1):
            if i == len(chunk) or chunk[i] != chunk[i - 1] + 1:
                found.append(chunk[start:i])
                start = i
    last = {bond: place for place, bond in enumerate(bonds)}
    joined: list[list[int]] = []
    end = -1
    for piece in sorted(found):
        if piece[0] <= end:
            joined[-1] += piece
        else:
            joined.append(piece)
        end = max(end, *(last[bonds[place]] for place in piece))
    return joined
