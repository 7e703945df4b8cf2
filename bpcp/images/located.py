"""Where the images are that an index names: beside it, or in a folder below it.

Sources: MannLabs/scPortrait, _parse_phenix.py, and ome/bioformats, pull request 4314: Harmony 7
puts its index above the folders of images, whose names in it are bare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter

from bpcp.images.store import Store


def locate(store: Store, home: str, since: int) -> None:
    """Look below an index's folder for the images that it names and that are not where it says.

    A file of that name, or of that path, is taken from a folder Images, or from the one folder
    that has it; where several have it, none is taken.

    Parameters
    ----------
    home : str
        The folder of the index.
    since : int
        What `last` gave before the images of the index were taken.
    """
    store.index_files()
    lost = (
        f"FROM image WHERE image.rowid > {since} AND NOT EXISTS (SELECT 1 FROM file AS own"  # noqa: S608
        " WHERE own.folder = image.folder AND own.name = image.name)"
    )
    start = home.rstrip("/")
    texts = store.texts("folder")
    below = {i: t[len(start) :] for i, t in enumerate(texts) if t.startswith(f"{start}/")}
    if not below or not store.number(f"SELECT EXISTS (SELECT 1 {lost})"):
        return
    store.db.executescript(
        "CREATE INDEX IF NOT EXISTS file_named ON file (name);"
        "CREATE TEMP TABLE located (image INTEGER PRIMARY KEY, folder INTEGER);"
    )
    there = store.db.execute(
        "SELECT image.rowid, image.folder, file.folder "
        + lost.replace("FROM image", "FROM image JOIN file ON file.name = image.name", 1)
        + " ORDER BY image.rowid"
    )
    store.db.executemany(
        "INSERT INTO located VALUES (?, ?)",
        (
            (image, chosen[0])
            for (image, said), rows in groupby(there, key=itemgetter(0, 1))
            if len(chosen := _nearest(below, texts[said][len(start) :], rows)) == 1
        ),
    )
    store.db.executescript(
        "UPDATE image SET folder = (SELECT folder FROM located WHERE image = image.rowid)"
        " WHERE rowid IN (SELECT image FROM located);"
        "DROP TABLE located;"
    )


def _nearest(
    below: Mapping[int, str], said: str, rows: Iterable[tuple[int, int, int]]
) -> list[int]:
    """Give the folders that may be meant by an index: of those that hold the file, the best.

    Parameters
    ----------
    below : mapping of int to str
        The folders below the index's, by number; the rest of their path.
    said : str
        The rest of the path of the folder that the index names; "" is its own.
    rows : iterable of (int, int, int)
        The folders of files of that name, in the third place.
    """
    found = [f for _, _, f in rows if f in below and below[f].endswith(said)]
    usual = [f for f in found if below[f].casefold() == f"/images{said}".casefold()]
    return usual or found
