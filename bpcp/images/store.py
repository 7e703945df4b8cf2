"""The images of a screen in a temporary database: sorted, grouped and counted in little memory."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from types import TracebackType
from typing import Any

from bpcp.images import natural
from bpcp.images.record import Image

_SCHEMA = """
CREATE TABLE file (folder INTEGER, name TEXT);
CREATE TABLE thumbnail (folder INTEGER, name TEXT, stem TEXT);
CREATE TABLE image (plate INTEGER, well INTEGER, site INTEGER, t INTEGER, z INTEGER,
                    channel INTEGER, folder INTEGER, name TEXT, extra TEXT);
CREATE TABLE word (kind TEXT, id INTEGER, text TEXT, rank INTEGER, PRIMARY KEY (kind, id))
    WITHOUT ROWID;
"""
_KINDS = ("plate", "well", "site", "t", "z", "channel")
_SET = "plate, well, site, t, z"
_EXAMPLES = 3
# cells of `extra`; neither can be in a file's name that a CSV holds
_PAIR, _BETWEEN = "\x1f", "\x1e"


@dataclass(frozen=True)
class ImageSet:
    """One image set: a place, a time and a plane, with a file for each channel.

    Attributes
    ----------
    files : dict of str to (str, str)
        Folder and name, by channel.
    extra : dict of str to str
        Further metadata; where channels differ, the first channel's.
    differs : tuple of str
        What the channels differ in.
    """

    plate: str
    well: str
    site: str
    t: str
    z: str
    files: dict[str, tuple[str, str]]
    extra: dict[str, str]
    differs: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The set's place, for people."""
        named = (("site", self.site), ("t", self.t), ("z", self.z))
        parts = [self.plate, self.well, *(f"{word} {text}" for word, text in named if text)]
        return ", ".join(p for p in parts if p)


@dataclass
class _Words:
    """Texts of one kind, each kept once."""

    ids: dict[str, int] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    def id(self, text: str) -> int:
        found = self.ids.get(text)
        if found is None:
            found = self.ids[text] = len(self.texts)
            self.texts.append(text)
        return found


