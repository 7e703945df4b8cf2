"""Lists that are there already: load_data.csv, .csv.gz and .parquet, checked as bpcp reads them."""

from __future__ import annotations

import csv
import gzip
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

from bpcp import imagelist
from bpcp.access import Access
from bpcp.check import rows
from bpcp.check.findings import errors
from bpcp.errors import BpcpError, Exit
from bpcp.imagelist import ImageList
from bpcp.images.remote import fetched, in_bucket
from bpcp.scratch import scratch

_KINDS = (".csv", ".csv.gz", ".parquet")


def is_ready(source: str) -> bool:
    """Tell whether a source is a list of image sets, by its name."""
    return source.lower().endswith(_KINDS)


def read(source: str, access: Access) -> ImageList:
    """Read a ready list from a file or an s3:// address.

    Raises
    ------
    BpcpError
        66 where it is missing; 65 where it is broken, no image list, or one in which
        `bpcp check` finds an error.
    """
    with scratch("images") as folder:
        plain = folder / "plain.csv"
        try:
            path = Path(source)
            if in_bucket(source):
                path = fetched(access, source, folder / "fetched")
            elif not path.is_file():
                raise BpcpError(Exit.NO_INPUT, f"no such list: {source}")
            if source.lower().endswith(".gz"):
                _unzip(path, plain)
            elif source.lower().endswith(".parquet"):
                _from_parquet(path, plain)
            else:
                plain = path
            _refuse_errors(plain, source)
            return imagelist.read(plain)
        except BpcpError as error:
            # people know it by the name that they gave
            what = str(error).replace(str(plain), source)
            raise BpcpError(error.code, what, error.todo) from None


def _refuse_errors(plain: Path, source: str) -> None:
    found = errors(rows.of_list(plain)[0])
    if not found:
        return
    first, *others = found
    # what is wrong with the file as a whole has its name for a place
    where = source if first.place == plain.name else f"{source}, {first.place}"
    # of a column that isn't there only the kind of the finding speaks
    what = f"{first.code.summary}; " if first.code is rows.NO_FILES_COLUMN else ""
    more = f" (and {len(others):,} more: bpcp check)" if others else ""
    raise BpcpError(Exit.MALFORMED_INPUT, f"{where}: {what}{first.what}{more}", first.remedy)


def _unzip(path: Path, plain: Path) -> None:
    try:
        with gzip.open(path, "rb") as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BpcpError(Exit.MALFORMED_INPUT, f"{plain}: not a whole gzip file: {error}") from None


def _from_parquet(path: Path, plain: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path)
        with plain.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(table.schema_arrow.names)
            for batch in table.iter_batches():
                columns = [column.to_pylist() for column in batch.columns]
                writer.writerows(zip(*(map(_cell, c) for c in columns), strict=True))
    except (pyarrow.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.filename:
            raise
        raise BpcpError(Exit.MALFORMED_INPUT, f"{plain}: not a whole Parquet file") from None


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value.decode() if isinstance(value, bytes) else str(value)


def lines(found: ImageList) -> Iterator[tuple[str, ...]]:
    """Give the header and the rows."""
    yield found.header
    yield from found.rows
