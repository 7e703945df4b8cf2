"""A stand-in for what AWS decides about who asks: it stands before the S3 server, on loopback.

Signed requests of keys that it does not know are refused, as S3 refuses InvalidAccessKeyId;
anonymous ones may read and list public buckets and nothing else. What the owner of the one key
does is passed on. Real policies have more to say; this holds what bpcp's requests meet.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from s3server import KEY, Fault, Proxy, S3Server

from bpcp import access, s3


class Gate(Proxy):
    """Refuses as AWS does.

    Attributes
    ----------
    public : set of str
        Names of buckets that everybody may list and read.
    secret : set of str
        Parts of paths that nobody may read without credentials, in a public bucket either.
    signed : list of str
        Paths of the signed requests so far.
    """

    def __init__(self, server: S3Server) -> None:
        super().__init__(server)
        self.public: set[str] = set()
        self.secret: set[str] = set()
        self.signed: list[str] = []

    def refusal(self, method: str, path: str, authorization: str) -> Fault | None:
        if authorization:
            self.signed.append(path)
            if f"Credential={KEY}/" in authorization:
                return None
            return Fault("answer", status=403, code="InvalidAccessKeyId")
        bucket = path.lstrip("/").partition("/")[0].partition("?")[0]
        reads = method in ("GET", "HEAD") and bucket in self.public
        if reads and not any(part in path for part in self.secret):
            return None
        return Fault("answer", status=403, code="AccessDenied")


@pytest.fixture
def gate(server: S3Server) -> Iterator[Gate]:
    found = Gate(server)
    yield found
    found.close()


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take the keys of `s3server.environment` away, and forget what was found before."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    forget()
    yield
    forget()


def strangers_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give keys that nobody knows."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "STRANGER")
    forget()


def forget() -> None:
    """Let credentials be looked for again, as a new process does."""
    access.has_credentials.cache_clear()
    access._said.clear()
    s3.client.cache_clear()
