"""Where images come from: which of an image list's files lie in a bucket, and how they are there.

With an input address `s3://bucket/prefix`, the prefix's tree stands for the root of the images:
`<root>/plate1/a.tif` is `s3://bucket/prefix/plate1/a.tif`. A file that an image list itself gives
an s3:// address is found there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bpcp import s3
from bpcp.access import Access
from bpcp.s3 import Address
from bpcp.workspace import Json

# Size in bytes, time in ns, and ETag of the files that lie in a bucket, by what `imagelist.files`
# calls them; see `s3.Remote`.
Listed = Mapping[str, tuple[int, int, str]]

# Above this, one listing of everything is quicker than one for each folder.
_MANY_FOLDERS = 300


@dataclass(frozen=True)
class Source:
    """Where images come from, beside this machine's own disks.

    Attributes
    ----------
    input : Address or None
        What stands for the root of the images.
    access : Access
        How it is reached.
    """

    input: Address | None = None
    access: Access = field(default_factory=Access)

    def to_json(self) -> Json:
        """Give what goes into run.json."""
        return {"input": str(self.input) if self.input else None, **self.access.to_json()}

    @classmethod
    def from_json(cls, found: Json) -> Source:
        """Read it back."""
        url = found.get("input")
        return cls(Address.parse(url) if url else None, Access.from_json(found))

    def find(self, name: str, root: Path) -> tuple[str, str] | None:
        """Say where a file of an image list would lie: bucket and key; None is on this machine.

        Parameters
        ----------
        name : str
            As `imagelist.files` gives it.
        """
        if name.lower().startswith("s3://"):
            bucket, _, key = name[5:].partition("/")
            return bucket, key
        below = f"{root}/"
        if self.input and name.startswith(below):
            return self.input.bucket, self.input.key(name[len(below) :])
        return None

    def look(self, names: Iterable[str], root: Path) -> Listed:
        """Find out which files are there, and their sizes, times and ETags.

        Returns
        -------
        Listed
            Those that are there.

        Raises
        ------
        BpcpError
            66, 74, 77 or 78 where the bucket can't be listed.
        """
        wanted = {name: place for name in names if (place := self.find(name, root))}
        if wanted:
            # here, before many threads do; all buckets in one line
            self.access.decided(*dict.fromkeys(bucket for bucket, _ in wanted.values()))
        folders: dict[tuple[str, str], None] = {}
        for bucket, key in wanted.values():
            folders[bucket, key.rpartition("/")[0]] = None
        if len(folders) > _MANY_FOLDERS and self.input:
            at = (self.input.bucket, self.input.prefix)
            below = f"{at[1]}/" if at[1] else ""
            folders = {
                f: None for f in folders if f[0] != at[0] or not f"{f[1]}/".startswith(below)
            }
            found = self._list(at[0], at[1], "")
        else:
            found = {}
        with ThreadPoolExecutor(16) as pool:
            for part in pool.map(lambda f: self._list(f[0], f[1], "/"), folders):
                found.update(part)
        return {name: found[place] for name, place in wanted.items() if place in found}

    def _list(
        self, bucket: str, folder: str, delimiter: str
    ) -> dict[tuple[str, str], tuple[int, int, str]]:
        address = Address(bucket, folder)
        listed = s3.listing(self.access, address, delimiter)
        return {
            (bucket, address.key(name)): (remote.size, remote.mtime_ns, remote.etag)
            for name, remote in listed.items()
        }
