"""Delivering packed files: one request each, tried again while that can help, and then waiting for what came of it.

Talks to `ingest.http` over HTTP and knows nothing of what is behind it. Errors are those of `schemas.errors`, so that
they answer whether to try again:

    Refused        the server said no, or is no Runfeed: the same request fails again
    Unavailable    ├── Unreachable   nobody answered
                   └── Busy          somebody answered "not now" (408, 429, 5xx), perhaps with Retry-After
"""

import contextlib
import random
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec

from ingest.pack import Packed
from ingest.spool import Item, OnDamaged, Spool
from schemas.errors import Refused, RunfeedError, Unavailable
from schemas.records import ProblemDetails, Receipt, SubmissionStatus

DELIVERED, REJECTED, UNFINISHED, NOT_DELIVERED = 0, 1, 3, 2
"""Exit statuses: fine; delivered and rejected; delivered, but quarantined or not finished in time; not delivered."""

FINAL_STATES = ("accepted", "rejected", "quarantined")

_FROM_BAD_TO_WORSE = (DELIVERED, REJECTED, UNFINISHED, NOT_DELIVERED)
_SENDERS_FAULT = frozenset({401, 403, 404, 405, 407})
"""Refusals of token or address: with others the same file may still be taken."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_POLL_SECONDS = (0.1, 2.0)
_ANSWER_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_MAX_ANSWER_BYTES = 16 << 20

T = TypeVar("T")
OnBytes = Callable[[Packed, int], None]
"""Told how many bytes of the present attempt to send a file are on their way."""
OnRetry = Callable[[Unavailable, float], None]
"""Told why another attempt is needed, and the pause before it in seconds."""


class Unreachable(Unavailable):
    """Nobody answered at the server's address."""


class Busy(Unavailable):
    """The server answered that it cannot now; `retry_after_seconds` is its wish, if it has one."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class World:
    """Time and chance, as far as a push needs them; tests bring their own."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


# --- decisions ---


def worst(statuses: Collection[int]) -> int:
    """The exit status of several files: 0 before 1 before 3 before 2, because nothing is worse than not delivered."""
    return max(statuses, key=_FROM_BAD_TO_WORSE.index, default=DELIVERED)


def exit_status(state: str) -> int:
    """The exit status that a submission's state means."""
    return {"accepted": DELIVERED, "rejected": REJECTED}.get(state, UNFINISHED)


def pause_seconds(attempt: int, asked: float | None, chance: float) -> float:
    """How long to wait after failed attempt number `attempt` (from 0): doubling, scattered by `chance` in [0, 1) so
    that a fleet does not come back at once, and never less than the server asked for."""
    backoff = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(attempt, 10))
    return (asked or 0.0) + backoff * (0.5 + chance / 2)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for: a number or an HTTP date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def checked_url(url: str) -> str:
    """The server's address without a trailing slash. Refused if it is no http(s) URL, or has a password, which would
    end up in the spool and in logs."""
    where = "--to"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises for a port that is no number
    except ValueError as error:
        raise Refused(where, "a URL like http://127.0.0.1:8765", str(error)) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refused(where, "a URL like http://127.0.0.1:8765", repr(url[:200]))
    if parts.username is not None or parts.password is not None:
        raise Refused(where, "a URL without user and password (a token is for that)", "user or password")
    if parts.query or parts.fragment:
        raise Refused(where, "a URL without ? and #", repr(url[:200]))
    return url.rstrip("/")


def checked_token(token: str) -> str:
    """The token without surrounding blanks. Refused, without showing it, if it cannot stand in a header."""
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Refused("token", "printable ASCII without blanks", "something else")
    return token


def is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in _LOOPBACK


def is_final_refusal(error: Refused) -> bool:
    """Whether no token and no address will make the server take this file."""
    return 400 <= error.status < 500 and error.status not in _SENDERS_FAULT


# --- the server ---


