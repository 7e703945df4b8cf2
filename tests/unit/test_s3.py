from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import s3server
from conftest import refused
from s3server import Bucket, Proxy, S3Server

from bpcp import s3
from bpcp.access import Access
from bpcp.errors import BpcpError, Exit
from bpcp.s3 import Address, DamagedError, GoneError, Remote, patiently

HOSTILE_KEYS = [
    "a b.tif",
    "it's.tif",
    'q"q.tif',
    "a;b.tif",
    "$(touch x).tif",
    "`y`.tif",
    "100%.tif",
    "%20.tif",
    "a+b.tif",
    "ü.tif",
    "日本/語.tif",
    "a&b?c#d.tif",
    "new\nline.tif",
    "a\\b.tif",
    "-p.tif",
    "*.tif",
]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Let no time pass but what bpcp waits, and remember that; `then` runs in each pause."""
    found = SimpleNamespace(now=0.0, pauses=[], then=lambda: None)

    def sleep(seconds: float) -> None:
        found.pauses.append(seconds)
        found.now += seconds
        found.then()

    monkeypatch.setattr(s3, "time", SimpleNamespace(monotonic=lambda: found.now, sleep=sleep))
    return found


def client_error(code: str) -> Exception:
    from botocore.exceptions import ClientError

    return ClientError({"Error": {"Code": code, "Message": "so be it"}}, "GetObject")


def failing(*errors: Exception) -> Callable[[], str]:
    """Give an action that raises these, one after another, and then is done."""
    todo = list(errors)

    def action() -> str:
        if todo:
            raise todo.pop(0)
        return "done"

    return action


# --- addresses and access ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://screens", "screens", ""),
        ("s3://screens/", "screens", ""),
        ("S3://screens/a/b/", "screens", "a/b"),
        ("s3://my.bucket-1/a b/ü%20", "my.bucket-1", "a b/ü%20"),
    ],
)
def test_an_address(url: str, bucket: str, prefix: str) -> None:
    address = Address.parse(url)
    assert (address.bucket, address.prefix) == (bucket, prefix)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "url", ["", "screens/a", "/screens", "s3:/screens", "s3://", "s3:///a", "s3://a b/c",
            "s3://-a/b", "http://screens/a", "s3://x"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    error = refused(Exit.USAGE, f"not an S3 address: {url}", Address.parse, url)
    assert "s3://BUCKET/PREFIX" in error.todo


def test_keys_written_before_a_bucket_are_not_shown() -> None:
    error = refused(
        Exit.USAGE, "s3://…@bucket/x", Address.parse, "s3://AKIAEXAMPLE:s3cr3t/+@x@bucket/x"
    )
    assert "s3cr3t" not in f"{error}{error.todo}"


def test_keys_below_an_address() -> None:
    assert Address("b").key("a/c.tif") == "a/c.tif"
    assert Address("b", "p/q").key("a.tif") == "p/q/a.tif"
    assert str(Address("b", "p").below("q")) == "s3://b/p/q"


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:9000", "https://s3.example.org/x"])
def test_an_endpoint(url: str) -> None:
    assert Access(url).checked().endpoint_url == url


@pytest.mark.parametrize(
    "url", ["https://me:pass1word@example.org", "https://pass1word@example.org/x"]
)
def test_a_password_in_an_endpoint_is_refused_and_not_said_again(url: str) -> None:
    error = refused(Exit.USAGE, "--endpoint-url", Access(url).checked)
    assert "pass1word" not in f"{error} {error.todo}"


@pytest.mark.parametrize("url", ["example.org", "ftp://example.org", "http://", "localhost:9000"])
def test_an_endpoint_that_is_no_url_is_refused(url: str) -> None:
    refused(Exit.USAGE, f"--endpoint-url {url}", Access(url).checked)


def test_access_is_written_down_without_credentials() -> None:
    access = Access("http://127.0.0.1:1", "lab")
    assert Access.from_json(access.to_json()) == access
    assert set(access.to_json()) == {"endpoint_url", "profile", "unsigned"}
    assert access.options == ["--endpoint-url", "http://127.0.0.1:1", "--profile", "lab"]
    assert Access().options == []


def test_without_credentials_it_is_78(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    refused(Exit.BAD_SETTING, "no AWS credentials", s3.client, Access("http://127.0.0.1:1"))


def test_a_profile_that_is_not_there_is_78() -> None:
    refused(Exit.BAD_SETTING, "nobody", s3.client, Access("http://127.0.0.1:1", "nobody"))


# --- patience ----------------------------------------------------------------------------------


def test_what_may_pass_is_tried_again(clock: SimpleNamespace) -> None:
    from botocore.exceptions import EndpointConnectionError

    action = failing(
        client_error("SlowDown"),
        client_error("InternalError"),
        EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        DamagedError("other bytes"),
    )
    assert patiently("it", action) == "done"
    for pause, longest in zip(clock.pauses, (1, 2, 4, 8, 16), strict=True):
        assert longest / 2 <= pause <= longest


def test_patience_ends(clock: SimpleNamespace) -> None:
    def action() -> None:
        raise client_error("SlowDown")

    error = refused(Exit.COPY_FAILED, "it: ", patiently, "it", action, 100)
    assert "SlowDown" in str(error)
    assert 60 <= clock.now <= 100
    assert max(clock.pauses) <= 30


def test_how_patient_it_is_can_be_set(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BPCP_PATIENCE_S", "0")
    refused(Exit.COPY_FAILED, "other", patiently, "it", failing(DamagedError("other")))
    assert clock.pauses == []
    monkeypatch.setenv("BPCP_PATIENCE_S", "5")
    assert patiently("it", failing(DamagedError("other"))) == "done"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("NoSuchKey", "missing file"),
        ("404", "missing file"),
        ("AccessDenied", "no permission to read it"),
        ("403", "no permission to read it"),
        ("NoSuchBucket", "NoSuchBucket"),
        ("InvalidObjectState", "InvalidObjectState"),
    ],
)
def test_what_stays_as_it_is_is_not_tried_again(
    clock: SimpleNamespace, code: str, words: str
) -> None:
    with pytest.raises(GoneError, match=words):
        patiently("it", failing(client_error(code)))
    assert clock.pauses == []


def test_without_credentials_nothing_is_tried_again(clock: SimpleNamespace) -> None:
    from botocore.exceptions import NoCredentialsError

    refused(Exit.BAD_SETTING, "it: ", patiently, "it", failing(NoCredentialsError()))
    assert clock.pauses == []


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_bad_credentials_are_no_fault_of_an_image(clock: SimpleNamespace, code: str) -> None:
    error = refused(Exit.NO_PERMISSION, code, patiently, "it", failing(client_error(code)))
    assert "renew the credentials" in error.todo
    assert clock.pauses == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        PermissionError(errno.EACCES, "Permission denied", "/images"),
    ],
)
def test_what_is_this_machines_own_trouble_is_not_tried_again(
    clock: SimpleNamespace, error: OSError
) -> None:
    with pytest.raises(OSError, match=error.strerror) as caught:
        patiently("it", failing(error))
    assert caught.value is error
    assert clock.pauses == []


def test_a_request_that_can_never_be_sent_is_not_tried_again(
    clock: SimpleNamespace, server: S3Server
) -> None:
    access = Access(server.url)
    refused(Exit.MALFORMED_INPUT, "Invalid bucket name", s3.listing, access, Address("a b"))
    assert clock.pauses == []


# --- listing -----------------------------------------------------------------------------------


def test_a_listing(server: S3Server, bucket: Bucket) -> None:
    bucket.put("p/a.tif", b"12345")
    bucket.put("p/q/b.tif", b"")
    bucket.put("p/q/", b"")
    bucket.put("pq.tif", b"other")
    found = s3.listing(Access(server.url), Address(bucket.name, "p"))
    # a folder's own mark is none of its files
    assert set(found) == {"a.tif", "q/b.tif"}
    assert found["a.tif"].size == 5
    assert found["a.tif"].etag == hashlib.md5(b"12345", usedforsecurity=False).hexdigest()
    assert found["a.tif"].mtime_ns % 10**9 == 0
    assert set(s3.listing(Access(server.url), Address(bucket.name, "p"), "/")) == {"a.tif"}
    assert set(s3.listing(Access(server.url), Address(bucket.name))) == {
        "p/a.tif", "p/q/b.tif", "pq.tif",
    }  # fmt: skip
    assert s3.listing(Access(server.url), Address(bucket.name, "nothing")) == {}


def test_a_listing_of_many_pages(proxy: Proxy, bucket: Bucket) -> None:
    for i in range(7):
        bucket.put(f"p/{i} +.tif", b"x" * i)
    access = Access(proxy.url, unsigned=False)
    events = s3.client(access).meta.events
    pages = ("provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 2})
    events.register(*pages)
    try:
        found = s3.listing(access, Address(bucket.name, "p"))
    finally:
        events.unregister(*pages)
    assert {name: remote.size for name, remote in found.items()} == {
        f"{i} +.tif": i for i in range(7)
    }
    assert proxy.asked("GET", "list-type=2") == 4


def test_a_bucket_that_is_not_there_is_66(server: S3Server) -> None:
    address = Address("no-such-bucket", "p")
    what = "s3://no-such-bucket/p: no such bucket"
    refused(Exit.NO_INPUT, what, s3.listing, Access(server.url), address)


def test_a_bucket_that_may_not_be_listed_is_77(proxy: Proxy, bucket: Bucket) -> None:
    proxy.add("answer", "list-type", status=403, code="AccessDenied")
    error = refused(
        Exit.NO_PERMISSION, bucket.url, s3.listing, Access(proxy.url), Address(bucket.name)
    )
    assert "s3:ListBucket" in error.todo
    assert len(proxy.requests) == 1


# --- fetching ----------------------------------------------------------------------------------


def fetched(proxy: Proxy, bucket: Bucket, key: str, target: Path) -> Remote:
    return s3.fetch(Access(proxy.url), bucket.name, key, target)


def test_a_file_arrives_with_its_time(proxy: Proxy, bucket: Bucket, tmp_path: Path) -> None:
    data = os.urandom(700_000)
    bucket.put("p/a.tif", data)
    listed = s3.listing(Access(proxy.url), Address(bucket.name, "p"))["a.tif"]
    target = tmp_path / "new" / "folder" / "a.tif"
    assert fetched(proxy, bucket, "p/a.tif", target) == listed
    assert target.read_bytes() == data
    assert target.stat().st_mtime_ns == listed.mtime_ns
    assert target.stat().st_mode & 0o777 == 0o644
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_any_name_arrives(server: S3Server, bucket: Bucket, tmp_path: Path, key: str) -> None:
    bucket.put(f"p q/{key}", key.encode())
    bucket.put(f"p q/{key}x", b"another")
    access = Access(server.url)
    assert key in s3.listing(access, Address(bucket.name, "p q"))
    s3.fetch(access, bucket.name, f"p q/{key}", tmp_path / key)
    assert (tmp_path / key).read_bytes() == key.encode()


def test_an_empty_file_arrives(proxy: Proxy, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a.tif", b"")
    assert fetched(proxy, bucket, "a.tif", tmp_path / "a.tif").size == 0
    assert (tmp_path / "a.tif").read_bytes() == b""


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("kind", "more"), [("damage", {}), ("cut", {"after": 0}), ("cut", {"after": 300_000})]
)
def test_what_arrives_damaged_is_fetched_again(
    proxy: Proxy, bucket: Bucket, tmp_path: Path, kind: str, more: dict[str, Any]
) -> None:
    data = os.urandom(600_000)
    bucket.put("a.tif", data)
    fault = proxy.add(kind, "a.tif", times=2, **more)
    fetched(proxy, bucket, "a.tif", tmp_path / "a.tif")
    assert fault.met.is_set()
    assert (tmp_path / "a.tif").read_bytes() == data
    assert proxy.asked("GET", "a.tif") >= 3


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("kind", ["damage", "cut"])
def test_what_stays_damaged_leaves_no_file(
    proxy: Proxy, bucket: Bucket, tmp_path: Path, kind: str
) -> None:
    bucket.put("a.tif", b"x" * 600_000)
    proxy.add(kind, "a.tif", after=300_000)
    target = tmp_path / "a.tif"
    refused(Exit.COPY_FAILED, f"{bucket.url}/a.tif: ", fetched, proxy, bucket, "a.tif", target)
    assert list(tmp_path.iterdir()) == []
    # and what stood there before stays
    target.write_bytes(b"of yesterday")
    refused(Exit.COPY_FAILED, "a.tif", fetched, proxy, bucket, "a.tif", target)
    assert target.read_bytes() == b"of yesterday"


@pytest.mark.parametrize(
    ("key", "status", "code", "words"),
    [
        ("gone.tif", 0, "", "missing file"),
        ("a.tif", 403, "AccessDenied", "no permission to read it"),
        ("a.tif", 403, "InvalidObjectState", "InvalidObjectState"),
    ],
)
def test_what_can_never_be_had_is_asked_for_once(
    proxy: Proxy, bucket: Bucket, tmp_path: Path, key: str, status: int, code: str, words: str
) -> None:
    bucket.put("a.tif", b"x")
    if status:
        proxy.add("answer", "a.tif", status=status, code=code)
    with pytest.raises(GoneError, match=words):
        fetched(proxy, bucket, key, tmp_path / "a.tif")
    assert len(proxy.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_busy_is_asked_again(proxy: Proxy, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a.tif", b"x")
    proxy.add("answer", "a.tif", times=1, status=503, code="SlowDown")
    fetched(proxy, bucket, "a.tif", tmp_path / "a.tif")
    assert proxy.asked("GET", "a.tif") == 2


def test_a_server_that_was_killed_is_waited_for(
    server: S3Server, bucket: Bucket, tmp_path: Path, clock: SimpleNamespace
) -> None:
    bucket.put("a.tif", b"still there")
    server.kill()
    clock.then = server.start
    try:
        s3.fetch(Access(server.url), bucket.name, "a.tif", tmp_path / "a.tif")
    finally:
        if not clock.pauses:
            server.start()
    assert len(clock.pauses) == 1
    assert (tmp_path / "a.tif").read_bytes() == b"still there"


def test_a_file_that_cannot_be_written_is_not_tried_again(
    proxy: Proxy, bucket: Bucket, tmp_path: Path, clock: SimpleNamespace
) -> None:
    bucket.put("a.tif", b"x")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        fetched(proxy, bucket, "a.tif", tmp_path / "file" / "a.tif")
    assert clock.pauses == []


# --- checksums ---------------------------------------------------------------------------------


def upload(url: str, path: Path, address: str) -> None:
    subprocess.run(
        [s3.aws_command(), "--endpoint-url", url, "s3", "cp", "--only-show-errors",
         str(path), address],
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
        check=True, capture_output=True,
    )  # fmt: skip


def change_last_byte(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_an_uploads_etag_is_worked_out(server: S3Server, bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "a b.tif"
    path.write_bytes(os.urandom(3 << 20))
    upload(server.url, path, f"{bucket.url}/p/a b.tif")
    access, address = Access(server.url), Address(bucket.name, "p")
    (remote,) = s3.listing(access, address).values()
    assert s3.etag_of(path, remote.etag) == remote.etag
    assert s3.is_same(access, address, "a b.tif", remote, path)
    change_last_byte(path)
    assert not s3.is_same(access, address, "a b.tif", remote, path)
    path.write_bytes(b"another size")
    assert not s3.is_same(access, address, "a b.tif", remote, path)


def test_the_etag_of_an_upload_in_parts_is_worked_out(
    tmp_path: Path,
) -> None:
    # s3rver gives the MD5 of the whole; this server does as Amazon does
    from moto.server import ThreadedMotoServer

    parts = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    parts.start()
    try:
        access = Access("http://{}:{}".format(*parts.get_host_and_port()))
        s3.client(access).create_bucket(Bucket="parts")
        path = tmp_path / "big.tif"
        path.write_bytes(os.urandom(9 << 20))
        upload(access.endpoint_url, path, "s3://parts/p/big.tif")
        address = Address("parts", "p")
        (remote,) = s3.listing(access, address).values()
        assert remote.etag.endswith("-2")
        assert s3.etag_of(path, remote.etag) == remote.etag
        assert s3.is_same(access, address, "big.tif", remote, path)
        # fetched, it is verified by its size
        assert s3.fetch(access, "parts", "p/big.tif", tmp_path / "back.tif") == remote
        assert (tmp_path / "back.tif").read_bytes() == path.read_bytes()
        change_last_byte(path)
        assert not s3.is_same(access, address, "big.tif", remote, path)
    finally:
        parts.stop()


def test_parts_of_another_size_tell_nothing_but_the_size(
    server: S3Server, bucket: Bucket, tmp_path: Path
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"x" * 1000)
    remote = Remote(1000, 0, f"{'0' * 32}-3")
    assert s3.etag_of(path, remote.etag) == ""
    assert s3.is_same(Access(server.url), Address(bucket.name), "a.tif", remote, path)


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        ({}, False),
        ({"ServerSideEncryption": "AES256"}, False),
        ({"ServerSideEncryption": "aws:kms"}, True),
        ({"SSECustomerAlgorithm": "AES256"}, True),
    ],
)
def test_the_etag_of_what_is_encrypted_by_a_key_is_no_md5(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: dict[str, str], same: bool
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"x")
    fake = SimpleNamespace(head_object=lambda **_: answer)
    monkeypatch.setattr(s3, "client", lambda _: fake)
    found = s3.is_same(Access(), Address("bucket"), "a.tif", Remote(1, 0, "0" * 32), path)
    assert found is same


# --- the AWS CLI -------------------------------------------------------------------------------


def fake_aws(
    monkeypatch: pytest.MonkeyPatch, folder: Path, codes: tuple[int, ...], said: str = "trouble"
) -> Callable[[], list[list[str]]]:
    """Put an `aws` in place that ends with these codes; give what it was called with."""
    script, log = folder / "aws", folder / "calls"
    script.write_text(
        "#!/usr/bin/env bash\n"
        f"printf '%s\\n' '#' \"$@\" >>'{log}'\n"
        f"codes=({' '.join(str(code) for code in codes)})\n"
        f"n=$(grep -c '^#$' '{log}')\n"
        f"printf '%s\\n' '' {said!r} >&2\n"
        'exit "${codes[n - 1]}"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(s3, "aws_command", lambda: str(script))
    return lambda: [call.split("\n")[1:-1] for call in log.read_text().split("#")[1:]]


def test_the_aws_cli_is_given_words_not_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: SimpleNamespace
) -> None:
    calls = fake_aws(monkeypatch, tmp_path, (0,))
    s3.aws(Access("http://127.0.0.1:1", "lab"), ["sync", "a b; $(x)", "s3://b/ü"])
    assert calls() == [
        ["--endpoint-url", "http://127.0.0.1:1", "--profile", "lab", "s3", "sync", "a b; $(x)",
         "s3://b/ü"]
    ]  # fmt: skip
    assert clock.pauses == []


@pytest.mark.parametrize("code", [1, 2, 255])
def test_any_code_of_the_aws_cli_but_0_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: SimpleNamespace, code: int
) -> None:
    calls = fake_aws(monkeypatch, tmp_path, (code, code, 0))
    s3.aws(Access(), ["sync", "a", "b"])
    assert len(calls()) == 3
    assert len(clock.pauses) == 2


def test_the_aws_cli_is_given_up_after_a_while(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: SimpleNamespace
) -> None:
    calls = fake_aws(monkeypatch, tmp_path, (1,) * 20, "could not connect")
    refused(Exit.COPY_FAILED, "aws s3 sync a b: could not connect",
            s3.aws, Access(), ["sync", "a", "b", "--x"], 10)  # fmt: skip
    assert 1 < len(calls()) < 10
    assert clock.now <= 10


@pytest.mark.parametrize(
    "said",
    [
        "upload failed: An error occurred (AccessDenied) when calling the PutObject operation",
        "fatal error: An error occurred (NoSuchBucket) when calling the ListObjectsV2 operation",
        "fatal error: An error occurred (404) when calling the HeadObject operation: Not Found",
        "fatal error: Unable to locate credentials",
    ],
)
def test_what_the_aws_cli_fails_at_for_good_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: SimpleNamespace, said: str
) -> None:
    calls = fake_aws(monkeypatch, tmp_path, (1, 0), said)
    refused(Exit.COPY_FAILED, said, s3.aws, Access(), ["cp", "a", "b"])
    assert len(calls()) == 1
    assert clock.pauses == []


def test_the_real_aws_cli(server: S3Server, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "a b.tif").write_bytes(b"x")
    access = Access(server.url)
    s3.aws(access, ["cp", "--only-show-errors", str(tmp_path / "a b.tif"), f"{bucket.url}/ü/"])
    assert bucket.get("ü/a b.tif") == b"x"
    with pytest.raises(BpcpError) as caught:
        s3.aws(access, ["cp", f"{bucket.url}/gone", str(tmp_path / "gone")])
    assert caught.value.code == Exit.COPY_FAILED


def test_without_an_aws_cli_it_is_69(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(s3.sys, "executable", str(tmp_path / "python"))
    error = refused(Exit.UNAVAILABLE, "the AWS CLI is missing", s3.aws, Access(), ["ls"])
    assert "install.sh" in error.todo


# --- what the tests stand on -------------------------------------------------------------------


def test_nothing_of_the_users_own_leaks_into_a_test() -> None:
    assert os.environ["AWS_ACCESS_KEY_ID"] == s3server.KEY
    assert os.environ["AWS_EC2_METADATA_DISABLED"] == "true"
    assert not Path(os.environ["AWS_CONFIG_FILE"]).exists()
    kept = {name for name in os.environ if s3server.is_foreign(name)}
    assert kept == {name for name in s3server.environment(Path()) if name.startswith("AWS_")}
