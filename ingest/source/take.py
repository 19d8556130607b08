"""One file of a source: fetched, and admitted as if it had been pushed."""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from infra.again import Busy
from infra.bucket import Buckets
from infra.fetch import Fetcher
from infra.settings import Settings
from ingest import media
from ingest.admit import admit
from ingest.describe import Description
from ingest.projects import add_project, read_project
from schemas.errors import Refused, StorageFull, Unavailable
from schemas.records import Blob, Origin, ProjectRules, Receipt, Trust

IN_MEMORY_BYTES = 1 << 20
"""Files up to this size never touch the disk before they are in the bucket."""


class Unreached(Unavailable):
    """The source's server could not or did not answer; our own storage's troubles are another Unavailable.

    `seconds` is for how long it wants to be left alone, 0 if it did not say.
    """

    def __init__(self, error: Unavailable | str) -> None:
        super().__init__(str(error))
        self.seconds = (error.retry_after_seconds or 0.0) if isinstance(error, Busy) else 0.0


class Ending(Unavailable):
    """This process is being ended; nothing is wrong with the source."""


@dataclass(frozen=True)
class Wanted:
    """A file of a source. `sha256` and `size_bytes` are promises that it must keep, or none were given."""

    url: str
    description: Description
    trust: Trust
    origin: Origin
    max_bytes: int | None = None
    sha256: str = ""
    size_bytes: int | None = None


@dataclass(frozen=True)
class Taker:
    """What fetches files into `folder` and from there into the buckets, until `stopping`."""

    buckets: Buckets
    settings: Settings
    fetcher: Fetcher
    folder: Path
    """Files called upload-… there are nobody's once this process is gone."""
    clock: Callable[[], datetime]
    stopping: Callable[[], bool] = lambda: False

    def take(self, wanted: Wanted) -> Receipt:
        """The receipt of `wanted`. Refused for a file that will never do; Unreached if its server may have it later."""
        limit = self._limit(wanted)
        if wanted.size_bytes is not None and wanted.size_bytes > limit:
            raise Refused(wanted.url, f"at most {limit:,} bytes", f"{wanted.size_bytes:,}", status=413)
        with self._fetched(wanted, limit) as (body, sha256, size_bytes, head):
            _check_promises(wanted, sha256, size_bytes)
            name = unquote(urlsplit(wanted.url).path.rpartition("/")[2])
            description = wanted.description
            blob = Blob(
                sha256=sha256,
                size_bytes=size_bytes,
                media_type=description.media_type or media.media_type(head, name),
                encoding=media.encoding(head),
            )
            return admit(
                self.buckets,
                body,
                blob,
                project=description.project,
                format=description.format,
                context=description.context,
                trust=wanted.trust,
                origin=wanted.origin,
                now=self.clock(),
            )

    def _limit(self, wanted: Wanted) -> int:
        """How large it may be. A project that is not there yet is made: whoever added the source has asked for it."""
        project = wanted.description.project
        try:
            rules = read_project(self.buckets, project)[1]
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                add_project(self.buckets, project, self.clock())
            rules = ProjectRules(name=project)
        limits = (self.settings.max_blob_bytes, rules.max_blob_bytes, wanted.max_bytes)
        return min(limit for limit in limits if limit)

    @contextmanager
    def _fetched(self, wanted: Wanted, limit: int) -> Iterator[tuple[bytes | Path, str, int, bytes]]:
        """The bytes, or a file of them for the time of the context; digest, size, and how they begin."""
        digest, size_bytes, head, memory = hashlib.sha256(), 0, b"", bytearray()
        with contextlib.ExitStack() as ending:
            file: IO[bytes] | None = None
            for piece in self._pieces(wanted.url, limit):
                digest.update(piece)
                size_bytes += len(piece)
                head += piece[: media.HEAD_BYTES - len(head)]
                memory += piece
                if len(memory) > IN_MEMORY_BYTES:
                    file = file or ending.enter_context(_temporary(self.folder))
                    _write(file, memory)
            if file is None:
                yield bytes(memory), digest.hexdigest(), size_bytes, head
                return
            _write(file, memory)
            yield Path(file.name), digest.hexdigest(), size_bytes, head

    def _pieces(self, url: str, limit: int) -> Iterator[bytes]:
        try:
            with self.fetcher.stream(url, max_bytes=limit) as streamed:
                for piece in streamed.pieces:
                    if self.stopping():
                        raise Ending("this process is being ended")
                    yield piece
        except (Ending, Unreached):
            raise
        except Unavailable as error:
            if self.stopping():
                raise Ending("this process is being ended") from error
            raise Unreached(error) from error


def _check_promises(wanted: Wanted, sha256: str, size_bytes: int) -> None:
    if wanted.size_bytes is not None and size_bytes != wanted.size_bytes and wanted.sha256:
        raise Refused(wanted.url, f"{wanted.size_bytes:,} bytes, as its entry says", f"{size_bytes:,}", status=422)
    if wanted.sha256 and sha256 != wanted.sha256:
        raise Refused(wanted.url, f"sha256 {wanted.sha256}, as its entry says", sha256, status=422)


@contextmanager
def _temporary(folder: Path) -> Iterator[IO[bytes]]:
    """A file that is gone afterwards; the bucket may have linked it by then."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.NamedTemporaryFile(dir=folder, prefix="upload-", delete=False)  # noqa: SIM115 - closed below
    except OSError as error:
        raise StorageFull(f"{folder} cannot take a file: {error}") from error
    with file:
        try:
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)


def _write(file: IO[bytes], memory: bytearray) -> None:
    try:
        file.write(memory)
        file.flush()
    except OSError as error:
        raise StorageFull(f"{file.name} cannot grow: {error}") from error
    memory.clear()
