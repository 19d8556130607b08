"""The inbox watcher: one asyncio service in a thread of its own that admits what arrives, many objects at once.

Events hurry it, listing is the truth: a sweep every `inbox_seconds` finds what no event told, and what an event's
admission failed at. So a message is deleted whatever came of it, and none can come back for ever.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from itertools import chain, zip_longest

import anyio
import msgspec
import structlog

from infra.aws import parse_place
from infra.bucket import Buckets
from infra.hints import Hints
from infra.inbox import PREFIX, Inbox, inboxes
from infra.settings import Settings
from ingest.ci import printable
from ingest.inbox import SIDECAR, Admission, is_sidecar, refusal_key, runner_of
from ingest.runners import read_runner
from schemas import keys
from schemas.errors import Unavailable
from schemas.records import InboxRefusal, Runner

AT_ONCE = 32
"""Objects admitted at the same time."""

SWEEP_OBJECTS = 1000
"""Of one sweep, shared equally among the runners, so that none waits for another's flood."""

KEEP = timedelta(days=7)
"""How long an object that was refused, or a sidecar without its file, stays."""

_TIDY_SECONDS = 24 * 3600.0
_RUNNER_SECONDS = 1.0
_RUNNERS_KEPT = 10_000
_MAX_BACKOFF_SECONDS = 30.0
_STOP_SECONDS = 10.0

_log = structlog.get_logger()


