"""S3: the one place that talks to a bucket.

Named objects are fetched by botocore, the library inside the AWS CLI; whole trees are moved by
`aws s3 sync`. Credentials and regions are found as the CLI finds them; none of them is ever written
down or put on a command line.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bpcp.access import GIVE_CREDENTIALS, Access
from bpcp.errors import BpcpError, Exit

if TYPE_CHECKING:
    from bpcp.workspace import Json

# Images of a plate are many and small: latency, not bandwidth, is what more connections hide.
CONNECTIONS = 32
# How long a service may be away before that counts as failure.
PATIENCE_S = 600.0
# A trouble that passes within seconds is not worth a word.
_SAY_AFTER_S = 4.0
_SAY_AGAIN_S = 60.0
_said = -_SAY_AGAIN_S
# The AWS CLI uploads files from this size on in parts of this size; S3's ETag tells which.
_PART = 8 << 20
_BUCKET = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$")
# Answers that stay the same, however often one asks: about an object, …
_FOR_GOOD = (
    "403",
    "404",
    "AccessDenied",
    "Forbidden",
    "InvalidBucketName",
    "InvalidObjectState",
    "NoSuchBucket",
    "NoSuchKey",
    "PermanentRedirect",
)
# … and about whoever asks.
_NO_ENTRY = (
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
)
_RENEW = "renew the credentials, then run the same command again"
# This machine's own trouble, which asking again does not mend.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What is said of an object that is not there, …
MISSING = "missing file"
# … and of one that may not be read.
_DENIED = "no permission to read it"
# For the AWS CLI: nobody watches its progress.
SILENT = ("--only-show-errors", "--no-progress")

T = TypeVar("T")


@dataclass(frozen=True)
class Address:
    """A place in a bucket: `s3://bucket/prefix`; the prefix is without slashes at its ends."""

    bucket: str
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an s3:// URL.

        Raises
        ------
        BpcpError
            64 where it is none.
        """
        scheme, _, rest = url.partition("://")
        bucket, _, prefix = rest.partition("/")
        if scheme.lower() != "s3" or not _BUCKET.match(bucket):
            # some write their keys before the bucket
            shown = re.sub(r"://.*@", "://…@", url)
            raise BpcpError(Exit.USAGE, f"not an S3 address: {shown}", "s3://BUCKET/PREFIX")
        return cls(bucket, prefix.strip("/"))

    def key(self, name: str) -> str:
        """Give the key of a name below this address."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def below(self, name: str) -> Address:
        """Give the address of a folder below this one."""
        return Address(self.bucket, self.key(name))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass(frozen=True)
class Remote:
    """An object, as a listing shows it.

    Attributes
    ----------
    size : int
        Bytes.
    mtime_ns : int
        When it was last written, nanoseconds since 1970; whole seconds, as `aws s3 sync` gives
        to the files that it makes of objects.
    etag : str
        The MD5 of its content, or what S3 makes up for objects that came in parts.
    """

    size: int
    mtime_ns: int
    etag: str


class GoneError(Exception):
    """An object that can't be had, however often it is asked for; the text says why."""


class NotPublicError(GoneError):
    """An object that an unsigned request can't have."""


def patience_s() -> float:
    """Give how long a service may be away; BPCP_PATIENCE_S sets it."""
    return float(os.environ.get("BPCP_PATIENCE_S") or PATIENCE_S)


@lru_cache
def client(access: Access, service: str = "s3") -> Any:
    """Make a client of a service; many threads may share it. See `Access.decided`.

    Raises
    ------
    BpcpError
        78 where the profile, the region or the credentials can't be had.
    """
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    try:
        session = botocore.session.Session(profile=access.profile or None)
        # a server elsewhere than at Amazon has no regions, but a signature names one
        region = session.get_config_variable("region") or ("us-east-1" if service == "s3" else None)
        if not access.unsigned and session.get_credentials() is None:
            raise BpcpError(Exit.BAD_SETTING, "no AWS credentials", GIVE_CREDENTIALS)
        return session.create_client(
            service,
            region_name=region,
            endpoint_url=access.endpoint_url or None,
            config=Config(
                signature_version=UNSIGNED if access.unsigned else None,
                max_pool_connections=CONNECTIONS,
                connect_timeout=10,
                read_timeout=60,
                retries={"mode": "standard", "total_max_attempts": 4},
            ),
        )
    except BotoCoreError as error:
        raise BpcpError(Exit.BAD_SETTING, f"AWS: {error}", "see --profile, AWS_REGION") from error


