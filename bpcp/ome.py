"""Image sets as NamesAndTypes packs them into a batch file: OME-XML, deflated with a dictionary.

Source: CellProfiler/prokaryote, org/cellprofiler/imageset/ImageSet.java (compress, decompress);
cellprofiler_core 4.2.8.1, measurement/_measurements.py (alter_url_post_create_batch).
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape, unescape

from bpcp.folders import is_url

_FILE = re.compile(rb'(?<= FileName=")[^"]*(?=")')
_QUOTE = {'"': "&quot;"}
_UNQUOTE = {"&quot;": '"', "&apos;": "'"}


def changed(blob: bytes, dictionary: bytes | None, change: Callable[[str], str]) -> bytes:
    """Give a packed image set with the URLs of its files changed.

    Raises
    ------
    ValueError
        Where it is not packed so.
    """

    def one(found: re.Match[bytes]) -> bytes:
        url = unescape(found[0].decode("utf-8", "surrogateescape"), _UNQUOTE)
        return escape(change(url), _QUOTE).encode("utf-8", "surrogateescape")

    try:
        text = zlib.decompressobj(zdict=dictionary or b"").decompress(blob)
    except zlib.error as error:
        raise ValueError(f"a packed image set: {error}") from None
    packer = zlib.compressobj(zdict=dictionary) if dictionary else zlib.compressobj()
    return packer.compress(_FILE.sub(one, text)) + packer.flush()


def mapped(mappings: str, url: str) -> str:
    """Give a URL as CellProfiler reads it by the "Cluster root path" of CreateBatchFiles.

    Parameters
    ----------
    mappings : str
        The experiment's Path_Mappings.
    """
    if not is_url(url):
        return url
    known = json.loads(mappings)
    path = unquote(url[5:])
    fold = str if known["CaseSensitive"] else str.lower
    seen = fold(path)
    for old, new in known["PathMappings"]:
        if seen.startswith(fold(old)):
            path = new + path[len(old) :]
    return url if path == unquote(url[5:]) else f"file:{quote(path)}"


def unmapped(mappings: str) -> str:
    """Give mappings that change nothing, for image sets that name the files of this machine."""
    return json.dumps({**json.loads(mappings), "PathMappings": []})
