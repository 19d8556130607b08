"""The inbox as storage: what others than us have written, under any name, into `inbox/` of the private bucket.

    s3://private/inbox/<runner>/<any name>       or, in a data folder, private/inbox/<runner>/<any name>

It differs from a bucket of ours: names are anybody's, and an object may be replaced or removed by its owner at any
moment. So everything is said of a *version*, as `Arrival.etag` names it: it is read, copied and removed only while it
is that. Absent objects are FileNotFoundError, replaced ones SwapLost, all other failures Unavailable.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol

from infra.settings import Settings

PREFIX = "inbox/"


@dataclass(frozen=True)
class Arrival:
    """One version of an object that somebody else wrote. `metadata` is known only of an object that was opened."""

    key: str
    size_bytes: int
    etag: str
    modified: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""


class Inbox(Protocol):
    """Storage that others write to. For one event loop."""

    copies: bool
    """Whether `copy` works: whether storage can copy a version that it is told, and refuses when that is gone."""

    async def folders(self) -> list[str]:
        """Names directly below `inbox/` that have objects below them."""
        ...

    def list(self, prefix: str) -> AsyncIterator[Arrival]:
        """All objects whose key starts with `prefix`, in no particular order."""
        ...

    def open(self, key: str) -> AbstractAsyncContextManager[tuple[Arrival, AsyncIterator[bytes]]]:
        """The object and its bytes, all of one version."""
        ...

    async def copy(self, arrival: Arrival, key: str) -> None:
        """Make the public object `key` from exactly this version, unless there is one; without its metadata."""
        ...

    async def remove(self, arrival: Arrival) -> None:
        """Remove this version, if it is still the one that is there; anything else stays."""
        ...


OpenInbox = Callable[[], AbstractAsyncContextManager[Inbox]]
"""Opens the inbox for the event loop that asks."""


def inboxes(settings: Settings, environ: Mapping[str, str]) -> OpenInbox:
    """What opens the inbox beside the two buckets that `infra.storage.open_buckets` opens for the same settings.

    Its verbs do for any key of the private bucket. Each thread wants one of its own. Connects to nothing yet.
    """
    if settings.bucket:
        from infra.inbox_s3 import S3Inboxes

        return S3Inboxes(settings.bucket, settings.private_bucket, environ)
    from infra.inbox_folder import open_folder_inbox

    return partial(open_folder_inbox, settings.data / "private")
