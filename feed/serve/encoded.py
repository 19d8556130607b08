"""Objects as they go out compressed, kept for a while: the newest pages and the head are what most readers ask for."""

import threading
from collections import OrderedDict

from infra.bucket import Bucket
from infra.compression import Coding, encoded

KEPT_BYTES = 32 << 20


class EncodedObjects:
    """Encoded bodies of one bucket, the least used forgotten first. Safe to use from many threads."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._size_bytes = 0
        self._bodies: OrderedDict[tuple[str, str, Coding], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, bucket: Bucket, key: str, etag: str, plain: bytes | None, coding: Coding) -> bytes:
        """The object of that etag, encoded; read from `bucket` unless its `plain` bytes are given or it is known."""
        known = key, etag, coding
        with self._lock:
            if known in self._bodies:
                self._bodies.move_to_end(known)
                return self._bodies[known]
        body = encoded(bucket.read(key) if plain is None else plain, coding)
        with self._lock:
            if known not in self._bodies:
                self._bodies[known] = body
                self._size_bytes += len(body)
            while self._size_bytes > self._kept_bytes:
                self._size_bytes -= len(self._bodies.popitem(last=False)[1])
        return body
