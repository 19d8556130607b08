"""A bucket that counts what is asked of it, and is otherwise the bucket it wraps."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from infra.bucket import Bucket, Buckets, Head
from infra.metrics import Metrics
from schemas.errors import SwapLost, Unavailable

KINDS = frozenset(
    {"blobs", "submissions", "feeds", "lake", "outcomes", "catalog", "parts", "projects", "benchmarks", "probe"}
    | {"snapshots", "pending", "attempts", "checkpoints", "tokens", "leases", "runners", "inbox", "inbox-refused"}
    | {"uploads", "swept", "keys", "withdrawals", "withdrawing", "sources", "hub"}
)
"""Of objects, by the beginning of their keys; any other is `other`."""

_KEYS_PER_REQUEST = 1000
"""Of a listing and of a deletion, as S3 has it."""

_RESULTS: list[tuple[type[Exception], str]] = [
    (FileExistsError, "exists"),
    (FileNotFoundError, "absent"),
    (SwapLost, "lost"),
    (Unavailable, "failed"),
]


def counted(buckets: Buckets, metrics: Metrics) -> Buckets:
    """Both buckets, counting into `metrics`."""
    public, private = (
        CountedBucket(buckets.public, "public", metrics),
        CountedBucket(buckets.private, "private", metrics),
    )
    return Buckets(public, private)


class CountedBucket:
    """Implements `infra.bucket.Bucket`; what else the wrapped one can do goes through uncounted."""

    def __init__(self, bucket: Bucket, name: str, metrics: Metrics) -> None:
        self._bucket = bucket
        self._name = name
        self._metrics = metrics

    def create(self, key: str, body: bytes | Path, *, content_type: str | None = None) -> str:
        with self._counting("create", key):
            return self._bucket.create(key, body, content_type=content_type)

    def swap(self, key: str, body: bytes, *, etag: str | None, content_type: str | None = None) -> str:
        with self._counting("swap", key):
            return self._bucket.swap(key, body, etag=etag, content_type=content_type)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        with self._counting("read", key):
            return self._bucket.read(key, start, length)

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        with self._counting("read", key):
            return self._bucket.read_versioned(key)

    def head(self, key: str) -> Head:
        with self._counting("head", key):
            return self._bucket.head(key)

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        keys = 0
        for key in self._bucket.list(prefix, after):
            if keys % _KEYS_PER_REQUEST == 0:
                self._count("list", prefix, "ok")
            keys += 1
            yield key
        if keys == 0:
            self._count("list", prefix, "ok")

    def delete(self, *keys: str) -> None:
        if not keys:
            return
        with self._counting("delete", keys[0], requests=-(-len(keys) // _KEYS_PER_REQUEST)):
            self._bucket.delete(*keys)

    @contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        with ExitStack() as stack:
            with self._counting("read", key):
                path = stack.enter_context(self._bucket.local_path(key))
            yield path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bucket, name)

    @contextmanager
    def _counting(self, verb: str, key: str, requests: int = 1) -> Iterator[None]:
        try:
            yield
        except (FileExistsError, FileNotFoundError, Unavailable) as error:
            self._count(verb, key, next(name for kind, name in _RESULTS if isinstance(error, kind)), requests)
            raise
        self._count(verb, key, "ok", requests)

    def _count(self, verb: str, key: str, result: str, requests: int = 1) -> None:
        self._metrics.request(self._name, verb, kind_of(key), result, requests)


def kind_of(key: str) -> str:
    """The kind of object that a key, or the beginning of one, names."""
    kind, _, rest = key.partition("/")
    if kind == "lake" and "/" in rest:  # lake/v<N>/<table>/…
        table = rest.split("/")[1]
        kind = table if table in ("outcomes", "catalog") else "parts"
    return kind if kind in KINDS else "other"
