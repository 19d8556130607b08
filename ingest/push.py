"""Delivering packed files: one request each, tried again while that can help, and then waiting for what came of it.

Talks to `ingest.http` over HTTP and knows nothing of what is behind it; big files go by its links to storage, as
`ingest.uploads` grants them. Errors answer whether to try again, see `ingest.push_again`.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec

from ingest.pack import Packed
from ingest.push_again import Busy, OnRetry, OutOfReach, Unreachable, World, persist, retry_after
from ingest.spool import Item, OnDamaged, Spool
from schemas.errors import Refused, RunfeedError, Unavailable
from schemas.records import Piece, ProblemDetails, Receipt, SubmissionStatus, Upload

if TYPE_CHECKING:
    from ssl import SSLContext

    from httpx import Client

DELIVERED, REJECTED, UNFINISHED, NOT_DELIVERED = 0, 1, 3, 2
"""Exit statuses: fine; delivered, and rejected or withdrawn; delivered, but quarantined or not finished in time; not
delivered."""

FINAL_STATES = ("accepted", "rejected", "quarantined", "withdrawn")

_FROM_BAD_TO_WORSE = (DELIVERED, REJECTED, UNFINISHED, NOT_DELIVERED)
_SENDERS_FAULT = frozenset({401, 403, 404, 405, 407})
"""Refusals of token or address: with others the same file may still be taken."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_POLL_SECONDS = (0.1, 2.0)
_ANSWER_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_MAX_ANSWER_BYTES = 16 << 20

GRANT_BYTES = 8 << 20
"""From this size on a file goes to storage directly, where the server offers that."""

MAX_STORAGE_FAILURES = 3
"""After so many a push goes through the server as always."""

T = TypeVar("T")
OnBytes = Callable[[Packed, int], None]
"""Told how many bytes of the present attempt to send a file are on their way."""

# --- decisions ---


def worst(statuses: Collection[int]) -> int:
    """The exit status of several files: 0 before 1 before 3 before 2, because nothing is worse than not delivered."""
    return max(statuses, key=_FROM_BAD_TO_WORSE.index, default=DELIVERED)


def exit_status(state: str) -> int:
    """The exit status that a submission's state means."""
    return {"accepted": DELIVERED, "rejected": REJECTED, "withdrawn": REJECTED}.get(state, UNFINISHED)


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


def trusted(ca: Path | None) -> "bool | SSLContext":
    """Whom to believe who a server is: the machine's authorities, or only those of the file `ca`; Refused if it has
    none."""
    if ca is None:
        return True
    import ssl

    try:
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        raise Refused("--ca", "a PEM file of certificates", f"{ca}: {error}") from error


def is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in _LOOPBACK


def is_final_refusal(error: Refused) -> bool:
    """Whether no token and no address will make the server take this file."""
    return 400 <= error.status < 500 and error.status not in _SENDERS_FAULT


# --- the server ---


class Target(Protocol):
    """Where files are sent; `url` is what the spool remembers."""

    url: str

    def submit(
        self, packed: Packed, timeout_seconds: float, *, on_bytes: OnBytes = ..., on_retry: OnRetry = ...
    ) -> "Receipt | Dropped":
        """Send `packed`, trying again for `timeout_seconds`. Raises Refused, or the last attempt's Unavailable."""
        ...


@dataclass(frozen=True)
class Dropped:
    """Storage keeps the file, at `url`; whether it becomes a submission the server decides when it finds it."""

    url: str