class Watcher:
    """Watches the inbox of `buckets` from `start` to `stop`; `hints` is told of each new submission.

    `last_error` is empty while all goes well, as a Loop's.
    """

    name = "inbox"

    def __init__(
        self,
        buckets: Buckets,
        settings: Settings,
        environ: Mapping[str, str],
        hints: Hints,
        clock: Callable[[], datetime],
    ) -> None:
        spool = settings.data / "spool"
        spool.mkdir(parents=True, exist_ok=True)
        self._admission = Admission(buckets, settings, spool, clock)
        self._private = buckets.private
        self._open = inboxes(settings, environ)
        self._settings = settings
        self._environ = environ
        self._hints = hints
        self._clock = clock
        self._errors: dict[str, str] = {}
        self._runners: dict[str, tuple[float, Runner | None]] = {}
        self._told: set[str] = set()
        self._busy: set[str] = set()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    @property
    def last_error(self) -> str:
        return "; ".join(list(self._errors.values()))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End. What is under way is given up: it stays in the inbox and is found again."""
        if self._thread.is_alive() and self._ready.wait(_STOP_SECONDS) and self._running:
            loop, task = self._running
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                loop.call_soon_threadsafe(task.cancel)
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._running = asyncio.get_running_loop(), task
        self._ready.set()
        await self._again_and_again("open", self._watch, 0.0)

    async def _watch(self) -> int:
        """Watch until cancelled; fails only where storage cannot be opened."""
        async with self._open() as inbox, asyncio.TaskGroup() as group:
            self._errors.pop("open", None)
            every = float(self._settings.inbox_seconds)
            group.create_task(self._again_and_again("sweep", lambda: self.sweep(inbox), every))
            group.create_task(self._again_and_again("tidy", lambda: self.tidy(inbox), _TIDY_SECONDS))
            if self._settings.inbox_queue and self._settings.bucket:
                group.create_task(self._again_and_again("events", lambda: self._follow_events(inbox), 0.0))
        return 0

    async def _again_and_again(self, name: str, step: Callable[[], Awaitable[int]], idle_seconds: float) -> None:
        """An outermost loop, as `infra.loops` has them: nothing that fails ends it."""
        failures = 0
        while True:
            try:
                done = await step()
            except Exception as error:  # noqa: BLE001 - the outermost loop
                failures += 1
                self._errors[name] = f"{type(error).__name__}: {error}"
                expected = isinstance(error, Unavailable)
                _log.error("inbox failed", loop=name, error=str(error), failures=failures, exc_info=not expected)
                await asyncio.sleep(min(_MAX_BACKOFF_SECONDS, 0.1 * 2 ** min(failures, 10)))
                continue
            failures = 0
            self._errors.pop(name, None)
            if not done:
                await asyncio.sleep(idle_seconds)

    # --- what no event told ---

    async def sweep(self, inbox: Inbox) -> int:
        """Admit what lies in the inbox, at most `SWEEP_OBJECTS`; how many became submissions."""
        known = [name for name in await inbox.folders() if await self._runner(name)]
        share = max(1, SWEEP_OBJECTS // max(1, len(known)))
        shares = [[key async for key in self._waiting(inbox, name, share)] for name in known]
        in_turn = chain.from_iterable(zip_longest(*shares))
        return await self._take_all(inbox, [key for key in in_turn if key is not None])

    async def _waiting(self, inbox: Inbox, runner: str, at_most: int) -> AsyncIterator[str]:
        prefix = keys.inbox_refusals(runner)
        refused = await anyio.to_thread.run_sync(lambda: set(self._private.list(prefix)))
        async for arrival in inbox.list(f"{PREFIX}{runner}/"):
            if (
                at_most
                and runner_of(arrival.key)
                and not is_sidecar(arrival.key)
                and refusal_key(arrival) not in refused
            ):
                at_most -= 1
                yield arrival.key
            if not at_most:
                return

    async def _take_all(self, inbox: Inbox, found: list[str]) -> int:
        """Admit many objects at once; how many were new to us. One that fails keeps none from being taken."""
        room = asyncio.Semaphore(AT_ONCE)

        async def take(key: str) -> bool:
            async with room:
                return await self._take(inbox, key)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(take(key)) for key in found]
        return sum(task.result() for task in tasks)

    async def _take(self, inbox: Inbox, key: str) -> bool:
        name = runner_of(key)
        if not name or is_sidecar(key) or key in self._busy:
            return False
        self._busy.add(key)
        try:
            runner = await self._runner(name)
            receipt = await self._admission.take(inbox, runner, key) if runner else None
        except Exception as error:  # noqa: BLE001 - it stays in the inbox, and the next sweep tries again
            expected = isinstance(error, Unavailable)
            _log.error("inbox object not taken", key=printable(key), error=str(error), exc_info=not expected)
            return False
        finally:
            self._busy.discard(key)
        if receipt is not None:
            _log.info("taken from the inbox", key=printable(key), submission=receipt.id, status=receipt.status)
            self._hints.signal("submitted")
        return receipt is not None

    async def _runner(self, name: str) -> Runner | None:
        known = self._runners.get(name)
        if known is None or known[0] < time.monotonic():
            runner = await anyio.to_thread.run_sync(read_runner, self._private, name)
            if len(self._runners) >= _RUNNERS_KEPT:
                self._runners.clear()
                self._told.clear()
            known = self._runners[name] = time.monotonic() + _RUNNER_SECONDS, runner
            if runner is None and name not in self._told:
                self._told.add(name)
                _log.warning("inbox: unknown runner; its files wait for `runfeed runner add`", runner=printable(name))
            elif runner is not None:
                self._told.discard(name)
        return known[1]

    # --- what events tell ---

    async def _follow_events(self, inbox: Inbox) -> int:
        """Take what events tell of; several messages are under way at a time."""
        from infra.events import open_queue, parse_message

        place = parse_place(self._settings.private_bucket)
        room = asyncio.Semaphore(AT_ONCE)
        async with open_queue(self._settings.inbox_queue, self._environ) as queue, asyncio.TaskGroup() as group:

            async def handle(handle: str, body: str) -> None:
                try:
                    for key in parse_message(body, place):
                        await self._take(inbox, key)
                except ValueError as error:
                    _log.warning("inbox: a message that is no event", error=printable(str(error)))
                finally:
                    room.release()
                with contextlib.suppress(Unavailable):  # then it comes once more
                    await queue.delete(handle)

            async def receive() -> int:
                for message in await queue.receive():
                    await room.acquire()
                    group.create_task(handle(*message))
                return 1

            await self._again_and_again("events", receive, 0.0)
        return 0

    # --- what nobody will fetch ---

    async def tidy(self, inbox: Inbox) -> int:
        """Remove refused objects with their refusals, and sidecars without their files, after `KEEP`."""
        oldest = self._clock() - KEEP
        removed = 0
        for key in await anyio.to_thread.run_sync(lambda: list(self._private.list("inbox-refused/"))):
            refusal = await anyio.to_thread.run_sync(self._read_refusal, key)
            if refusal is None or refusal.refused > oldest:
                continue
            with contextlib.suppress(FileNotFoundError):
                async with inbox.open(refusal.key) as (arrival, _):
                    same = (arrival.etag, arrival.modified) == (refusal.etag, refusal.modified)
                if same:
                    await inbox.remove(arrival)
            await anyio.to_thread.run_sync(self._private.delete, key)
            removed += 1
        async for arrival in inbox.list(PREFIX):
            if is_sidecar(arrival.key) and arrival.modified < oldest:
                try:
                    async with inbox.open(arrival.key.removesuffix(SIDECAR)):
                        continue
                except FileNotFoundError:
                    await inbox.remove(arrival)
                    removed += 1
        if removed:
            _log.info("inbox tidied", removed=removed)
        return 0

    def _read_refusal(self, key: str) -> InboxRefusal | None:
        try:
            return msgspec.json.decode(self._private.read(key), type=InboxRefusal)
        except FileNotFoundError:
            return None