def patiently(what: str, action: Callable[[], T], patience: float | None = None) -> T:
    """Do something with S3, again and again while what fails may pass.

    Waits 1, 2, 4 … s in between, 30 s at most, each of them shortened by chance, so that many
    clients don't come back at the same moment.

    Raises
    ------
    GoneError
        Where it will never do: no such object, no permission.
    BpcpError
        74 where it did not for `patience` seconds; 77 with credentials that are no longer good;
        78 without any; 65 where what is asked for can't be the name of anything.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        ParamValidationError,
        SSOError,
        TokenRetrievalError,
    )
    from botocore.exceptions import HTTPClientError as HttpError

    end = time.monotonic() + (patience_s() if patience is None else patience)
    pause = 1.0
    while True:
        try:
            return action()
        except NoCredentialsError as error:
            raise BpcpError(Exit.BAD_SETTING, f"{what}: {error}", "--profile NAME") from error
        except (SSOError, TokenRetrievalError) as error:
            raise BpcpError(Exit.NO_PERMISSION, f"{what}: {error}", _RENEW) from error
        except ParamValidationError as error:
            why_not = str(error).splitlines()[-1].partition(": Bucket name must")[0]
            raise BpcpError(
                Exit.MALFORMED_INPUT, f"{what}: {why_not}", "s3://BUCKET/PREFIX"
            ) from error
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _NO_ENTRY:
                raise BpcpError(Exit.NO_PERMISSION, f"{what}: {error}", _RENEW) from error
            if code in _FOR_GOOD:
                raise GoneError(_plainly(code, error)) from error
            why: Exception = error
        except (BotoCoreError, HttpError, OSError, DamagedError) as error:
            if isinstance(error, OSError) and (error.filename or error.errno in _NO_ROOM):
                raise  # this machine's own: no room, no permission
            why = error
        if time.monotonic() + pause > end:
            raise BpcpError(
                Exit.COPY_FAILED, f"{what}: {why}", "see that the service is reached, then go on"
            ) from why
        _say_once(what, why, pause)
        time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 -- no secret
        pause = min(30.0, 2 * pause)


def _say_once(what: str, why: object, pause: float) -> None:
    """Tell whoever waits; of many requests that wait at the same time, for all."""
    global _said
    if pause >= _SAY_AFTER_S and time.monotonic() > _said + _SAY_AGAIN_S:
        _said = time.monotonic()
        print(f"waiting for S3: {what}: {why}", file=sys.stderr)


def _plainly(code: str, error: Exception) -> str:
    if code in ("404", "NoSuchKey"):
        return MISSING
    if code in ("403", "AccessDenied", "Forbidden"):
        return _DENIED
    return str(error)


class DamagedError(Exception):
    """What arrived is not what the server says that it has."""


def listing(access: Access, address: Address, delimiter: str = "") -> dict[str, Remote]:
    """List what lies below an address, all at once; else as `objects`."""
    return dict(objects(access, address, delimiter))


def objects(access: Access, address: Address, delimiter: str = "") -> Iterator[tuple[str, Remote]]:
    """Give what lies below an address, page by page: names relative to it, and what is there.

    Parameters
    ----------
    delimiter : str
        "/" leaves out what lies in folders below.

    Raises
    ------
    BpcpError
        66 where there is no such bucket, 77 where it may not be listed, 78 where it may not
        without credentials.
    """
    decided = access.decided(address.bucket)
    s3 = client(decided)
    start = f"{address.prefix}/" if address.prefix else ""
    token: dict[str, str] = {}
    while True:
        request = {"Bucket": address.bucket, "Prefix": start, "Delimiter": delimiter, **token}
        try:
            page = patiently(f"listing {address}", lambda r=request: s3.list_objects_v2(**r))  # type: ignore[misc]
        except GoneError as error:
            missing = "NoSuchBucket" in str(error) or str(error) == MISSING
            if not missing and decided.unsigned:
                raise not_public(str(address)) from None
            raise BpcpError(
                Exit.NO_INPUT if missing else Exit.NO_PERMISSION,
                f"{address}: {'no such bucket' if missing else error}",
                ""
                if missing
                else f"s3:ListBucket is needed; see ami_setup/iam{_or_unsigned(access)}",
            ) from None
        except BpcpError as error:
            if error.code == Exit.NO_PERMISSION:
                error.todo += _or_unsigned(access)
            raise
        for item in page.get("Contents", ()):
            name = item["Key"][len(start) :]
            if name and not name.endswith("/"):
                yield name, _remote(item, "Size")
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def not_public(place: str) -> BpcpError:
    """Give the error for what unsigned requests can't list or read."""
    return BpcpError(
        Exit.BAD_SETTING,
        f"{place}: no permission without credentials: not public",
        f"give credentials, and not --no-sign-request: {GIVE_CREDENTIALS}",
    )


def _or_unsigned(access: Access) -> str:
    """Name the option that reads public buckets, where it may help."""
    return "; for a public bucket, --no-sign-request" if access.unsigned is None else ""


def _remote(answer: Json, size: str) -> Remote:
    return Remote(
        int(answer[size]),
        int(answer["LastModified"].timestamp()) * 10**9,
        answer["ETag"].strip('"'),
    )


