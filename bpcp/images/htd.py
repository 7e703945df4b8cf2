"""ImageXpress: what a plate's .HTD file calls its wavelengths.

Lines of it are `"WaveName1", "DAPI"`, for what file names call w1. Source: wrmXpress, which writes
such files for programs that expect one (create_htd).
"""

from __future__ import annotations

import re
from pathlib import Path

_WAVE = re.compile(r'^\s*"WaveName(\d+)"\s*,\s*"([^"]*)"', re.MULTILINE)


def channels(path: Path) -> dict[str, str]:
    """Give each channel's name: "w1" and "DAPI"; empty where the file has none."""
    # written on Windows, in its user's code page
    text = path.read_bytes().decode("utf-8-sig", "replace")
    return {f"w{int(number)}": name for number, name in _WAVE.findall(text) if name.strip()}
