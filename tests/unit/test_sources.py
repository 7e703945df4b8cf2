from __future__ import annotations

from pathlib import Path

import pytest
from conftest import HOSTILE, refused
from s3server import Bucket, Proxy, S3Server

from bpcp import sources
from bpcp.access import Access
from bpcp.errors import Exit
from bpcp.s3 import Address
from bpcp.sources import Source

ROOT = Path("/data") / HOSTILE


def test_a_source_is_read_back() -> None:
    for found in (
        Source(),
        Source(Address("screens", "p q/ü"), Access("http://127.0.0.1:1", "lab")),
    ):
        assert Source.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (f"{ROOT}/plate 1/a %20.tif", ("screens", "p q/plate 1/a %20.tif")),
        (f"{ROOT}x/a.tif", None),
        ("/elsewhere/a.tif", None),
        ("s3://other/k/ü.tif", ("other", "k/ü.tif")),
        ("S3://other/k.tif", ("other", "k.tif")),
        ("https://example.org/a.tif", None),
    ],
)
def test_where_a_file_would_lie(name: str, place: tuple[str, str] | None) -> None:
    assert Source(Address("screens", "p q")).find(name, ROOT) == place


def test_without_an_input_address_only_s3_names_lie_in_a_bucket() -> None:
    assert Source().find(f"{ROOT}/a.tif", ROOT) is None
    assert Source().find("s3://other/a.tif", ROOT) == ("other", "a.tif")


def test_at_the_top_of_a_bucket() -> None:
    assert Source(Address("screens")).find(f"{ROOT}/a.tif", ROOT) == ("screens", "a.tif")


@pytest.mark.parametrize("many", [0, 300])
def test_what_is_there_is_found_by_folder_or_all_at_once(
    proxy: Proxy, server: S3Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    other = server.bucket()
    for key in ("p/1/a.tif", "p/1/b.tif", "p/2/ü +%.tif", "p/2/sub/c.tif", "p/top.tif", "px/a.tif"):
        bucket.put(key, key.encode())
    other.put("x/d.tif", b"1234")
    monkeypatch.setattr(sources, "_MANY_FOLDERS", many)
    names = [
        f"{ROOT}/1/a.tif",
        f"{ROOT}/2/ü +%.tif",
        f"{ROOT}/2/sub/c.tif",
        f"{ROOT}/top.tif",
        f"{ROOT}/3/gone.tif",
        "/elsewhere/a.tif",
        f"{other.url}/x/d.tif",
        f"{other.url}/x/gone.tif",
    ]
    found = Source(Address(bucket.name, "p"), Access(proxy.url)).look(names, ROOT)
    assert {name: size for name, (size, _, _) in found.items()} == {
        f"{ROOT}/1/a.tif": 9,
        f"{ROOT}/2/ü +%.tif": len("p/2/ü +%.tif".encode()),
        f"{ROOT}/2/sub/c.tif": 13,
        f"{ROOT}/top.tif": 9,
        f"{other.url}/x/d.tif": 4,
    }
    # each folder once, or everything below the address at once; the other bucket by folder
    assert proxy.asked("GET", f"/{bucket.name}?list-type") == (5 if many else 1)
    assert proxy.asked("GET", f"/{other.name}?list-type") == 1
    assert proxy.asked("GET", "delimiter=/") == (6 if many else 1)


def test_nothing_is_asked_where_nothing_is_wanted() -> None:
    # port 1 answers nobody
    assert Source(access=Access("http://127.0.0.1:1")).look(["/a.tif"], ROOT) == {}


def test_a_bucket_that_cannot_be_listed_is_named(
    proxy: Proxy, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = Access(proxy.url)
    refused(Exit.NO_INPUT, "s3://no-such-bucket", Source(access=access).look,
            ["s3://no-such-bucket/a.tif"], ROOT)  # fmt: skip
    refused(Exit.MALFORMED_INPUT, "Invalid bucket name", Source(access=access).look,
            ["s3://a b/c.tif"], ROOT)  # fmt: skip
    proxy.add("answer", bucket.name, status=403, code="AccessDenied")
    refused(Exit.NO_PERMISSION, bucket.url, Source(access=access).look,
            [f"{bucket.url}/a.tif"], ROOT)  # fmt: skip
    proxy.heal()
    monkeypatch.setenv("BPCP_PATIENCE_S", "0")
    proxy.add("answer", "no-answer", status=400, code="Trouble")
    refused(Exit.COPY_FAILED, "s3://no-answer", Source(access=access).look,
            ["s3://no-answer/a.tif"], ROOT)  # fmt: skip