class Server:
    """A connection to the server at `url`; a context manager. The token is sent with uploads only.

    `ca` is a PEM file of the only authorities that may vouch for the server; by default the machine's do.
    """

    def __init__(self, url: str, *, token: str = "", ca: Path | None = None, world: World | None = None) -> None:
        import httpx  # takes longer to import than everything else together, and `--help` does without

        self._httpx = httpx
        self.url = url
        self._token = token
        self._world = world or World()
        self._ca = ca
        self._storage_failures = 0
        self._client = self._opened(url)

    def _opened(self, url: str) -> "Client":
        return self._httpx.Client(
            headers={"User-Agent": "runfeed-push", "Accept": "application/json"},
            timeout=self._httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            trust_env=not is_loopback(url),  # a proxy cannot reach this machine's own server
            verify=url.startswith("https:") and trusted(self._ca),  # loading certificates takes a while
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
        """Send `packed` until there is a receipt; to storage, if it is big and the server offers that."""
        return persist(
            self._world,
            timeout_seconds,
            lambda deadline: self._submit_once(packed, deadline, on_bytes),
            on_retry,
        )

    def _submit_once(self, packed: Packed, deadline: float, on_bytes: OnBytes) -> Receipt:
        if packed.size_bytes >= GRANT_BYTES and self._storage_failures < MAX_STORAGE_FAILURES:
            receipt = self._submit_by_grant(packed, deadline, on_bytes)
            if receipt is not None:
                return receipt
        headers = {
            **self._authorization(),
            "Content-Type": "application/octet-stream",
            "Content-Length": str(packed.size_bytes),
            "Runfeed-Digest": f"sha256={packed.sha256}",
        }
        params = {
            "project": packed.project,
            "format": packed.format,
            "media_type": packed.media_type,
            "context": msgspec.json.encode(packed.context).decode(),
        }
        body = _counted(packed.pieces(), partial(_told, on_bytes, packed, 0))
        answer = self._exchange(
            "POST", "/api/v1/submissions", deadline=deadline, params=params, headers=headers, content=body
        )
        return self._checked(self._decoded(answer, Receipt, "a receipt"), packed)

    def _submit_by_grant(self, packed: Packed, deadline: float, on_bytes: OnBytes) -> Receipt | None:
        """Send the file to storage by links; None if that is not offered, or storage is out of reach from here."""
        wanted = {
            "sha256": packed.sha256,
            "size_bytes": packed.size_bytes,
            "submission": {
                "project": packed.project,
                "format": packed.format,
                "media_type": packed.media_type,
                "context": packed.context,
            },
        }
        headers = {**self._authorization(), "Content-Type": "application/json"}
        try:
            answer = self._exchange(
                "POST", "/api/v1/uploads", deadline=deadline, headers=headers, content=msgspec.json.encode(wanted)
            )
        except Refused as error:
            if error.status not in (404, 405):
                raise
            self._storage_failures = MAX_STORAGE_FAILURES
            return None
        upload = self._decoded(answer, Upload, "links for an upload")
        if upload.receipt is not None:
            return self._checked(upload.receipt, packed)
        sent = packed.size_bytes - sum(piece.size_bytes for piece in upload.pieces)
        try:
            for piece in upload.pieces:
                self._put(packed, piece, partial(_told, on_bytes, packed, sent))
                sent += piece.size_bytes
        except OutOfReach:
            self._storage_failures = MAX_STORAGE_FAILURES
            return None
        except Unavailable:
            self._storage_failures += 1
            raise
        return self._completed(packed, upload)

    def _completed(self, packed: Packed, upload: Upload) -> Receipt | None:
        """The receipt for what storage has; None if that is not what was sent. However long the sending took."""
        if not upload.complete.startswith("/"):  # it is asked with the token, so it must be the same server
            raise Refused(self.url, "a path of this server", repr(upload.complete[:80]), status=200)
        try:
            answer = self._exchange("POST", upload.complete, headers=self._authorization())
        except Refused as error:
            if error.status in (404, 409):  # a part is missing, or all of it: asking again tells what to send
                raise Busy(str(error)) from error
            if error.where != "file":
                raise
            self._storage_failures = MAX_STORAGE_FAILURES
            return None
        return self._checked(self._decoded(answer, Receipt, "a receipt"), packed)

    def _put(self, packed: Packed, piece: Piece, on_sent: Callable[[int], None]) -> None:
        """Send one piece to storage, which is another server: it gets the link, never the token."""
        headers = {**piece.headers, "Content-Length": str(piece.size_bytes)}
        body = _counted(packed.pieces(piece.start, piece.size_bytes), on_sent)
        where = urlsplit(piece.url).netloc
        try:
            with self._opened(piece.url) as storage:
                status = storage.put(piece.url, headers=headers, content=body).status_code
        except (self._httpx.ConnectError, self._httpx.ConnectTimeout, self._httpx.InvalidURL) as error:
            raise OutOfReach(f"storage {where}: {error or type(error).__name__}") from error
        except self._httpx.RequestError as error:
            raise Unreachable(f"storage {where}: {error or type(error).__name__}") from error
        if status == 412 or 200 <= status < 300:  # 412: an earlier attempt was there already
            return
        if status in (408, 429) or status >= 500:
            raise Busy(f"storage {where}: HTTP {status}")
        raise OutOfReach(f"storage {where}: HTTP {status}")

    def _checked(self, receipt: Receipt, packed: Packed) -> Receipt:
        if receipt.sha256 != packed.sha256 or receipt.size_bytes != packed.size_bytes:
            raise Refused(self.url, f"a receipt for sha256 {packed.sha256}", receipt.sha256, status=200)
        return receipt

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

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


def _told(on_bytes: OnBytes, packed: Packed, before: int, sent: int) -> None:
    on_bytes(packed, before + sent)


def _counted(pieces: Iterator[bytes], on_sent: Callable[[int], None]) -> Iterator[bytes]:
    sent = 0
    on_sent(0)
    for piece in pieces:
        yield piece
        sent += len(piece)
        on_sent(sent)


# --- many files ---


@dataclass(frozen=True)
class Delivery:
    """What came of sending one file: a receipt, a place in the inbox, or an error and perhaps a place in the spool."""

    packed: Packed
    receipt: Receipt | None = None
    dropped: Dropped | None = None
    error: Exception | None = None
    spooled: Item | None = None
    refused: Path | None = None
    """Where an item of the spool was moved that the server refused for good."""


def _arrived(packed: Packed, answer: Receipt | Dropped) -> Delivery:
    if isinstance(answer, Dropped):
        return Delivery(packed, dropped=answer)
    return Delivery(packed, receipt=answer)


def deliver(
    server: Target,
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
            yield _arrived(packed, receipt)


def _kept(packed: Packed, to: str, error: Unavailable, spool: Spool | None, now: datetime) -> Delivery:
    if spool is None:
        return Delivery(packed, error=error)
    try:
        return Delivery(packed, error=error, spooled=spool.keep(packed, to, now))
    except (RunfeedError, OSError) as kept_error:
        return Delivery(packed, error=Unavailable(f"{error}; and it could not be kept in the spool: {kept_error}"))


def flush_spool(
    server: Target,
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
            yield _arrived(item.packed, receipt)
