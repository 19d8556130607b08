"""`runfeed push --to s3://…`: into the inbox, with the runner's own keys and nothing else.

What is said of the file goes with it as metadata, or in a sidecar that is written first where metadata has no room.
Each drop has a name of its own, so that nothing which comes later can meet it; a drop whose answer got lost is dropped
again and becomes the same submission. Keys are found as all AWS tools find them, and may be good for writing only.
"""

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from infra.aws import boto_errors, client_options, config_options, parse_place
from ingest.pack import Packed
from ingest.push import Dropped, OnBytes
from ingest.push_again import OnRetry, Unreachable, World, persist
from schemas import keys
from schemas.errors import Refused, Unavailable

MAX_METADATA_BYTES = 1800
"""S3 takes 2 KB, names included."""

_SIDECAR = ".context.json"
_NOT_LET_IN = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "ExpiredToken"})


def is_drop_url(url: str) -> bool:
    return url.startswith("s3://")


class DropBox:
    """The inbox of `runner` in the private bucket at `url` (`s3://bucket[/prefix]`); a Target."""

    def __init__(
        self,
        url: str,
        runner: str,
        environ: Mapping[str, str],
        *,
        ca: Path | None = None,
        world: World | None = None,
    ) -> None:
        if not runner:
            raise Refused("--runner", "the runner's name, as in inbox/NAME/", "none")
        self._runner = keys.checked_project(runner, "--runner")
        self._place = parse_place(url, "--to")
        self.url = f"{url.rstrip('/')}/inbox/{runner}"
        self._environ = environ
        self._ca = ca
        self._world = world or World()
        self._client: Any = None

    def submit(
        self,
        packed: Packed,
        timeout_seconds: float,
        *,
        on_bytes: OnBytes = lambda packed, sent: None,
        on_retry: OnRetry = lambda error, pause: None,
    ) -> Dropped:
        """Put `packed` into the inbox. Raises Refused, or the last attempt's Unavailable."""
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(8)}"
        key = self._place.full(f"inbox/{self._runner}/{name}")
        metadata, sidecar = make_metadata(packed)
        return persist(
            self._world, timeout_seconds, lambda _: self._drop(packed, key, metadata, sidecar, on_bytes), on_retry
        )

    def _drop(self, packed: Packed, key: str, metadata: dict[str, str], sidecar: bytes, on_bytes: OnBytes) -> Dropped:
        sent = 0

        def count(more: int) -> None:
            nonlocal sent
            sent += more
            on_bytes(packed, sent)

        if packed.path.stat().st_size != packed.size_bytes:
            raise Refused(packed.name, f"{packed.size_bytes:,} bytes, as when it was first read", "another size")
        on_bytes(packed, 0)
        try:
            with boto_errors(f"s3://{self._place.bucket}/{key}"):
                client = self._opened()
                if sidecar:
                    client.put_object(Bucket=self._place.bucket, Key=key + _SIDECAR, Body=sidecar)
                with open(packed.path, "rb") as file:
                    client.upload_fileobj(
                        file, self._place.bucket, key, ExtraArgs={"Metadata": metadata}, Callback=count
                    )
        except Unavailable as error:
            raise _explained(error) from error
        return Dropped(f"s3://{self._place.bucket}/{key}")

    def _opened(self) -> Any:
        if self._client is None:
            import boto3
            from botocore.config import Config

            options = client_options(self._environ)
            if "endpoint_url" not in options and not self._environ.get("AWS_REGION"):
                del options["region_name"]  # as the user's own configuration has it
            config = Config(**{**config_options(options), "retries": {"total_max_attempts": 2}})
            verify = str(self._ca) if self._ca else None
            self._client = boto3.session.Session().client("s3", config=config, verify=verify, **options)
        return self._client


def make_metadata(packed: Packed) -> tuple[dict[str, str], bytes]:
    """What is said of a file as an object's metadata, and as a sidecar if that has no room for it. Pure."""
    context = json.dumps(msgspec.to_builtins(packed.context), separators=(",", ":"))  # ASCII, as headers are
    metadata = {
        "project": packed.project,
        "format": packed.format,
        "media-type": packed.media_type,
        "context": context,
    }
    if sum(len(name) + len(value) for name, value in metadata.items()) <= MAX_METADATA_BYTES:
        return metadata, b""
    said = {
        "project": packed.project,
        "format": packed.format,
        "media_type": packed.media_type,
        "context": packed.context,
    }
    return {}, msgspec.json.encode(said)


def _explained(error: Unavailable) -> Unavailable | Refused:
    """Refused where trying again does not help: storage does not know us, or does not let us write there."""
    from botocore.exceptions import ClientError, NoCredentialsError

    cause = error.__cause__
    if isinstance(cause, NoCredentialsError):
        return Refused("AWS_ACCESS_KEY_ID", "keys that may write to the inbox", "none", status=401)
    code = cause.response.get("Error", {}).get("Code", "") if isinstance(cause, ClientError) else ""
    if code in _NOT_LET_IN:
        return Refused("--to", "storage that lets this runner write to its inbox", code, status=403)
    return Unreachable(str(error))
