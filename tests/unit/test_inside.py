"""Names from outside stay where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import refused

from bpcp import inside, staging
from bpcp.check.rows import of_list
from bpcp.errors import Exit
from bpcp.workspace import hold


@pytest.mark.parametrize("name", ["a", "a/b.csv", "..a/b..", "a b/ü;$(x)", ".hidden"])
def test_plain_names(name: str, tmp_path: Path) -> None:
    assert inside.below(tmp_path, name, tmp_path / "state.json") == tmp_path / name


@pytest.mark.parametrize(
    "name",
    ["", "/", "/a", "..", "../a", "a/..", "a/../b", "a//b", "./a", "a/", "a\0b", None, 7, ["a"]],
)
def test_names_that_lead_out(name: object, tmp_path: Path) -> None:
    refused(
        Exit.MALFORMED_INPUT,
        "state.json",
        lambda: inside.below(tmp_path, name, tmp_path / "state.json"),
    )


@pytest.mark.parametrize(
    "name",
    [
        "s3://lab/a/../../../home/me/.bashrc",
        "s3://lab/..",
        "S3://lab/./a.tif",
        "s3://lab/a/b/../c.tif",
        "/a/../../x.tif",
        "/../x.tif",
        "/a\0b.tif",
    ],
)
def test_no_file_is_fetched_to_a_place_outside(name: str) -> None:
    refused(Exit.MALFORMED_INPUT, "leads out of", lambda: staging.in_mirror("/m", name))


@pytest.mark.parametrize("name", ["s3://lab/a//b..c/d.tif", "/a/../b.tif", "/a/b/../../c.tif"])
def test_what_stays_inside_is_taken(name: str) -> None:
    assert staging.in_mirror("/m", name).startswith("/m/")


def test_the_check_names_the_lines_of_such_addresses(tmp_path: Path) -> None:
    path = tmp_path / "load_data.csv"
    path.write_text(
        "FileName_DNA,PathName_DNA,URL_Actin,Metadata_Well\n"
        "a.tif,s3://lab/x,s3://lab/x/a.tif,A01\n"
        "a.tif,s3://lab/x/../y,s3://lab/../b.tif,A02\n"
        "../a.tif,s3://lab/x,s3://lab/x/c.tif,A03\n",
        encoding="utf-8",
    )
    found = [f for f in of_list(path, ())[0] if f.code.name == "list-address"]
    assert {f.place: f.lines for f in found} == {"PathName_DNA": (3, 4), "URL_Actin": (3,)}


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    thesis.write_text("years")
    (tmp_path / "lock").symlink_to(thesis)

    def take() -> None:
        with hold(tmp_path / "lock", "it"):
            pass

    refused(Exit.NO_PERMISSION, "is a link", take)
    assert thesis.read_text() == "years"
