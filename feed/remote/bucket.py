"""Somebody's public bucket, read over plain HTTP: `infra.bucket.Bucket` as far as reading goes.

Nothing is asked of the server but the objects under their keys, so any web server over a copy of the files will do.

HTTP has no listing. What a log's head leads to is known all the same (`feed.pages`), so `list` works for a log's pages
and `feed.log.LogReader` works as over any bucket. Other prefixes are Refused.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from feed.log import LogReader
from feed.pages import linked_pages
from feed.remote.asking import TEXT_CODINGS, Answer, Asker
from infra.bucket import Head, checked_key, checked_prefix, checked_range
from schemas import keys
from schemas.errors import Refused, Unavailable

MAX_READ_BYTES = 256 << 20
"""Of an object that is read into memory; larger ones are fetched into a file."""

_MAX_DOCUMENT_BYTES = 64 << 20
_JUST_SECONDS = 1.0
_MOST_SECONDS = 600.0  # for an object that is read into memory; each wait for some of it is bounded too
_DOCUMENTS = (".atom", ".json")


@dataclass(frozen=True)
class _Copy:
    """What an object that changes was when it was last asked for."""

    body: bytes
    etag: str
    headers: Mapping[str, str]
    at: float


class RemoteBucket:
    """Reads the objects below `base_url`, which is where the keys begin. Safe to use from many threads.

    Objects that change (`current.…`) are asked for conditionally (RFC 9110, 13): nothing moves while they stay as they
    are. `read_versioned` gives what `head` has seen a moment ago without asking again. Absent objects raise
    FileNotFoundError, withdrawn ones `feed.remote.asking.Gone`, which is one too.
    """

    def __init__(self, base_url: str, asker: Asker | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._asker = asker or Asker()
        self._copies: dict[str, _Copy] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        self._asker.close()

    def url(self, key: str) -> str:
        """Where the object is."""
        return f"{self.base_url}/{checked_key(key)}"

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        checked_range(start, length)
        if keys.is_mutable(key):
            body = self.read_versioned(key)[0]
            return body[start:] if length is None else body[start : start + length]
        if length == 0:
            self.head(key)
            return b""
        return self._asker.patiently(lambda: self._read_once(key, start, length))

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        if keys.is_mutable(key):
            with self._lock:
                copy = self._copies.get(key)
            if copy is None or time.monotonic() - copy.at > _JUST_SECONDS:
                copy = self._asker.patiently(lambda: self._look(key))
            return copy.body, copy.etag
        body = self.read(key)
        return body, sha256(body).hexdigest()

    def head(self, key: str) -> Head:
        if keys.is_mutable(key):
            copy = self._asker.patiently(lambda: self._look(key))
            return Head(len(copy.body), copy.etag, _modified(copy.headers), keys.content_type(key))
        return self._asker.patiently(lambda: self._head_once(key))

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        log = prefix.removeprefix("feeds/").removesuffix("/")
        if prefix != keys.feed_prefix(log) or "/" in log:
            raise Refused(self.base_url, "a log's folder to list, feeds/<log>/", repr(prefix[:80]))
        last = keys.parse_page(checked_prefix(after))
        reader = LogReader(self, log)
        for page in linked_pages(reader, reader.head(), from_seq=last.first if last else 1):
            if page.key > after:
                yield page.key

    def refreshed(self, key: str) -> tuple[bytes, str]:
        """Like `read_versioned` of an object that changes, past every cache on the way."""
        copy = self._asker.patiently(lambda: self._look(key, fresh=True))
        return copy.body, copy.etag

    def headers(self, key: str) -> Mapping[str, str]:
        """What the last answer about an object that changes said beside its bytes, names in lower case."""
        with self._lock:
            copy = self._copies.get(key)
        return copy.headers if copy else {}

    def fetch_to(self, key: str, path: Path, on_piece: Callable[[bytes], None] = lambda piece: None) -> None:
        """Fetch an object that never changes into the file `path`, going on where that ends.

        A cut connection costs what was on its way. `on_piece` is told of each piece that is written, not of what was
        there. The caller compares digests, so it is not asked which version the bytes of an earlier call were of.
        """
        if keys.is_mutable(key):
            raise ValueError(f"{key} changes and cannot be fetched in parts")
        self._asker.patiently(lambda: self._fetch_once(key, path, on_piece))

    @contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        with TemporaryDirectory(prefix="runfeed-") as folder:
            path = Path(folder) / key.rpartition("/")[2]
            if keys.is_mutable(key):
                path.write_bytes(self.read(key))
            else:
                self.fetch_to(key, path)
            yield path

    def create(self, key: str, body: bytes | Path, *, content_type: str | None = None) -> NoReturn:
        raise self._read_only()

    def swap(self, key: str, body: bytes, *, etag: str | None, content_type: str | None = None) -> NoReturn:
        raise self._read_only()

    def delete(self, *keys: str) -> NoReturn:
        raise self._read_only()

    def _read_only(self) -> Refused:
        return Refused(self.base_url, "a bucket to write to", "somebody's server, which is only read")

    # --- one attempt each ---

    def _look(self, key: str, *, fresh: bool = False) -> _Copy:
        """The object as it is now, and remembered; unchanged if the server says so."""
        with self._lock:
            known = self._copies.get(key)
        headers = {"Cache-Control": "no-cache"} if fresh else {}
        if known and known.headers.get("etag"):
            headers["If-None-Match"] = known.headers["etag"]
        try:
            with self._asker.asked(self.url(key), headers, coding=TEXT_CODINGS) as answer:
                if answer.status == 304 and known:
                    copy = _Copy(known.body, known.etag, {**known.headers, **answer.headers}, time.monotonic())
                else:
                    body = b"".join(_bounded(answer, _MAX_DOCUMENT_BYTES))
                    etag = answer.headers.get("etag") or sha256(body).hexdigest()
                    copy = _Copy(body, etag, answer.headers, time.monotonic())
        except FileNotFoundError:
            with self._lock:
                self._copies.pop(key, None)
            raise
        with self._lock:
            self._copies[key] = copy
        return copy

    def _read_once(self, key: str, start: int, length: int | None) -> bytes:
        if start == 0 and length is None:
            document = key.endswith(_DOCUMENTS)
            coding = TEXT_CODINGS if document else "identity"
            with self._asker.asked(self.url(key), coding=coding) as answer:
                return b"".join(_bounded(answer, _MAX_DOCUMENT_BYTES if document else MAX_READ_BYTES))
        wanted = f"bytes={start}-" if length is None else f"bytes={start}-{start + length - 1}"
        try:
            with self._asker.asked(self.url(key), {"Range": wanted}) as answer:
                begins = 0 if answer.status == 206 else start  # a server may send all of it
                body = _first(answer, None if length is None else begins + length)
                if answer.status == 206:
                    return body
        except Refused as error:
            if error.status != 416:
                raise
            return b""  # it starts at the object's end or behind it
        return body[start:] if length is None else body[start : start + length]

    def _head_once(self, key: str) -> Head:
        with self._asker.asked(self.url(key), method="HEAD") as answer:
            length = answer.headers.get("content-length", "")
            if not length.isdecimal():
                raise Unavailable(f"{key}: expected an answer with Content-Length, found none")
            etag = answer.headers.get("etag") or f"{length}-{answer.headers.get('last-modified', '')}"
            content_type = answer.headers.get("content-type", keys.content_type(key))
            return Head(int(length), etag, _modified(answer.headers), content_type)

    def _fetch_once(self, key: str, path: Path, on_piece: Callable[[bytes], None]) -> None:
        with open(path, "ab") as file:
            start = file.tell()
            headers = {"Range": f"bytes={start}-"} if start else {}
            try:
                with self._asker.asked(self.url(key), headers) as answer:
                    if start and not _goes_on(answer, start):
                        os.truncate(path, 0)  # opened for appending, so that writing begins anew
                    for piece in answer.pieces:
                        file.write(piece)
                        file.flush()
                        on_piece(piece)
            except Refused as error:
                if error.status != 416:
                    raise  # else nothing lies behind what is there
            file.flush()
            os.fsync(file.fileno())


def _goes_on(answer: Answer, start: int) -> bool:
    """Whether the answer has the bytes from `start` on, as asked, and not all of them."""
    return answer.status == 206 and answer.headers.get("content-range", "").startswith(f"bytes {start}-")


def _bounded(answer: Answer, max_bytes: int) -> Iterator[bytes]:
    size_bytes, ends = 0, time.monotonic() + _MOST_SECONDS
    for piece in answer.pieces:
        if time.monotonic() > ends:
            raise Unavailable(f"{answer.url}: expected an answer within {_MOST_SECONDS:.0f} s, found one that drips")
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise Refused(f"{answer.url}", f"at most {max_bytes:,} bytes", "more", status=413)
        yield piece


def _first(answer: Answer, size_bytes: int | None) -> bytes:
    """So many bytes of the body; what follows is not read."""
    read = bytearray()
    for piece in _bounded(answer, MAX_READ_BYTES):
        read += piece
        if size_bytes is not None and len(read) >= size_bytes:
            break
    return bytes(read[:size_bytes])


def _modified(headers: Mapping[str, str]) -> datetime:
    with suppress(ValueError):
        date = parsedate_to_datetime(headers.get("last-modified", ""))
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    return datetime.fromtimestamp(0, UTC)
