"""What boto's clients are told of where storage is, and their errors as ours. Imports neither of them.

obstore (`infra.s3`) moves our own objects; boto's clients do what it cannot: strangers' objects of any name, copies
bound to a version, presigned links, queues.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import Refused, SwapLost, Unavailable

_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*?))?/?")
_ABSENT = frozenset({"NoSuchKey", "NoSuchUpload", "404", "NotFound"})
_CHANGED = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})


@dataclass(frozen=True)
class Place:
    """A bucket and the keys below `prefix` in it (empty, or ending with `/`)."""

    bucket: str
    prefix: str = ""

    def full(self, key: str) -> str:
        return self.prefix + key


def parse_place(url: str, where: str = "storage") -> Place:
    """`s3://bucket` or `s3://bucket/prefix`, else Refused."""
    match = _URL.fullmatch(url)
    if match is None:
        raise Refused(where, "s3://bucket or s3://bucket/prefix", repr(url[:200]))
    return Place(match[1], f"{match[2]}/" if match[2] else "")


def client_options(environ: Mapping[str, str], *, endpoint: str = "", region: str = "") -> dict[str, Any]:
    """Arguments of `create_client`: address and keys from `environ`, as `infra.s3.open_s3` reads them.

    `endpoint` outranks AWS_ENDPOINT_URL. Without keys boto looks for the machine's own role.
    """
    options: dict[str, Any] = {"region_name": region or environ.get("AWS_REGION") or "us-east-1"}
    if address := endpoint or environ.get("AWS_ENDPOINT_URL"):
        options["endpoint_url"] = address
    if access_key := environ.get("AWS_ACCESS_KEY_ID"):
        options["aws_access_key_id"] = access_key
        options["aws_secret_access_key"] = environ.get("AWS_SECRET_ACCESS_KEY", "")
        options["aws_session_token"] = environ.get("AWS_SESSION_TOKEN") or None
    return options


def config_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of boto's Config for S3. A store of one's own seldom has a DNS name per bucket, so paths name them."""
    return {
        "signature_version": "s3v4",
        "s3": {"addressing_style": "path" if "endpoint_url" in options else "auto"},
        "retries": {"max_attempts": 5, "mode": "standard"},
        "connect_timeout": 10,
        "read_timeout": 60,
    }


@contextlib.contextmanager
def boto_errors(what: str) -> Iterator[None]:
    """FileNotFoundError for what is absent, SwapLost for a version that is gone, Unavailable for all else."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _ABSENT:
            raise FileNotFoundError(what) from error
        if code in _CHANGED:
            raise SwapLost(f"{what}: the object is not the one expected") from error
        raise Unavailable(f"{what}: the store failed: {error}") from error
    except (FileNotFoundError, FileExistsError):
        raise
    except (BotoCoreError, OSError, TimeoutError) as error:
        raise Unavailable(f"{what}: the store failed: {type(error).__name__}: {error}") from error