def fetch(
    access: Access, bucket: str, key: str, target: Path, temporary: Path | None = None
) -> Remote:
    """Fetch an object to a file, and verify it: by its size, and by its MD5 where S3 gives that.

    The file is there whole or not at all, with the time of the object.

    Parameters
    ----------
    temporary : Path, optional
        What it is called meanwhile, in the same folder; else a name that nobody else uses.

    Raises
    ------
    GoneError, BpcpError
        As `patiently`; NotPublicError where credentials are needed.
    OSError
        Where the file can't be written.
    """
    decided = access.decided(bucket)
    s3 = client(decided)

    def attempt() -> Remote:
        answer = s3.get_object(Bucket=bucket, Key=key)
        remote = _remote(answer, "ContentLength")
        total, size = hashlib.md5(usedforsecurity=False), 0
        target.parent.mkdir(parents=True, exist_ok=True)
        if temporary is None:
            handle, name = tempfile.mkstemp(prefix=".bpcp-", dir=target.parent)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            handle, name = os.open(temporary, flags, 0o600), str(temporary)
        try:
            with os.fdopen(handle, "wb") as file:
                for block in answer["Body"].iter_chunks(1 << 18):
                    total.update(block)
                    size += len(block)
                    file.write(block)
            plain = _is_md5(remote.etag) and not _is_keyed(answer)
            if size != remote.size or (plain and total.hexdigest() != remote.etag):
                raise DamagedError(f"{size} of {remote.size} bytes arrived, or other ones")
            os.utime(name, ns=(remote.mtime_ns, remote.mtime_ns))
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(name).unlink()
            raise
        return remote

    try:
        return patiently(f"s3://{bucket}/{key}", attempt)
    except GoneError as error:
        if decided.unsigned and str(error) == _DENIED:
            raise NotPublicError(f"{_DENIED} without credentials") from None
        raise


def _is_md5(etag: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{32}", etag) is not None


def _is_keyed(answer: Json) -> bool:
    """Tell whether an object is encrypted so that its ETag is not the MD5 of its content."""
    return "kms" in str(answer.get("ServerSideEncryption", "")) or "SSECustomerAlgorithm" in answer


def etag_of(path: Path, like: str) -> str:
    """Work out a file's ETag, as S3 would for an upload of the kind that `like` came from.

    Returns
    -------
    str
        "" where that can't be known: parts of a size other than the AWS CLI's.
    """
    count = like.partition("-")[2]
    with path.open("rb") as file:
        if not count:
            total = hashlib.md5(usedforsecurity=False)
            while block := file.read(1 << 20):
                total.update(block)
            return total.hexdigest()
        sums = []
        while block := file.read(_PART):
            sums.append(hashlib.md5(block, usedforsecurity=False).digest())
    if len(sums) != int(count):
        return ""
    return f"{hashlib.md5(b''.join(sums), usedforsecurity=False).hexdigest()}-{count}"


def is_same(access: Access, address: Address, name: str, remote: Remote, path: Path) -> bool:
    """Tell whether an object is a file's copy: by size, and by checksum where S3 gives one."""
    if path.stat().st_size != remote.size:
        return False
    own = etag_of(path, remote.etag)
    if not own or own == remote.etag:
        return True
    s3 = client(access)
    key = address.key(name)
    answer = patiently(str(address), lambda: s3.head_object(Bucket=address.bucket, Key=key))
    return _is_keyed(answer)


def aws(access: Access, words: Sequence[str], patience: float | None = None) -> None:
    """Run `aws s3`, again and again while what fails may pass; codes 1 and 2 are failures too.

    Raises
    ------
    BpcpError
        74 where it failed for good; 69 where there is no AWS CLI.
    """
    argv = [aws_command(), *access.options, "s3", *words]
    end = time.monotonic() + (patience_s() if patience is None else patience)
    pause = 1.0
    while True:
        done = subprocess.run(
            argv,
            env={"AWS_RETRY_MODE": "standard", "AWS_MAX_ATTEMPTS": "5", **os.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode == 0:
            return
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        why = lines[-1].strip() if lines else f"exit code {done.returncode}"
        for_good = any(f"({code})" in done.stderr for code in (*_FOR_GOOD, *_NO_ENTRY))
        if for_good or "credentials" in why.lower() or time.monotonic() + pause > end:
            raise BpcpError(
                Exit.COPY_FAILED,
                f"aws s3 {' '.join(words[:3])}: {why}",
                "see that the bucket and the permissions are right, then go on",
            )
        time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 -- no secret
        pause = min(30.0, 2 * pause)


def aws_command() -> str:
    """Find the AWS CLI, bpcp's own first.

    Raises
    ------
    BpcpError
        69 where there is none.
    """
    beside = Path(sys.executable).with_name("aws")
    found = str(beside) if beside.is_file() else shutil.which("aws")
    if found is None:
        raise BpcpError(Exit.UNAVAILABLE, "the AWS CLI is missing", "ami_setup/install.sh")
    return found