class Server:
    """A connection to the server at `url`; a context manager. The token is sent with uploads only."""

    def __init__(self, url: str, *, token: str = "", world: World | None = None) -> None:
        import httpx  # takes longer to import than everything else together, and `--help` does without

        self._httpx = httpx
        self.url = url
        self._token = token
        self._world = world or World()
        self._client = httpx.Client(
            headers={"User-Agent": "runfeed-push", "Accept": "application/json"},
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            trust_env=not is_loopback(url),  # a proxy cannot reach this machine's own server
            verify=url.startswith("https:"),  # loading the certificates takes a while, and http needs none
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def submit(
        self,
        packed: Packed,
        timeout_seconds: float,
        *,
        on_bytes: OnBytes = lambda packed, sent: None,
        on_retry: OnRetry = lambda error, pause: None,
    ) -> Receipt:
        """Send `packed` until there is a receipt.

        No attempt starts later than `timeout_seconds` from now, but one that moves bytes is not cut off. Raises
        Refused, or the last attempt's Unavailable.
        """
        deadline = self._world.clock() + timeout_seconds
        attempt = 0
        while True:
            try:
                return self._submit_once(packed, deadline, on_bytes)
            except Unavailable as error:
                asked = error.retry_after_seconds if isinstance(error, Busy) else None
                pause = pause_seconds(attempt, asked, self._world.chance())
                if self._world.clock() + pause >= deadline:
                    raise
                on_retry(error, pause)
                self._world.sleep(pause)
                attempt += 1

    def _submit_once(self, packed: Packed, deadline: float, on_bytes: OnBytes) -> Receipt:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(packed.size_bytes),
            "Runfeed-Digest": f"sha256={packed.sha256}",
        }
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        params = {
            "project": packed.project,
            "format": packed.format,
            "media_type": packed.media_type,
            "context": msgspec.json.encode(packed.context).decode(),
        }
        body = _counted(packed, on_bytes)
        answer = self._exchange(
            "POST", "/api/v1/submissions", deadline=deadline, params=params, headers=headers, content=body
        )
        receipt = self._decoded(answer, Receipt, "a receipt")
        if receipt.sha256 != packed.sha256 or receipt.size_bytes != packed.size_bytes:
            raise Refused(self.url, f"a receipt for sha256 {packed.sha256}", receipt.sha256, status=200)
        return receipt

    def status(self, submission_id: str, deadline: float | None = None) -> SubmissionStatus:
        """Where a submission stands. Refused 404 if the server does not know it."""
        answer = self._exchange("GET", f"/api/v1/submissions/{submission_id}", deadline=deadline)
        return self._decoded(answer, SubmissionStatus, "a submission's state")

    def system(self, deadline: float | None = None) -> dict[str, Any]:
        """What the server says of itself."""
        return self._decoded(
            self._exchange("GET", "/api/v1/status", deadline=deadline), dict[str, Any], "a JSON object"
        )

    def deadline(self, seconds: float) -> float:
        """The moment `seconds` from now, for `status` and `system`."""
        return self._world.clock() + seconds

    def wait(self, submission_ids: Collection[str], timeout_seconds: float) -> dict[str, SubmissionStatus]:
        """Ask until every submission has ended, at most `timeout_seconds`: the last known states, by id.

        A server that is away for a moment, or does not know the submission yet, is asked again.
        """
        deadline = self._world.clock() + timeout_seconds
        states: dict[str, SubmissionStatus] = {}
        pause, longest = _POLL_SECONDS
        while True:
            for submission_id in submission_ids:
                if submission_id in states and states[submission_id].state in FINAL_STATES:
                    continue
                with contextlib.suppress(RunfeedError):
                    states[submission_id] = self.status(submission_id, deadline)
            unfinished = any(i not in states or states[i].state not in FINAL_STATES for i in submission_ids)
            left = deadline - self._world.clock()
            if not unfinished or left <= 0:
                return states
            self._world.sleep(min(pause, left))
            pause = min(longest, pause * 1.5)

    def absolute(self, address: str) -> str:
        """An address of a receipt, which is relative to the server, in full."""
        return urljoin(f"{self.url}/", address.lstrip("/") if not urlsplit(address).scheme else address)

    def _exchange(self, method: str, path: str, *, deadline: float | None = None, **request: Any) -> bytes:
        """The body of a 2xx answer; everything else is raised."""
        httpx = self._httpx
        left = _ANSWER_SECONDS if deadline is None else max(1.0, deadline - self._world.clock())
        timeout = httpx.Timeout(min(_ANSWER_SECONDS, left), connect=min(_CONNECT_SECONDS, left))
        try:
            with self._client.stream(method, self.url + path, timeout=timeout, **request) as response:
                body = b""
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > _MAX_ANSWER_BYTES:
                        raise Refused(self.url, "an answer of Runfeed", "an endless one", status=200)
        except httpx.RequestError as error:
            raise Unreachable(f"{self.url}: {error or type(error).__name__}") from error
        if response.is_success:
            return body
        raise self._error(response.status_code, dict(response.headers), body)

    def _error(self, status: int, headers: dict[str, str], body: bytes) -> RunfeedError:
        """What an answer other than 2xx means."""
        try:
            problem = msgspec.json.decode(body, type=ProblemDetails)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            problem = ProblemDetails(title="", status=status, detail=f"HTTP {status}")
        if status in (408, 429) or status >= 500:
            asked = retry_after(headers.get("retry-after"), datetime.now(UTC))
            return Busy(f"{self.url}: {problem.detail or problem.title} ({status})", asked)
        if 300 <= status < 400:
            return Refused(self.url, "an answer", f"a redirect to {headers.get('location', 'nowhere')}", status=status)
        if problem.where or problem.expected:
            return Refused(problem.where, problem.expected, problem.found, status=status)
        return Refused(self.url, "to be let in", f"{problem.detail or problem.title} ({status})", status=status)

    def _decoded(self, body: bytes, kind: type[T], what: str) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Refused(
                self.url, f"{what} (is this a Runfeed server?)", repr(body[:60].decode(errors="replace")), status=200
            ) from error


