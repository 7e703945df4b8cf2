"""How S3 is reached: the service, the profile, and whether requests are signed.

Credentials are found as the AWS CLI finds them. Public buckets need none: requests to them may be
unsigned, which the AWS CLI's option --no-sign-request asks for.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bpcp.errors import BpcpError, Exit

if TYPE_CHECKING:
    from bpcp.workspace import Json

# What to do where there are none.
GIVE_CREDENTIALS = "an instance role, `aws configure`, --profile NAME, or the AWS_ variables"
# Buckets that are read unsigned, and of which that was said.
_said: set[str] = set()


@dataclass(frozen=True)
class Access:
    """How S3 is reached, beside what the environment says.

    Attributes
    ----------
    endpoint_url : str
        Another service than Amazon's, or "".
    profile : str
        A profile of the AWS CLI's configuration, or "".
    unsigned : bool or None
        Whether requests are unsigned; None is for reading: unsigned where there are no
        credentials.
    quiet : bool
        Whether that is not said.
    """

    endpoint_url: str = ""
    profile: str = ""
    unsigned: bool | None = None
    quiet: bool = field(default=False, compare=False)

    @classmethod
    def to_read(cls, args: argparse.Namespace) -> Access:
        """Give what a command's options ask for; see `add_options`.

        Raises
        ------
        BpcpError
            64 as `checked`.
        """
        unsigned = True if args.no_sign_request else None
        return cls(args.endpoint_url, args.profile, unsigned, args.quiet).checked()

    def to_write(self) -> Access:
        """Give the same service with signed requests: nobody may write without credentials."""
        return replace(self, unsigned=False)

    def checked(self) -> Access:
        """Give itself.

        Raises
        ------
        BpcpError
            64 where the endpoint is no URL, or holds a password: that would be in every log.
        """
        if self.endpoint_url:
            parts = urlsplit(self.endpoint_url)
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
                raise BpcpError(
                    Exit.USAGE,
                    f"--endpoint-url {re.sub(r'//.*@', '//…@', self.endpoint_url)}: not a plain"
                    " http or https URL",
                    "credentials belong into a profile or the environment, never into a URL",
                )
        return self

    def decided(self, *buckets: str) -> Access:
        """Give itself as requests are made: signed or unsigned, where that was open.

        Buckets that are read unsigned for lack of credentials are named once, on stderr.

        Raises
        ------
        BpcpError
            78 where requests are to be signed and there are no credentials, or where these or
            the profile can't be read.
        """
        if self.unsigned or has_credentials(self.profile):
            return replace(self, unsigned=bool(self.unsigned))
        names = ", ".join(f"s3://{bucket}" for bucket in buckets)
        if self.unsigned is False:
            raise BpcpError(Exit.BAD_SETTING, f"{names}: no AWS credentials", GIVE_CREDENTIALS)
        if not self.quiet and not _said.issuperset(buckets):
            _said.update(buckets)
            words = f"no AWS credentials: reading {names} unsigned, as public buckets allow"
            print(words, file=sys.stderr)
        return replace(self, unsigned=True)

    @property
    def options(self) -> list[str]:
        """Options of the AWS CLI."""
        return [
            *(["--endpoint-url", self.endpoint_url] if self.endpoint_url else []),
            *(["--profile", self.profile] if self.profile else []),
            *(["--no-sign-request"] if self.unsigned else []),
        ]

    def to_json(self) -> Json:
        """Give what goes into a state file."""
        return {
            "endpoint_url": self.endpoint_url,
            "profile": self.profile,
            "unsigned": self.unsigned,
        }

    @classmethod
    def from_json(cls, found: Json) -> Access:
        """Read it back."""
        # earlier versions signed all requests
        unsigned = found.get("unsigned", False)
        return cls(found.get("endpoint_url", ""), found.get("profile", ""), unsigned)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let a command take the options that say how S3 is reached."""
    parser.add_argument("--endpoint-url", default="")
    parser.add_argument("--profile", default="")
    parser.add_argument("--no-sign-request", action="store_true")


@lru_cache
def has_credentials(profile: str = "") -> bool:
    """Tell whether botocore finds credentials, expired ones among them.

    Where none is configured, it asks the instance's metadata service last: 2 s on a machine that
    has none and gets no answer (botocore's metadata_service_timeout, twice), none where
    AWS_EC2_METADATA_DISABLED is true.
    """
    import botocore.session
    from botocore.exceptions import BotoCoreError

    try:
        return botocore.session.Session(profile=profile or None).get_credentials() is not None
    except BotoCoreError as error:
        raise BpcpError(Exit.BAD_SETTING, f"AWS: {error}", "see --profile") from error
