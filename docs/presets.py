"""Write the table of presets in docs/images.md; `presets.py -` prints the page."""

from __future__ import annotations

import sys
from pathlib import Path

from bpcp.images.presets import PRESETS

PAGE = Path(__file__).with_name("images.md")
BEGIN = "<!-- made from bpcp/images/presets.toml by make docs; change it there -->\n"
END = "<!-- end -->\n"


def table() -> str:
    """Give the table: a row for each preset."""
    rows = ["| `--preset` | instruments | a path | index that is read |", "|---|---|---|---|"]
    for preset in PRESETS.values():
        last = f"is not listed: {preset.holds}" if preset.holds else preset.reads
        rows.append(f"| `{preset.name}` | {preset.what} | `{preset.example}` | {last} |")
    return "".join(f"{row}\n" for row in rows)


def main(argv: list[str]) -> None:
    """Put the table into the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    text = f"{before}{BEGIN}{table()}{END}{after}"
    if argv == ["-"]:
        sys.stdout.write(text)
    else:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
