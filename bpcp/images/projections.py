"""Projections of z planes: those beside their planes are no images of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bpcp.images import natural
from bpcp.images.store import Store


@dataclass(frozen=True)
class Projections:
    """What became of images without a plane.

    Attributes
    ----------
    dropped : int
        How many were dropped, beside planes of their place.
    shown : list of str
        The first few of them.
    alone : list of (str, str)
        Acquisitions and channels that have no planes where other channels have some.
    kept : int
        Images without a plane that stay though their acquisition has planes of their channel.
    stay : list of str
        The first few of them.
    """

    dropped: int = 0
    shown: list[str] = field(default_factory=list)
    alone: list[tuple[str, str]] = field(default_factory=list)
    kept: int = 0
    stay: list[str] = field(default_factory=list)


def drop(store: Store, acquisition: Callable[[str], str], limit: int) -> Projections:
    """Drop images without a plane where the same acquisition has planes of their place.

    Where it has no planes of a channel at all, its projections stay, of all channels: they
    may be what is to be measured.

    Parameters
    ----------
    acquisition : callable
        Gives the folder of the acquisition that a folder belongs to.
    limit : int
        How many of them are named.
    """
    planes = store.texts("z")
    if "" not in planes or store.number("SELECT count(DISTINCT z) FROM image") < 2:
        return Projections()
    flat = planes.index("")
    store.db.execute("CREATE TEMP TABLE home (folder INTEGER PRIMARY KEY, home TEXT)")
    store.db.executemany(
        "INSERT INTO home VALUES (?, ?)",
        ((i, acquisition(folder)) for i, folder in enumerate(store.texts("folder"))),
    )
    placed = "FROM image JOIN home USING (folder)"
    store.db.executescript(
        f"CREATE TEMP TABLE deep AS SELECT DISTINCT home, channel {placed} WHERE z != {flat};"  # noqa: S608
        "CREATE TEMP TABLE alone AS SELECT * FROM"
        f" (SELECT home, channel {placed} WHERE z = {flat} EXCEPT SELECT * FROM deep)"
        " WHERE home IN (SELECT home FROM deep);"
        "CREATE INDEX image_place ON image (plate, well, site, t, channel);"
    )
    home = "(SELECT home FROM home WHERE folder = image.folder)"
    same = " AND ".join(
        f"plane.{kind} = image.{kind}" for kind in ("plate", "well", "site", "t", "channel")
    )
    beside = (
        f"FROM image WHERE z = {flat} AND {home} NOT IN (SELECT home FROM alone)"  # noqa: S608
        f" AND EXISTS (SELECT 1 FROM image AS plane JOIN home USING (folder) WHERE {same}"
        f" AND plane.z != {flat} AND home.home = {home})"
    )
    shown = store.paths(f"SELECT folder, name {beside} LIMIT {limit}")
    dropped = store.db.execute(f"DELETE {beside}").rowcount
    stays = f"{placed} WHERE z = {flat} AND (home, channel) IN (SELECT * FROM deep)"  # noqa: S608
    kept = store.number(f"SELECT count(*) {stays}")
    stay = store.paths(f"SELECT folder, name {stays} LIMIT {limit}")
    names = store.texts("channel")
    alone = [(h, names[c]) for h, c in store.db.execute("SELECT home, channel FROM alone")]
    store.db.executescript(
        "DROP INDEX image_place; DROP TABLE home; DROP TABLE deep; DROP TABLE alone;"
    )
    alone.sort(key=lambda found: natural.key(found[1]))
    return Projections(dropped, shown, alone, kept, stay)
