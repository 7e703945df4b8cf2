"""What may be wrong with an image file, and what a look at one showed."""

from __future__ import annotations

from dataclasses import dataclass

# image-<fault> is the code of the finding.
MISSING = "missing"
DANGLING = "dangling-link"
NOT_A_FILE = "not-a-file"
NO_PERMISSION = "no-permission"
UNREADABLE = "unreadable"
EMPTY = "empty"
BAD_HEADER = "unreadable-header"
TRUNCATED = "truncated"
LOOP = "directory-loop"
DECODE = "decode-error"
UNUSUAL = "unusual-format"
# Where CellProfiler's own reader has the last word.
UNSURE = frozenset((BAD_HEADER, DECODE, UNUSUAL))


class FaultError(Exception):
    """What is wrong with a file."""

    def __init__(self, fault: str, said: str) -> None:
        super().__init__(said)
        self.fault = fault


@dataclass(frozen=True)
class Looked:
    """What a look at a file showed.

    Attributes
    ----------
    fault : str
        What is wrong, one of this module's names; "" where nothing is.
    said : str
        That, in words.
    kind : str
        "TIFF", "PNG", "JPEG" …, or "" where bpcp can't look inside.
    size : tuple of int
        Height and width in pixels, colours or samples of a pixel, pages; () where unknown.
    depth : str
        The type of its values, as numpy names them, "uint16"; a packed one has its bits: "12-bit".
    warnings : tuple of str
        What is odd, and no fault.
    flat : bool
        Whether all its pixels were decoded, and have one value.
    unusual : str
        What of it CellProfiler may not read; "" where it does.
    hole : int
        How many of its bytes were never written.
    """

    fault: str = ""
    said: str = ""
    kind: str = ""
    size: tuple[int, ...] = ()
    depth: str = ""
    warnings: tuple[str, ...] = ()
    flat: bool = False
    unusual: str = ""
    hole: int = 0

    @property
    def certain(self) -> bool:
        """Whether it has a fault that needs no second opinion."""
        return bool(self.fault) and self.fault not in UNSURE
