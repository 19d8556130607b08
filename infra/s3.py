"""A bucket in S3, or in any store that speaks its API and has conditional writes (`If-None-Match`, `If-Match`).

Without those, two writers could both win; `check_conditional_writes` finds out and refuses. Not every store lists in
key order either (SeaweedFS walks folders: `a/b` before `a-b`, and starts behind a folder that it was asked to start
before), so until that check has seen a store do it, `list` trusts only what all of them do. Nothing connects before
the first verb. Open a bucket after a fork, not before: obstore's threads do not survive it.

Set the bucket to remove incomplete multipart uploads after a day or more; a killed upload leaves one.
"""

import contextlib
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store

from infra.bucket import Head, checked_key, checked_prefix, checked_range, is_key
from infra.folder import storage_errors
from schemas import keys
from schemas.errors import Refused, StorageFull, SwapLost, Unavailable

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ObjectStore, S3Config, S3Credential

_PIECE_BYTES = 8 << 20
_CODE = re.compile(r"<Code>(\w+)</Code>")


class S3Bucket:
    """Implements `infra.bucket.Bucket` below `prefix` in an S3 bucket.

    Without `access_key` the machine's own role is used, as obstore finds it. One promise is weaker: a Path over 8 MiB
    goes up in pieces, which S3 cannot make conditional here, so of two writers at the same moment both may win. Such
    keys are content-addressed, so both write the same bytes.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        access_key: str | None = None,
        secret_key: str = "",
        session_token: str | None = None,
        region: str = "us-east-1",
        allow_http: bool = False,
    ) -> None:
        self.url = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self._lists_in_order = False
        # obstore takes from the environment whatever it is not told, so it is told all that could redirect it.
        config: S3Config = {"region": region, "conditional_put": "etag", "skip_signature": False}
        if endpoint is not None:
            config |= {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint}
        credential: S3Credential | None = None
        if access_key is not None:
            credential = {
                "access_key_id": access_key,
                "secret_access_key": secret_key,
                "token": session_token,
                "expires_at": None,
            }
        self._store: ObjectStore = S3Store(
            bucket,
            prefix=checked_key(prefix) if prefix else None,
            config=config,
            client_options={"allow_http": allow_http, "timeout": timedelta(minutes=10)},
            retry_config={"max_retries": 8, "retry_timeout": timedelta(seconds=30)},
            credential_provider=None if credential is None else (lambda: credential),
        )

    def create(self, key: str, body: bytes | Path, *, content_type: str | None = None) -> str:
        checked_key(key)
        attributes = {"Content-Type": content_type or keys.content_type(key)}
        if isinstance(body, Path):
            if body.stat().st_size > _PIECE_BYTES:
                return self._create_in_pieces(key, body, attributes)
            body = body.read_bytes()
        try:
            with _vendor_errors(key, absent="bucket"):
                put = obstore.put(self._store, key, body, mode="create", attributes=attributes)
        except FileExistsError as error:
            if "status code: 412 " not in str(error.__cause__):
                self._confirm_existing(key)
            raise
        return _etag(key, put["e_tag"])

    def _confirm_existing(self, key: str) -> None:
        """S3 may say 409: another write of this key was under way. Whether that one made it is another question."""
        try:
            self.head(key)
        except FileNotFoundError as error:
            raise Unavailable(f"{key}: another write got in the way and came to nothing; try again") from error

    def _create_in_pieces(self, key: str, body: Path, attributes: dict[str, str]) -> str:
        with contextlib.suppress(FileNotFoundError):
            self.head(key)
            raise FileExistsError(key)
        with _vendor_errors(key, absent="bucket"):
            put = obstore.put(
                self._store,
                key,
                body,
                attributes=attributes,
                use_multipart=True,
                chunk_size=_PIECE_BYTES,
                max_concurrency=4,
            )
        return _etag(key, put["e_tag"])

    def swap(self, key: str, body: bytes, *, etag: str | None, content_type: str | None = None) -> str:
        if etag is None:
            try:
                return self.create(key, body, content_type=content_type)
            except FileExistsError as error:
                raise SwapLost(f"{key}: expected no object, found one") from error
        attributes = {"Content-Type": content_type or keys.content_type(key)}
        try:
            with _vendor_errors(key):
                put = obstore.put(self._store, checked_key(key), body, mode={"e_tag": etag}, attributes=attributes)
        except (FileNotFoundError, FileExistsError) as error:  # stores differ in how they say it
            raise SwapLost(f"{key}: expected etag {etag}, found another or no object") from error
        return _etag(key, put["e_tag"])

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        checked_range(start, length)
        if start == 0 and length is None:
            return self.read_versioned(key)[0]
        if length == 0:
            self.head(key)
            return b""
        try:
            with _vendor_errors(key):
                wanted: GetOptions = {"range": {"offset": start} if length is None else (start, start + length)}
                return bytes(obstore.get(self._store, checked_key(key), options=wanted).bytes())
        except Unavailable:
            if self.head(key).size_bytes > start:
                raise
            return b""  # a range that starts at the end cannot be satisfied, as S3 has it

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        with _vendor_errors(key):
            found = obstore.get(self._store, checked_key(key))
            return bytes(found.bytes()), _etag(key, found.meta["e_tag"])

    def head(self, key: str) -> Head:
        with _vendor_errors(key):
            found = obstore.get(self._store, checked_key(key), options={"head": True})
        content_type = found.attributes.get("Content-Type", keys.content_type(key))
        return Head(found.meta["size"], _etag(key, found.meta["e_tag"]), found.meta["last_modified"], content_type)

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        return self._list(checked_prefix(prefix), checked_prefix(after))

    def _list(self, prefix: str, after: str) -> Iterator[str]:
        folder = prefix[: prefix.rfind("/") + 1]
        if after > prefix and not after.startswith(folder):
            return
        start = after if self._lists_in_order and after >= prefix else _safe_start(max(after, prefix), folder)
        found = self._stream(folder, start)
        last = ""
        for key in found if self._lists_in_order else _in_order(found, folder):
            if key <= last:
                raise Unavailable(f"{self.url}: listed {key!r} after {last!r}, out of order")
            last = key
            if key > prefix and not key.startswith(prefix):
                return
            if key > after and key >= prefix and is_key(key):
                yield key

    def _stream(self, folder: str, start: str | None) -> Iterator[str]:
        """Keys below `folder` in the store's order, from behind `start`."""
        chunks = obstore.list(self._store, folder or None, offset=start, chunk_size=1000)
        while True:
            with _vendor_errors(folder):
                chunk = next(chunks, None)
            if chunk is None:
                return
            for found in chunk:
                yield found["path"]

    def delete(self, *keys: str) -> None:
        if keys:
            with contextlib.suppress(FileNotFoundError), _vendor_errors(keys[0]):
                obstore.delete(self._store, [checked_key(key) for key in keys])

    @contextlib.contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        with _vendor_errors(key):
            found = obstore.get(self._store, checked_key(key))
        with tempfile.TemporaryDirectory(prefix="runfeed-") as folder:
            path = Path(folder) / key.rpartition("/")[2]
            with _vendor_errors(key), storage_errors(key), open(path, "wb") as file:
                for piece in found.stream(min_chunk_size=1 << 20):
                    file.write(piece)
            yield path

    def check_conditional_writes(self) -> None:
        """Refused unless the store lets one writer win; to be called at start by whoever writes.

        Writes, swaps and deletes under `probe/`, and learns on the way whether `list` may trust the store's order.
        """
        probe = f"probe/{secrets.token_hex(8)}"
        inner, beside = f"{probe}/x/inner", f"{probe}/x-beside"
        try:
            etag = self.create(inner, b"1")
            self._expect_refusal(inner, None, "created one key twice")
            self._expect_refusal(inner, '"00000000000000000000000000000000"', "replaced a version it did not hold")
            self.swap(inner, b"2", etag=etag)
            self._expect_refusal(inner, etag, "replaced a version that was gone")
            self.create(beside, b"")
            self._lists_in_order = list(self._stream(f"{probe}/", f"{probe}/x")) == [beside, inner]
        except FileExistsError as error:  # nobody else has this name: our own write, whose confirmation got lost
            raise Unavailable(f"{self.url}: an answer got lost on the way: {error}") from error
        finally:
            with contextlib.suppress(Unavailable):  # a probe that stays is harmless, and the first error says more
                self.delete(inner)
                self.delete(beside)

    def _expect_refusal(self, key: str, etag: str | None, found: str) -> None:
        try:
            self.swap(key, b"lost", etag=etag)
        except SwapLost:
            return
        raise Refused(self.url, "a store with conditional writes (If-None-Match and If-Match)", f"that it {found}")


