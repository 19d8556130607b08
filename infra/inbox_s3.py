"""The inbox in S3, through aiobotocore: many objects at once in one thread.

Every verb names the version that it means (`IfMatch`, `CopySourceIfMatch`). AWS and SeaweedFS hold to all of them. A
store that ignores the condition of a copy is found out when the inbox is opened, and then nothing is copied there: the
bytes pass through ingest instead. A store that ignores the condition of a delete is asked for the object's etag right
before; what is dropped under the same name in the milliseconds between is lost there, unless names are used once.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientPayloadError
from botocore.exceptions import ClientError

from infra.aws import Place, boto_errors, client_options, config_options, parse_place
from infra.inbox import PREFIX, Arrival, Inbox
from schemas.errors import SwapLost, Unavailable

CONNECTIONS = 64
_PIECE_BYTES = 1 << 20
_UNKNOWN_CONDITION = (400, 405, 501)
_NO_ETAG = '"00000000000000000000000000000000"'


@dataclass(frozen=True)
class Traits:
    """What a store holds to."""

    copies_by_version: bool
    deletes_by_version: bool


class S3Inboxes:
    """Opens the inbox of the private bucket, for the event loop that asks; both are `s3://bucket[/prefix]`.

    What the store can do is found out once. Each thread wants one of its own: botocore's sessions are not shared.
    """

    def __init__(self, public: str, private: str, environ: Mapping[str, str]) -> None:
        self._public = parse_place(public, "bucket")
        self._private = parse_place(private, "private_bucket")
        self._options = client_options(environ)
        self._session = get_session()
        self._traits: Traits | None = None

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[Inbox]:
        config = AioConfig(max_pool_connections=CONNECTIONS, **config_options(self._options))
        async with self._session.create_client("s3", config=config, **self._options) as client:
            if self._traits is None:
                self._traits = await find_traits(client, self._public, self._private)
            yield S3Inbox(client, self._public, self._private, self._traits)


async def find_traits(client: Any, public: Place, private: Place) -> Traits:
    """Whether the store holds to the conditions of copies and deletes. Writes and deletes `probe/…`."""
    key = f"probe/{secrets.token_hex(8)}/inbox"
    source, copied = ({"Bucket": place.bucket, "Key": place.full(key)} for place in (private, public))
    with boto_errors(key):
        await client.put_object(**source, Body=b"1")
    copies = False
    try:
        copies = await _refused(client.copy_object(**copied, CopySource=source, CopySourceIfMatch=_NO_ETAG))
        deletes = await _refused(client.delete_object(**source, IfMatch=_NO_ETAG))
    finally:
        with boto_errors(key):
            await client.delete_object(**source)
            if not copies:
                await client.delete_object(**copied)
    return Traits(copies, deletes)


async def _refused(call: Any) -> bool:
    """Whether the store refuses `call` for its condition, rather than for anything else or not at all."""
    try:
        with boto_errors("probe"):
            await call
    except SwapLost:
        return True
    except Unavailable as error:
        if not isinstance(error.__cause__, ClientError) or _status(error.__cause__) not in _UNKNOWN_CONDITION:
            raise
    return False


class S3Inbox:
    """Implements `infra.inbox.Inbox`."""

    def __init__(self, client: Any, public: Place, private: Place, traits: Traits) -> None:
        self.copies = traits.copies_by_version
        self._deletes_by_version = traits.deletes_by_version
        self._client = client
        self._public = public
        self._private = private

    async def folders(self) -> list[str]:
        start = self._private.full(PREFIX)
        return [
            prefix["Prefix"].removeprefix(start).rstrip("/")
            async for page in self._pages(Prefix=start, Delimiter="/")
            for prefix in page.get("CommonPrefixes", [])
        ]

    async def list(self, prefix: str) -> AsyncIterator[Arrival]:
        async for page in self._pages(Prefix=self._private.full(prefix)):
            for found in page.get("Contents", []):
                key = found["Key"].removeprefix(self._private.prefix)
                yield Arrival(key, found["Size"], _plain(found["ETag"]), found["LastModified"].replace(microsecond=0))

    async def _pages(self, **wanted: str) -> AsyncIterator[Any]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._private.bucket, **wanted)
        with boto_errors(wanted["Prefix"]):
            async for page in pages:
                yield page

    @contextlib.asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[tuple[Arrival, AsyncIterator[bytes]]]:
        with boto_errors(key):
            got = await self._client.get_object(**self._address(key))
        body = got["Body"]
        try:
            arrival = Arrival(
                key,
                got["ContentLength"],
                _plain(got["ETag"]),
                got["LastModified"].replace(microsecond=0),
                got.get("Metadata", {}),
                got.get("ContentType", ""),
            )
            yield arrival, _pieces(key, body)
        finally:
            body.close()

    async def copy(self, arrival: Arrival, key: str) -> None:
        try:
            with boto_errors(arrival.key):
                await self._client.copy_object(
                    Bucket=self._public.bucket,
                    Key=self._public.full(key),
                    CopySource=self._address(arrival.key),
                    CopySourceIfMatch=f'"{arrival.etag}"',
                    IfNoneMatch="*",
                    MetadataDirective="REPLACE",  # what the runner said of it is not for everybody
                    TaggingDirective="REPLACE",
                    ContentType="application/octet-stream",
                )
        except SwapLost:
            # One of the two conditions failed. If the version is still there, it was the other: the blob is known.
            await self._check_unchanged(arrival)
            with boto_errors(key):
                await self._client.head_object(Bucket=self._public.bucket, Key=self._public.full(key))

    async def remove(self, arrival: Arrival) -> None:
        condition = {"IfMatch": f'"{arrival.etag}"'}
        try:
            if not self._deletes_by_version:
                await self._check_unchanged(arrival)
                condition = {}
            with boto_errors(arrival.key):
                await self._client.delete_object(**self._address(arrival.key), **condition)
        except (FileNotFoundError, SwapLost):
            return

    async def _check_unchanged(self, arrival: Arrival) -> None:
        with boto_errors(arrival.key):
            head = await self._client.head_object(**self._address(arrival.key))
        if _plain(head["ETag"]) != arrival.etag:
            raise SwapLost(f"{arrival.key}: replaced meanwhile")

    def _address(self, key: str) -> dict[str, str]:
        return {"Bucket": self._private.bucket, "Key": self._private.full(key)}


async def _pieces(key: str, body: Any) -> AsyncIterator[bytes]:
    while True:
        try:
            with boto_errors(key):
                piece: bytes = await body.read(_PIECE_BYTES)
        except ClientPayloadError as error:  # which botocore does not know
            raise Unavailable(f"{key}: the store broke off: {error}") from error
        if not piece:
            return
        yield piece


def _plain(etag: str) -> str:
    """Stores differ in whether an etag has its quotes."""
    return etag.strip('"')


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
