"""The queue that tells of new objects: S3's event notifications in SQS, through aiobotocore.

A message is a hint and nothing more: it may come twice, late or never, and anybody who may send to the queue may have
written it. Its objects' keys are all that is taken from it, and whatever comes of them it is deleted afterwards; what
it was lost for is found by listing.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from infra.aws import Place, boto_errors, client_options

WAIT_SECONDS = 20
"""How long SQS holds a question that it has no message for; longer it cannot."""

AT_ONCE = 10
_LARGEST_MESSAGE = 1 << 20
_SQS_HOST = re.compile(r"sqs\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")


class _Named(msgspec.Struct):
    name: str


class _Object(msgspec.Struct):
    key: str


class _S3(msgspec.Struct):
    bucket: _Named
    object: _Object


class _Record(msgspec.Struct, rename={"event": "eventName"}):
    s3: _S3
    event: str = ""


class _Message(msgspec.Struct, rename={"records": "Records", "inner": "Message"}):
    """Of S3 itself (`Records`), of SNS around it (`Message`), or of EventBridge (`detail`)."""

    records: list[_Record] = []
    inner: str = ""
    detail: _S3 | None = None


def parse_message(body: str, place: Place) -> list[str]:
    """The keys below `place` of which a message says that there is a new object; none of a message about anything
    else, such as S3's `s3:TestEvent`. ValueError for one that nobody can read. Pure."""
    if len(body) > _LARGEST_MESSAGE:
        raise ValueError(f"a message of {len(body):,} characters")
    try:
        message = msgspec.json.decode(body, type=_Message)
        if message.inner:
            message = msgspec.json.decode(message.inner, type=_Message)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(str(error)) from error
    found = [
        (record.s3.bucket.name, unquote_plus(record.s3.object.key))
        for record in message.records
        if "ObjectRemoved" not in record.event
    ]
    if message.detail is not None:  # EventBridge does not encode
        found.append((message.detail.bucket.name, message.detail.object.key))
    keys = [key for bucket, key in found if bucket == place.bucket and key.startswith(place.prefix)]
    return list(dict.fromkeys(key.removeprefix(place.prefix) for key in keys))


class EventQueue:
    """An SQS queue, for one event loop."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    async def receive(self) -> list[tuple[str, str]]:
        """(receipt handle, body) of the messages that are there, waiting for the first one."""
        with boto_errors("inbox_queue"):
            answer = await self._client.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=AT_ONCE, WaitTimeSeconds=WAIT_SECONDS
            )
        return [(one["ReceiptHandle"], one.get("Body", "")) for one in answer.get("Messages", [])]

    async def delete(self, handle: str) -> None:
        with contextlib.suppress(FileNotFoundError), boto_errors("inbox_queue"):
            await self._client.delete_message(QueueUrl=self._url, ReceiptHandle=handle)


@contextlib.asynccontextmanager
async def open_queue(url: str, environ: Mapping[str, str]) -> AsyncIterator[EventQueue]:
    """The queue at `url`, which also says where SQS is; keys from `environ`, as for storage."""
    parts = urlsplit(url)
    region = _SQS_HOST.fullmatch(parts.hostname or "")
    options = client_options(environ, endpoint=f"{parts.scheme}://{parts.netloc}", region=region[1] if region else "")
    config = AioConfig(
        connect_timeout=10,
        read_timeout=3 * WAIT_SECONDS,
        retries={"total_max_attempts": 1},  # who asks does so again and again
    )
    async with get_session().create_client("sqs", config=config, **options) as client:
        yield EventQueue(client, url)