class Store:
    """Files as they were found, and images as they were placed; gone when it is closed."""

    def __init__(self) -> None:
        # no name: a file in TMPDIR that is gone with the process, however that ends
        self._db = sqlite3.connect("")
        self._db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;"
            "PRAGMA cache_size = -65536;" + _SCHEMA
        )
        self._words = {kind: _Words() for kind in (*_KINDS, "folder")}
        self._image_sets = 0

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._db.close()

    @property
    def db(self) -> sqlite3.Connection:
        """The tables: file, image and thumbnail, in which texts are numbers."""
        return self._db

    def texts(self, kind: str) -> list[str]:
        """Give what the numbers of a column mean, from 0 on."""
        return self._words[kind].texts

    # --- files ---

    def add_files(self, files: Iterable[tuple[str, str]]) -> None:
        """Take files: folder and name."""
        ids = self._words["folder"]
        self._db.executemany(
            "INSERT INTO file VALUES (?, ?)", ((ids.id(folder), name) for folder, name in files)
        )

    def add_thumbnail(self, folder: str, name: str) -> None:
        """Take a thumbnail: the folder and name that its image may have, but for a GUID."""
        number = self._words["folder"].id(folder)
        stem = name.rpartition(".")[0]
        self._db.execute("INSERT INTO thumbnail VALUES (?, ?, ?)", (number, name, stem))

    def thumbnails(self) -> Iterator[tuple[str, str]]:
        """Give the folders and names of thumbnails, but for those beside their image."""
        if self.number("SELECT EXISTS (SELECT 1 FROM thumbnail)"):
            self.index_files()
        texts = self._words["folder"].texts
        # A01_s1_w1.tif, A01_s1_w1B9D0B234-C57E-...tif
        for folder, name in self._db.execute(
            "SELECT folder, name FROM thumbnail WHERE NOT EXISTS (SELECT 1 FROM file"
            " WHERE file.folder = thumbnail.folder"
            " AND file.name >= stem AND file.name < stem || char(1114111)"
            " AND (substr(file.name, length(stem) + 1, 1) = '.'"
            " OR substr(file.name, length(stem) + 9, 1) = '-'))"
        ):
            yield texts[folder], name

    def holds(self, folder: str) -> bool:
        """Tell whether a folder has files."""
        return folder in self._words["folder"].ids

    def count_files(self) -> int:
        """Count the files."""
        return self.number("SELECT count(*) FROM file")

    def sample(self, size: int) -> list[tuple[str, str]]:
        """Give at most `size` files, evenly from among all."""
        total = self.count_files()
        if not total:
            return []
        at = sorted({1 + i * total // size for i in range(size)})
        texts = self._words["folder"].texts
        found = []
        for row in at:
            for folder, name in self._db.execute(
                "SELECT folder, name FROM file WHERE rowid = ?", (row,)
            ):
                found.append((texts[folder], name))
        return found

    # --- images ---

    def add(self, images: Iterable[Image]) -> None:
        """Take placed images."""
        self._db.executemany(
            "INSERT INTO image VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", map(self._row, images)
        )

    def _row(self, image: Image) -> tuple[int | str, ...]:
        words = self._words
        return (
            words["plate"].id(image.plate),
            words["well"].id(image.well),
            words["site"].id(image.site),
            words["t"].id(image.t),
            words["z"].id(image.z),
            words["channel"].id(image.channel),
            words["folder"].id(image.folder),
            image.file,
            _BETWEEN.join(f"{name}{_PAIR}{text}" for name, text in image.extra),
        )

    def count_images(self) -> int:
        """Count the images."""
        return self.number("SELECT count(*) FROM image")

    def values(self, kind: str) -> list[str]:
        """Give the values of "plate", "well", "site", "t", "z" or "channel", sorted naturally."""
        rows = self._db.execute(f"SELECT DISTINCT {kind} FROM image").fetchall()  # noqa: S608
        order = natural.well_key if kind == "well" else natural.key
        return sorted((self._words[kind].texts[i] for (i,) in rows), key=order)

    def extra_names(self) -> list[str]:
        """Give the names of further metadata, in the order in which they were first seen."""
        names: dict[str, None] = {}
        for (extra,) in self._db.execute("SELECT DISTINCT extra FROM image"):
            names.update(dict.fromkeys(_extra(extra)))
        return list(names)

    def examples(self) -> list[Image]:
        """Give at most three images, in natural order; needs `sort`.

        They are of the first, the middle and the last place, and of three channels, as far as
        there are as many; places are wells, or what is in a well where there are few.
        """
        channels = self.values("channel")
        columns = _SET.split(", ")
        depth, count = 0, 0
        for depth in (2, 3, 5):
            distinct = f"SELECT DISTINCT {', '.join(columns[:depth])} FROM image"  # noqa: S608
            count = self.number(f"SELECT count(*) FROM ({distinct})")  # noqa: S608
            if count >= _EXAMPLES:
                break
        keys = columns[:depth]
        found: dict[tuple[str, str], Image] = {}
        for i, at in enumerate((0, count // 2, count - 1)):
            place = self._db.execute(
                f"SELECT {', '.join(keys)} FROM ({distinct}) AS image {_ranked(keys)}"  # noqa: S608
                " LIMIT 1 OFFSET ?",
                (at,),
            ).fetchone()
            image = self._first(keys, place, channels[i % len(channels)])
            found[image.folder, image.file] = image
        return sorted(found.values(), key=_natural)

    def _first(self, keys: Sequence[str], place: Sequence[int], channel: str) -> Image:
        """Give the first image of a place, of a channel if it has that."""
        same = " AND ".join(f"image.{k} = ?" for k in keys)
        order = _ranked(_KINDS, f"WHERE {same}", "image.channel != ?")
        row = self._db.execute(
            f"SELECT {_SET}, channel, folder, name, extra FROM image {order} LIMIT 1",  # noqa: S608
            (*place, self._words["channel"].ids[channel]),
        ).fetchone()
        return self._image(row)

    def images(self) -> Iterator[Image]:
        """Give all images in natural order; needs `sort`."""
        rows = self._db.execute(
            f"SELECT {_SET}, channel, folder, name, extra FROM image {_ranked(_KINDS)}"  # noqa: S608
        )
        return map(self._image, rows)

    def _image(self, row: tuple[Any, ...]) -> Image:
        plate, well, site, t, z, found, folder = (
            self._words[k].texts[i] for k, i in zip((*_KINDS, "folder"), row[:7], strict=True)
        )
        extra = tuple(_extra(row[8]).items())
        return Image(folder, row[7], found, well, plate, site, z, t, extra)

    def clear(self) -> None:
        """Forget all images; the files stay."""
        self._db.execute("DELETE FROM image")

    def absent(self, limit: int) -> tuple[int, list[str]]:
        """Drop images whose file was not found, as an index may name.

        Returns
        -------
        int
            How many.
        list of str
            The first `limit` of them.
        """
        self.index_files()
        missing = (
            "FROM image WHERE NOT EXISTS (SELECT 1 FROM file"
            " WHERE file.folder = image.folder AND file.name = image.name)"
        )
        return self._drop(missing, limit)

    def last(self) -> int:
        """Give the number of the image that was taken last; 0 is none."""
        return self.number("SELECT coalesce(max(rowid), 0) FROM image")

    def drop_repeated(self, table: str, limit: int) -> tuple[int, list[str]]:
        """Drop all but the first of the rows of "file" or "image" that name one file.

        Returns
        -------
        int
            How many.
        list of str
            The first `limit` of them.
        """
        again = (
            f"FROM {table} WHERE rowid NOT IN"  # noqa: S608
            f" (SELECT min(rowid) FROM {table} GROUP BY folder, name)"
        )
        return self._drop(again, limit)

    def _drop(self, rows: str, limit: int) -> tuple[int, list[str]]:
        """Delete rows, "FROM … WHERE …"; give how many, and the first paths of them."""
        shown = self.paths(f"SELECT folder, name {rows} LIMIT {limit}")
        return self._db.execute(f"DELETE {rows}").rowcount, shown

    def unplaced(self) -> Iterator[tuple[str, str]]:
        """Give the files in whose folder no file is placed so far, as they were taken."""
        texts = self._words["folder"].texts
        placed = {i for (i,) in self._db.execute("SELECT DISTINCT folder FROM image")}
        # a list of its own: what is placed meanwhile must not change it
        for folder, name in self._db.execute("SELECT folder, name FROM file ORDER BY rowid"):
            if folder not in placed:
                yield texts[folder], name

    def beside(self) -> Iterator[tuple[str, str]]:
        """Give the files that are not placed though others in their folder are."""
        self.index_files()
        self._db.execute("CREATE INDEX IF NOT EXISTS image_at ON image (folder, name)")
        texts = self._words["folder"].texts
        for folder, name in self._db.execute(
            "SELECT folder, name FROM file WHERE folder IN (SELECT folder FROM image) AND NOT"
            " EXISTS (SELECT 1 FROM image WHERE image.folder = file.folder"
            " AND image.name = file.name)"
        ):
            yield texts[folder], name

    def placed(self) -> Iterator[tuple[str, str]]:
        """Give the folders and names of all images."""
        texts = self._words["folder"].texts
        for folder, name in self._db.execute("SELECT folder, name FROM image"):
            yield texts[folder], name

    def wells_in(self) -> set[tuple[str, str]]:
        """Give the wells of each folder: folder and well."""
        return {(folder, well) for folder, well, _ in self.channels_in()}

    def channels_in(self) -> set[tuple[str, str, str]]:
        """Give the wells and channels of each folder: folder, well, channel."""
        rows = self._db.execute("SELECT DISTINCT folder, well, channel FROM image")
        texts = [self._words[kind].texts for kind in ("folder", "well", "channel")]
        return {(texts[0][f], texts[1][w], texts[2][c]) for f, w, c in rows}

    def index_files(self) -> None:
        """Make files quick to find by folder and name."""
        self._db.execute("CREATE INDEX IF NOT EXISTS file_at ON file (folder, name)")

    def drop_channels(self, channels: Iterable[str]) -> int:
        """Drop the images of some channels; give how many."""
        ids = self._words["channel"].ids
        marks = ",".join(str(ids[c]) for c in channels if c in ids)
        return self._db.execute(f"DELETE FROM image WHERE channel IN ({marks})").rowcount  # noqa: S608

    # --- plates ---

    def by_folder(self) -> Iterator[tuple[str, str | None, dict[str, str | None]]]:
        """Give each folder's plate, channel, site, t and z; None where it has several."""
        kinds = ("plate", "channel", "site", "t", "z")
        bounds = ", ".join(f"min({k}), max({k})" for k in kinds)
        for row in self._db.execute(f"SELECT folder, {bounds} FROM image GROUP BY folder"):  # noqa: S608
            one = {
                kind: self._words[kind].texts[low] if low == high else None
                for kind, low, high in zip(kinds, row[1::2], row[2::2], strict=True)
            }
            yield self._words["folder"].texts[row[0]], one.pop("plate"), one

    def rename_plates(self, plates: Mapping[str, str]) -> None:
        """Give the images of some folders another plate; folders that hold no image do no harm."""
        folders, names = self._words["folder"].ids, self._words["plate"]
        self._db.execute("CREATE TEMP TABLE renamed (folder INTEGER PRIMARY KEY, plate INTEGER)")
        self._db.executemany(
            "INSERT INTO renamed VALUES (?, ?)",
            ((folders[folder], names.id(plate)) for folder, plate in plates.items()),
        )
        self._db.executescript(
            "UPDATE image SET plate = (SELECT plate FROM renamed WHERE folder = image.folder)"
            " WHERE folder IN (SELECT folder FROM renamed);"
            "DROP TABLE renamed;"
        )

    def gaps(self, keep: Callable[[str], bool] = lambda _: True) -> int | None:
        """Count image sets that lack a channel; None where images make no list at all.

        That is where a place has two files, or no image set has all channels.

        Parameters
        ----------
        keep : callable
            Tells of a folder whether its images count.
        """
        kept = ((i,) for i, folder in enumerate(self._words["folder"].texts) if keep(folder))
        self._db.execute("CREATE TEMP TABLE kept (folder INTEGER PRIMARY KEY)")
        self._db.executemany("INSERT INTO kept VALUES (?)", kept)
        all_channels = self.number("SELECT count(DISTINCT channel) FROM image")
        doubled, sets, complete = self._db.execute(
            "SELECT max(files > channels), count(*), sum(channels = ?) FROM (SELECT count(*)"  # noqa: S608
            " AS files, count(DISTINCT channel) AS channels FROM image JOIN kept USING (folder)"
            f" GROUP BY {_SET})",
            (all_channels,),
        ).fetchone()
        self._db.execute("DROP TABLE kept")
        return int(sets - complete) if complete and not doubled else None

    # --- image sets ---

    def doubled(self, limit: int) -> tuple[int, list[list[str]]]:
        """Find places that more than one file claims.

        Returns
        -------
        int
            How many.
        list of list of str
            The files of the first `limit` of them.
        """
        keys = f"{_SET}, channel"
        twice = f"FROM image GROUP BY {keys} HAVING count(*) > 1"
        count = self.number(f"SELECT count(*) FROM (SELECT 1 {twice})")  # noqa: S608
        same = " AND ".join(f"{k} = ?" for k in keys.split(", "))
        files = [
            self.paths(f"SELECT folder, name FROM image WHERE {same} ORDER BY rowid", place)  # noqa: S608
            for place in self._db.execute(f"SELECT {keys} {twice} LIMIT {limit}").fetchall()
        ]
        return count, files

    def number_sites(self) -> None:
        """Let an image without a site be of site 1, which its row in the list will say."""
        own, first = (self._words["site"].ids.get(text) for text in ("", "1"))
        if own is not None and first is not None:
            self._db.execute("UPDATE image SET site = ? WHERE site = ?", (first, own))

    def sort(self) -> None:
        """Note the natural order of all values; needed before `sets` and `examples`."""
        self._db.execute("DELETE FROM word")
        for kind in _KINDS:
            texts = self._words[kind].texts
            order = natural.well_key if kind == "well" else natural.key
            ranked = sorted(range(len(texts)), key=lambda i: order(texts[i]))
            self._db.executemany(
                "INSERT INTO word VALUES (?, ?, ?, ?)",
                ((kind, i, texts[i], rank) for rank, i in enumerate(ranked)),
            )

    def sets(self) -> Iterator[ImageSet]:
        """Give all image sets in natural order: plate, well, site, time, plane."""
        rows = self._db.execute(
            f"SELECT {_SET}, channel, folder, name, extra FROM image {_ranked(_KINDS)}"  # noqa: S608
        )
        texts = {kind: words.texts for kind, words in self._words.items()}
        for place, images in groupby(rows, key=itemgetter(0, 1, 2, 3, 4)):
            files: dict[str, tuple[str, str]] = {}
            extra: dict[str, str] = {}
            differs: dict[str, None] = {}
            for row in images:
                channel, folder, name, more = row[5:]
                files[texts["channel"][channel]] = (texts["folder"][folder], name)
                for title, text in _extra(more).items():
                    if extra.setdefault(title, text) != text:
                        differs[title] = None
            plate, well, site, t, z = (texts[k][i] for k, i in zip(_KINDS[:5], place, strict=True))
            yield ImageSet(plate, well, site, t, z, files, extra, tuple(differs))

    def number(self, query: str) -> int:
        """Give the one number that a query gives."""
        return int(self._db.execute(query).fetchone()[0])

    def paths(self, query: str, values: Sequence[int] = ()) -> list[str]:
        """Give the paths of the folders and names that a query gives."""
        texts = self._words["folder"].texts
        return [f"{texts[f]}/{name}" for f, name in self._db.execute(query, values)]


def _ranked(kinds: Iterable[str], where: str = "", first: str = "") -> str:
    """Give the SQL that puts rows of a table `image` into natural order."""
    kinds = list(kinds)
    joins = [f"JOIN word {k}_ ON {k}_.kind = '{k}' AND {k}_.id = image.{k}" for k in kinds]
    order = [*([first] if first else []), *(f"{k}_.rank" for k in kinds)]
    return " ".join([*joins, where, "ORDER BY", ", ".join(order)])


def _natural(image: Image) -> tuple[natural.Key, ...]:
    numbered = (natural.key(x) for x in (image.site, image.t, image.z, image.channel))
    return (natural.key(image.plate), natural.well_key(image.well), *numbered)


def _extra(text: str) -> dict[str, str]:
    if not text:
        return {}
    pairs = (pair.partition(_PAIR) for pair in text.split(_BETWEEN))
    return {name: value for name, _, value in pairs}


def clean(text: str) -> str:
    """Take out of metadata what the store needs for itself: control characters."""
    return re.sub(r"[\x00-\x1f]", " ", text)
