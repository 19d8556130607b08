"""One entry of a log as a follower is given it, with what it announces at hand."""

import builtins
import hashlib
import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Literal, TypeVar

import msgspec

from feed.breach import Breach
from feed.remote.bucket import RemoteBucket
from feed.verify.examine import LOOKS_AGAIN, digest_of
from feed.withdrawals import read_withdrawal
from infra.bucket import Bucket
from infra.folder import FolderBucket
from schemas import keys
from schemas.errors import RunfeedError, Unavailable
from schemas.records import Entry

Kind = Literal["submission", "withdrawal", "outcome"]

_IN_MEMORY_BYTES = 8 << 20

T = TypeVar("T")


class Withdrawn(RunfeedError, FileNotFoundError):
    """What an entry announced has had to go since: its blob is withdrawn. That is a fact of the log and no fault."""


@dataclass(frozen=True)
class Followed:
    """An entry: what was announced, and where it is. `read` and `open` give its bytes, checked against `sha256`.

    `kind` is `submission`, `withdrawal` (then `withdraws` is the digest of the blob that is withdrawn, `withdrawn` the
    submissions that are known of it, and the bytes are the withdrawal's record) or, of an outcomes log, `outcome`.
    """

    kind: Kind
    seq: int
    id: str
    title: str
    summary: str
    project: str
    format: str
    """Declared, of a submission; "" if it was left to be found out. Detected, of an outcome; several have blanks
    between them."""
    sha256: str
    size_bytes: int
    media_type: str
    encoding: str
    """`identity`, or `gzip` or `zstd` if the bytes are compressed, as they were sent."""
    published: datetime
    updated: datetime
    """When it was announced."""
    url: str
    """Of the bytes."""
    submission_url: str
    """Of the submission's record; "" if it is none."""
    page_url: str
    """Of a page for people, where a dashboard serves the same address; else ""."""
    withdraws: str
    withdrawn: tuple[str, ...]
    key: str
    _log: str = field(repr=False)
    _bucket: Bucket = field(repr=False, compare=False)
    _sleep: Callable[[float], None] = field(default=time.sleep, repr=False, compare=False)

    def read(self) -> bytes:
        """The bytes. Raises Withdrawn; Breach if they are missing or others; Unavailable."""
        if self.size_bytes > _IN_MEMORY_BYTES:
            with self.open() as file:
                return file.read()
        return self._checked()

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The bytes as a file to read, for what is too big for the memory. Raises what `read` does."""
        if self.size_bytes <= _IN_MEMORY_BYTES:
            yield io.BytesIO(self._checked())
            return
        with ExitStack() as ending:
            path = self._looked_for(lambda: self._fetched(ending))
            self._compare(path.stat().st_size, lambda: digest_of(path))
            yield ending.enter_context(builtins.open(path, "rb"))

    def to_json(self) -> bytes:
        """One line of JSON: every field but the bytes."""
        names = (one.name for one in fields(self) if not one.name.startswith("_"))
        return msgspec.json.encode({name: getattr(self, name) for name in names})

    def _checked(self) -> bytes:
        # One byte more than there should be: enough to see that there are more, and never all of too many.
        body = self._looked_for(lambda: self._bucket.read(self.key, 0, self.size_bytes + 1))
        self._compare(len(body), lambda: hashlib.sha256(body).hexdigest())
        return body

    def _fetched(self, ending: ExitStack) -> Path:
        """A local file of the object, until `ending`."""
        if not isinstance(self._bucket, RemoteBucket):
            return ending.enter_context(self._bucket.local_path(self.key))
        path = Path(ending.enter_context(TemporaryDirectory(prefix="runfeed-"))) / "blob"
        self._bucket.fetch_to(self.key, path, lambda piece: self._not_more(path))
        return path

    def _not_more(self, path: Path) -> None:
        if path.stat().st_size > self.size_bytes:
            raise self._breach(f"{self.size_bytes:,} bytes", "more")

    def _looked_for(self, look: Callable[[], T]) -> T:
        """What `look` finds; caches on the way may lag behind, so it looks again before it says what that means."""
        for pause in (*LOOKS_AGAIN, None):
            try:
                return look()
            except FileNotFoundError as error:
                if withdrawal := read_withdrawal(self._bucket, self.sha256):
                    raise Withdrawn(f"entry {self.seq} is withdrawn: {withdrawal.reason}") from error
                if pause is None:
                    self._check_there()
                    if self.kind == "outcome":
                        raise Withdrawn(f"entry {self.seq} is gone, as when a later revision replaces it") from error
                    raise self._breach("the object, or the withdrawal of its blob", "neither") from error
                self._sleep(pause)
        raise AssertionError  # the last look returns or raises

    def _check_there(self) -> None:
        """Unavailable if the whole log is not there, as when something before a server that restarts says 404."""
        try:
            self._bucket.head(keys.feed_head(self._log))
        except FileNotFoundError as error:
            raise Unavailable(f"{error}: the log was there before, and is not now") from error

    def _compare(self, size_bytes: int, digest: Callable[[], str]) -> None:
        if size_bytes != self.size_bytes:
            raise self._breach(
                f"{self.size_bytes:,} bytes", "more" if size_bytes > self.size_bytes else f"{size_bytes:,}"
            )
        if (found := digest()) != self.sha256:
            raise self._breach(f"SHA-256 {self.sha256}", found)

    def _breach(self, expected: str, found: str) -> Breach:
        return Breach(f"entry {self.seq}: {self.key}", expected, found)


def followed(log: str, entry: Entry, bucket: Bucket, sleep: Callable[[float], None] = time.sleep) -> Followed:
    """`entry` of `log` as a follower is given it."""
    kind: Kind = "withdrawal" if entry.withdraws else "submission" if log == keys.SUBMISSIONS_LOG else "outcome"
    is_submission = kind == "submission"
    return Followed(
        kind=kind,
        seq=entry.seq,
        id=entry.id,
        title=entry.title,
        summary=entry.summary,
        project=entry.project,
        format=" ".join(one.term for one in entry.categories if one.scheme == "format"),
        sha256=entry.sha256,
        size_bytes=entry.size_bytes,
        media_type=entry.media_type,
        encoding=entry.encoding,
        published=entry.published,
        updated=entry.updated,
        url=address(bucket, entry.key),
        submission_url=address(bucket, keys.submission(entry.id)) if is_submission else "",
        page_url=f"{bucket.base_url}/submissions/{entry.id}"
        if is_submission and isinstance(bucket, RemoteBucket)
        else "",
        withdraws=entry.withdraws,
        withdrawn=entry.withdrawn,
        key=entry.key,
        _log=log,
        _bucket=bucket,
        _sleep=sleep,
    )


def address(bucket: Bucket, key: str) -> str:
    """Where an object is: a URL, or a path."""
    if isinstance(bucket, RemoteBucket):
        return bucket.url(key)
    if isinstance(bucket, FolderBucket):
        return str(bucket.root / key)
    return f"{getattr(bucket, 'url', '')}/{key}"
