"""Subscriptions to our logs (WebSub): where they are kept, and when what is due to whom. Talks to no callback.

Each is an object in the private bucket, changed by compare-and-swap only, so any number of processes may take requests
while one delivers.
"""

import contextlib
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
import structlog

from infra.bucket import Bucket
from schemas import keys
from schemas.errors import SwapLost, Unavailable
from schemas.records import Subscription

FIRST_PAUSE_SECONDS = 5
LONGEST_PAUSE_SECONDS = 3600

TRIES = 12
"""Of the same content, about two and a half hours; then only new content is tried, together with what was missed."""

_ATTEMPTS = 8
_log = structlog.get_logger()


class Subscriptions:
    """The subscriptions in `private`. Safe to use from many threads."""

    def __init__(self, private: Bucket) -> None:
        self._private = private
        self._known: dict[str, Subscription] = {}
        self._unreadable: set[str] = set()
        self._lock = threading.Lock()

    def known(self) -> dict[str, Subscription]:
        """All that there are, by key: which there are now, each as it was when it was last read or written here."""
        listed = list(self._private.list(keys.HUB))
        for key in listed:
            if key not in self._known and key not in self._unreadable:
                self.read(key)
        with self._lock:
            self._known = {key: self._known[key] for key in listed if key in self._known}
            return dict(self._known)

    def forget(self) -> None:
        """Read each anew when it is next asked for."""
        with self._lock:
            self._known = {}

    def read(self, key: str) -> tuple[Subscription | None, str | None]:
        """As it is now, and its etag. What cannot be read is as good as none, and written over."""
        try:
            body, etag = self._private.read_versioned(key)
        except FileNotFoundError:
            self._remember(key, None)
            return None, None
        try:
            found = msgspec.json.decode(body, type=Subscription)
        except msgspec.DecodeError as error:
            _log.error("a subscription cannot be read", key=key, error=str(error))
            self._unreadable.add(key)
            return None, etag
        self._remember(key, found)
        return found, etag

    def change(self, key: str, changed: Callable[[Subscription | None], Subscription | None]) -> Subscription | None:
        """Put what `changed` makes of the subscription in its place, None if it is to end; return that.

        It is called again if somebody else was quicker. Raises Unavailable if that happens too often.
        """
        for _ in range(_ATTEMPTS):
            found, etag = self.read(key)
            made = changed(found)
            if made is None:
                self._private.delete(key)
                self._remember(key, None)
                return None
            with contextlib.suppress(SwapLost):
                if made != found:
                    self._private.swap(key, msgspec.json.encode(made), etag=etag)
                    self._remember(key, made)
                return made
        raise Unavailable(f"{key}: changed by others, again and again")

    def _remember(self, key: str, subscription: Subscription | None) -> None:
        with self._lock:
            self._unreadable.discard(key)
            if subscription is None:
                self._known.pop(key, None)
            else:
                self._known[key] = subscription


# --- decisions ---


def is_due(subscription: Subscription, last: int, now: datetime) -> bool:
    """Whether to deliver now, in a log whose last seq is `last`."""
    if subscription.delivered >= last or has_expired(subscription, now):
        return False
    if subscription.next_try is not None and now < subscription.next_try:
        return False
    return subscription.failures < TRIES or subscription.offered < last


def has_expired(subscription: Subscription, now: datetime) -> bool:
    return now >= subscription.expires


def taken(subscription: Subscription, seq: int) -> Subscription:
    """The callback has the entries up to `seq`."""
    delivered = max(seq, subscription.delivered)
    return msgspec.structs.replace(subscription, delivered=delivered, offered=delivered, failures=0, next_try=None)


def not_taken(subscription: Subscription, seq: int, now: datetime) -> Subscription:
    """A delivery of the entries up to `seq` failed."""
    pause = min(FIRST_PAUSE_SECONDS * 2 ** min(subscription.failures, 20), LONGEST_PAUSE_SECONDS)
    return msgspec.structs.replace(
        subscription,
        offered=max(seq, subscription.offered),
        failures=subscription.failures + 1,
        next_try=now + timedelta(seconds=pause),
    )
