"""What lies in a bucket, and a small file out of one: an index, a list."""

from __future__ import annotations

from pathlib import Path

from bpcp.access import Access
from bpcp.errors import BpcpError, Exit
from bpcp.s3 import Address, GoneError, NotPublicError, fetch, not_public


def in_bucket(source: str) -> bool:
    """Tell whether a folder or file as the user names it is an s3:// address."""
    return source.lower().startswith("s3://")


def fetched(access: Access, url: str, target: Path) -> Path:
    """Fetch an object to a file, and give that.

    Raises
    ------
    BpcpError
        66 where it is missing or may not be read, 78 where it may not without credentials; else
        as `s3.fetch`.
    """
    address = Address.parse(url)
    try:
        fetch(access, address.bucket, address.prefix, target)
    except NotPublicError:
        raise not_public(url) from None
    except GoneError as error:
        raise BpcpError(Exit.NO_INPUT, f"{url}: {error}") from None
    return target