def _counted(packed: Packed, on_bytes: OnBytes) -> Iterator[bytes]:
    sent = 0
    on_bytes(packed, 0)
    for piece in packed.pieces():
        yield piece
        sent += len(piece)
        on_bytes(packed, sent)


# --- many files ---


@dataclass(frozen=True)
class Delivery:
    """What came of sending one file: a receipt, or an error and perhaps its place in the spool."""

    packed: Packed
    receipt: Receipt | None = None
    error: Exception | None = None
    spooled: Item | None = None
    refused: Path | None = None
    """Where an item of the spool was moved that the server refused for good."""


def deliver(
    server: Server,
    files: Collection[Packed],
    timeout_seconds: float,
    *,
    spool: Spool | None,
    now: Callable[[], datetime],
    on_bytes: OnBytes = lambda packed, sent: None,
    on_retry: OnRetry = lambda error, pause: None,
) -> Iterator[Delivery]:
    """Send each file in turn; what the server cannot take now goes to `spool`, if there is one.

    The patience of `timeout_seconds` is spent once: after a file has used it up, the others get one attempt each, or
    none if nobody answers at all.
    """
    unreachable: Unreachable | None = None
    patience = timeout_seconds
    for packed in files:
        try:
            if unreachable is not None:
                raise unreachable
            receipt = server.submit(packed, patience, on_bytes=on_bytes, on_retry=on_retry)
        except Unavailable as error:
            patience = 0.0
            unreachable = error if isinstance(error, Unreachable) else None
            yield _kept(packed, server.url, error, spool, now())
        except (Refused, OSError) as error:
            yield Delivery(packed, error=error)
        else:
            yield Delivery(packed, receipt=receipt)


def _kept(packed: Packed, to: str, error: Unavailable, spool: Spool | None, now: datetime) -> Delivery:
    if spool is None:
        return Delivery(packed, error=error)
    try:
        return Delivery(packed, error=error, spooled=spool.keep(packed, to, now))
    except (RunfeedError, OSError) as kept_error:
        return Delivery(packed, error=Unavailable(f"{error}; and it could not be kept in the spool: {kept_error}"))


def flush_spool(
    server: Server,
    spool: Spool,
    timeout_seconds: float,
    *,
    on_bytes: OnBytes = lambda packed, sent: None,
    on_retry: OnRetry = lambda error, pause: None,
    on_damaged: OnDamaged = lambda place, reason: None,
) -> Iterator[Delivery]:
    """Send what waits in the spool for this server, oldest first, and remove each item after its receipt.

    An item that the server refuses for good moves to `refused/`. When the server cannot be reached, or wants another
    token or address, the rest stays for later and the last delivery says why.
    """
    for item in spool.items(on_damaged):
        if item.to != server.url:
            continue  # a token is never shown to another server
        try:
            receipt = server.submit(item.packed, timeout_seconds, on_bytes=on_bytes, on_retry=on_retry)
        except FileNotFoundError:
            continue  # another push has just delivered it
        except Refused as error:
            if not is_final_refusal(error):
                yield Delivery(item.packed, error=error, spooled=item)
                return
            yield Delivery(item.packed, error=error, refused=spool.refuse(item.key, str(error)))
        except (Unavailable, OSError) as error:
            yield Delivery(item.packed, error=error, spooled=item)
            return
        else:
            spool.remove(item.key)
            yield Delivery(item.packed, receipt=receipt)
