"""Delivering (WebSub, 7): each subscription gets what it does not have yet, at least once, in order.

What a callback has taken is written down after it has said so, so a process that dies between the two delivers once
more. Callbacks are strangers' servers, so each host has its turn in a thread of its own: within it one delivery after
another, and a host that is slow gives up its turn and from then on waits among its like.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial

import structlog

from feed.hub.content import Content, content_after, signed_headers
from feed.hub.requests import callback_host
from feed.hub.subscriptions import Subscriptions, has_expired, is_due, not_taken, taken
from feed.log import LogReader
from infra.fetch import Fetcher
from schemas.errors import Refused, RunfeedError, Unavailable
from schemas.records import Subscription

SLOW_SECONDS = 2.0
"""A callback that takes longer is slow: its host no longer has its turns among the prompt ones."""

_THREADS = 16
_RENDERED = 8
_SLOW_KEPT = 1000  # hosts, also of subscriptions that have ended
_PAUSE = timedelta(seconds=30)
"""For a host at which we failed ourselves: whatever was not written down would be delivered again and again."""

_log = structlog.get_logger()


class Deliveries:
    """The steps of one loop, and the threads that deliver. One process does it at a time; if two do, some deliveries
    come twice."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        reader_of: Callable[[str], LogReader],
        fetcher_for: Callable[[bool], Fetcher],
        *,
        clock: Callable[[], datetime],
        hubs: str = "",
    ) -> None:
        self._subscriptions = subscriptions
        self._reader_of = reader_of
        self._fetcher_for = fetcher_for
        self._clock = clock
        self._hubs = hubs
        self._busy: set[str] = set()  # hosts whose turn it is
        self._slow: set[str] = set()
        self._paused: dict[str, datetime] = {}
        self._rendered: OrderedDict[tuple[str, int, int], Content] = OrderedDict()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._prompt_pool = ThreadPoolExecutor(_THREADS, "deliver")
        self._slow_pool = ThreadPoolExecutor(_THREADS, "deliver again")

    @property
    def busy(self) -> int:
        """Hosts whose turn it is."""
        with self._lock:
            return len(self._busy)

    def step(self) -> int:
        """Give their turns to the hosts to which something is due, and return how many that are."""
        now = self._clock()
        last_of: dict[str, int] = {}
        due: dict[str, list[str]] = {}
        known = self._subscriptions.known()
        for key, subscription in known.items():
            if has_expired(subscription, now):
                self._subscriptions.change(key, partial(_unless_expired, now=now))
                continue
            if subscription.log not in last_of:
                last_of[subscription.log] = self._reader_of(subscription.log).last_seq()
            if is_due(subscription, last_of[subscription.log], now):
                due.setdefault(callback_host(subscription.callback), []).append(key)
        with self._lock:
            if len(self._slow) > _SLOW_KEPT:
                self._slow.intersection_update(callback_host(one.callback) for one in known.values())
        for waiting in due.values():  # who is furthest behind comes first, lest a slow host serve but one
            waiting.sort(key=lambda key: known[key].delivered)
        return sum(self._give_turn(host, waiting, now) for host, waiting in due.items())

    def stand_by(self) -> int:
        """Another delivers: what is known of the subscriptions will be old when it is our turn. 0."""
        self._subscriptions.forget()
        return 0

    def stop(self) -> None:
        """Let the deliveries under way finish, each within the time that a callback has, then end."""
        self._stopping.set()
        for pool in (self._prompt_pool, self._slow_pool):
            pool.shutdown(wait=True, cancel_futures=True)

    def _give_turn(self, host: str, waiting: list[str], now: datetime) -> bool:
        with self._lock:
            if host in self._busy or now < self._paused.get(host, now):
                return False
            self._busy.add(host)
            pool = self._slow_pool if host in self._slow else self._prompt_pool
        pool.submit(self._turn, host, waiting)
        return True

    def _turn(self, host: str, waiting: list[str]) -> None:
        """Deliver to each of `waiting`, for as long as the host is prompt."""
        prompt, paused = True, False
        try:
            for key in waiting:
                if self._stopping.is_set() or not prompt:
                    break
                prompt = self._bring_level(key)
        except Unavailable as error:
            paused = True
            _log.warning("deliveries pause", host=host, error=str(error))
        except Exception:  # noqa: BLE001 - the outermost loop of this thread
            paused = True
            _log.exception("deliveries pause", host=host)
        finally:
            with self._lock:
                self._busy.discard(host)
                (self._slow.discard if prompt else self._slow.add)(host)
                self._paused.pop(host, None)
                if paused:
                    self._paused[host] = self._clock() + _PAUSE

    def _bring_level(self, key: str) -> bool:
        """Deliver all that there is now, as far as the callback takes it; whether it answered soon."""
        target: int | None = None
        while not self._stopping.is_set():
            subscription, _ = self._subscriptions.read(key)
            if subscription is None:
                return True
            reader = self._reader_of(subscription.log)
            if target is None:
                target = reader.last_seq()  # what comes after this waits for the next turn, and is one delivery then
            if not is_due(subscription, target, self._clock()):
                return True
            content = self._content(reader, subscription)
            begun = time.monotonic()
            status = self._post(subscription, content)
            seconds = time.monotonic() - begun
            self._subscriptions.change(key, partial(self._after, last=content.last, status=status))
            if seconds > SLOW_SECONDS or not 200 <= status < 300:
                return seconds <= SLOW_SECONDS
        return True

    def _content(self, reader: LogReader, subscription: Subscription) -> Content:
        """What is due, which many subscribers of a log are owed alike."""
        known = subscription.topic, subscription.delivered, reader.last_seq()
        with self._lock:
            if known in self._rendered:
                self._rendered.move_to_end(known)
                return self._rendered[known]
        content = content_after(reader, subscription.delivered, subscription.topic, self._hubs)
        if content is None:
            raise Unavailable(f"log {reader.log}: entries after {subscription.delivered} are gone")
        with self._lock:
            self._rendered[known] = content
            while len(self._rendered) > _RENDERED:
                self._rendered.popitem(last=False)
        return content

    def _post(self, subscription: Subscription, content: Content) -> int:
        """The callback's answer; 0 if there was none."""
        try:
            return self._fetcher_for(subscription.local).post(
                subscription.callback, content.body, signed_headers(content, subscription)
            )
        except RunfeedError as error:
            why = "refused" if isinstance(error, Refused) else "no answer"
            _log.info("not delivered", host=callback_host(subscription.callback), why=why)
            return 0

    def _after(self, found: Subscription | None, *, last: int, status: int) -> Subscription | None:
        """The subscription after a callback's answer; one that has ended meanwhile stays so."""
        if found is None or status == 410:
            return None
        return taken(found, last) if 200 <= status < 300 else not_taken(found, last, self._clock())


def _unless_expired(found: Subscription | None, *, now: datetime) -> Subscription | None:
    return None if found is None or has_expired(found, now) else found