def open_s3(url: str, environ: Mapping[str, str]) -> S3Bucket:
    """The bucket that `url` names (`s3://bucket` or `s3://bucket/prefix`), with address and keys from `environ`.

    Uses AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION; an empty one
    counts as absent. An endpoint that starts with `http://` is taken at its word. Refused says what is missing.
    """
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*?))?/?", url)
    if match is None or (match[2] and not is_key(match[2])):
        raise Refused("storage", "s3://bucket or s3://bucket/prefix", repr(url[:200]))
    endpoint = environ.get("AWS_ENDPOINT_URL") or None
    if endpoint is not None and not re.match(r"https?://[^/]", endpoint):
        raise Refused("AWS_ENDPOINT_URL", "http://host:port or https://host", repr(endpoint[:200]))
    access_key, secret_key = environ.get("AWS_ACCESS_KEY_ID") or None, environ.get("AWS_SECRET_ACCESS_KEY") or ""
    if (access_key is None) != (secret_key == "") or (endpoint is not None and access_key is None):
        given = [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if environ.get(name)]
        raise Refused(url, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", f"only {given[0]}" if given else "neither")
    return S3Bucket(
        match[1],
        match[2] or "",
        endpoint=endpoint,
        access_key=access_key,
        secret_key=secret_key,
        session_token=environ.get("AWS_SESSION_TOKEN") or None,
        region=environ.get("AWS_REGION") or "us-east-1",
        allow_http=endpoint is not None and endpoint.startswith("http://"),
    )


def _safe_start(key: str, folder: str) -> str | None:
    """Where a listing of `folder` can start so that no store passes over a key from `key` on. Pure.

    Stores that walk folders differ from key order only where a name goes on with `-` or `.` (both sort before `/`),
    and skip all of a folder that they are asked to start behind. So: up to the first of those, and one character less,
    but not a folder's whole name.
    """
    start = folder + re.split("[.-]", key[len(folder) :], maxsplit=1)[0]
    start = start.rstrip("/")[:-1]
    while start.endswith("/"):
        start = start[:-2]
    return start if len(start) > len(folder) else None


def _in_order(found: Iterable[str], folder: str) -> Iterator[str]:
    """`found` in key order, from a store that lists in key order or folder by folder. Pure.

    Names below `folder` that agree up to their first `-`, `.` or `/` follow each other in both orders; only within such
    a group do the orders differ, so one group is held at a time.
    """
    for _, group in groupby(found, lambda key: re.split("[./-]", key[len(folder) :], maxsplit=1)[0]):
        yield from sorted(group)


def _etag(key: str, etag: str | None) -> str:
    if etag is None:
        raise Unavailable(f"{key}: the store gave no etag")
    return etag


@contextlib.contextmanager
def _vendor_errors(key: str, absent: str = "object") -> Iterator[None]:
    """The vendor's errors as ours. `absent` says what is missing when the store finds something missing."""
    try:
        yield
    except FileNotFoundError as error:
        if absent == "bucket" or "NoSuchBucket" in str(error):
            raise Unavailable(f"{key}: there is no such bucket: {_said(error)}") from error
        raise FileNotFoundError(key) from error
    except AlreadyExistsError as error:
        raise FileExistsError(key) from error
    except PreconditionError as error:
        raise SwapLost(f"{key}: the object is not the one expected") from error
    except (BaseError, NotImplementedError) as error:
        said = _said(error)
        if "501 Not Implemented" in said or isinstance(error, NotImplementedError):
            raise Refused(key, "a store with conditional writes (If-None-Match and If-Match)", said) from error
        if "507 " in said or "StorageFull" in said:
            raise StorageFull(f"{key}: the store has no room left: {said}") from error
        raise Unavailable(f"{key}: the store failed: {said}") from error


def _said(error: Exception) -> str:
    """The first line of what obstore says, with the store's own error code instead of its XML."""
    text = str(error)
    code = _CODE.search(text)
    line = text.partition("\n")[0].partition(": <?xml")[0].strip()
    return f"{line} ({code[1]})" if code else line
