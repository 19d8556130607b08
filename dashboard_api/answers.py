"""What an answer is on the wire: which representation, its bytes, its ETag, and bytes already made. No HTTP server.

The rows of a list can be had as JSON, as CSV (RFC 4180) and as an Arrow IPC stream, all with the same columns. In CSV
null is empty, and lists and maps are JSON text. Data is never altered for the sake of spreadsheets.
"""

import csv
import io
import re
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa

from schemas.errors import Refused

CACHE_BYTES = 32 << 20

_QUALITY = re.compile(r"q=([01](?:\.\d{0,3})?)")
_OVERHEAD_BYTES = 500
"""Of a cached answer besides its body: key, record, place in the order."""


@dataclass(frozen=True)
class Representation:
    """One way to write the same rows. `name` is also the suffix of a path that asks for it."""

    name: str
    media_type: str


JSON = Representation("json", "application/json")
CSV = Representation("csv", "text/csv")
ARROW = Representation("arrow", "application/vnd.apache.arrow.stream")
ALL = (JSON, CSV, ARROW)
ATOM = Representation("atom", "application/atom+xml")
JSON_FEED = Representation("feed.json", "application/feed+json")
FEEDS = (ATOM, JSON_FEED)
"""Ways to write the rows of a list whose new rows people wait for (`feeds`)."""


def chosen(accept: str | None, offered: Sequence[Representation]) -> Representation:
    """What the Accept header (RFC 9110, 12.5.1) likes best, the first offered among equals; Refused 406 if nothing."""
    ranges = [_parsed_range(one) for one in (accept or "*/*").split(",") if one.strip()]
    best = max(offered, key=lambda one: _quality(one, ranges))
    if _quality(best, ranges) > 0:
        return best
    names = ", ".join(one.media_type for one in offered)
    raise Refused("Accept", f"one of {names}", repr((accept or "")[:80]), status=406)


def _parsed_range(text: str) -> tuple[str, float]:
    media_range, *parameters = (part.strip().lower() for part in text.split(";"))
    found = [match[1] for one in parameters if (match := _QUALITY.fullmatch(one))]
    return media_range, min(float(found[0]), 1.0) if found else 1.0


def _quality(one: Representation, ranges: list[tuple[str, float]]) -> float:
    """The most specific range that fits decides."""
    for wanted in (one.media_type, one.media_type.split("/")[0] + "/*", "*/*"):
        fitting = [quality for media_range, quality in ranges if media_range == wanted]
        if fitting:
            return max(fitting)
    return 0.0


def make_etag(version: str, representation: Representation) -> str:
    return f'"{version}-{representation.name}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the client's If-None-Match (RFC 9110, 13.1.2; weak comparison) names `etag`."""
    return etag in [one.strip().removeprefix("W/") for one in (if_none_match or "").split(",")]


def encoded_json(answer: Any) -> bytes:
    return msgspec.json.encode(answer)


def encoded_csv(columns: Sequence[str], rows: Sequence[Any]) -> bytes:
    """A header and a line per row of Structs."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([csv_cell(getattr(row, name)) for name in columns])
    return text.getvalue().encode()


def csv_cell(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return msgspec.to_builtins(value)
    if isinstance(value, bool | list | dict):
        return msgspec.json.encode(value).decode()
    return value


def encoded_arrow(table: pa.Table) -> bytes:
    """An Arrow IPC stream. Equal tables give equal bytes, as a strong ETag promises."""
    # DuckDB leaves beneath a null whatever was there before; `take` writes zeros.
    table = table.take(pa.array(range(table.num_rows), pa.int64()))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


@dataclass(frozen=True)
class Answer:
    """Bytes ready to send, and the cursor of what follows them."""

    body: bytes
    next: str | None = None


class AnswerCache:
    """Answers made before, the least recently used dropped beyond `max_bytes`. The key must hold the data version."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self._answers: OrderedDict[Hashable, Answer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Answer | None:
        with self._lock:
            answer = self._answers.get(key)
            if answer is not None:
                self._answers.move_to_end(key)
            return answer

    def put(self, key: Hashable, answer: Answer) -> None:
        """Keep it, unless it would drive out a quarter of all others."""
        size = len(answer.body) + _OVERHEAD_BYTES
        if size > self.max_bytes // 4:
            return
        with self._lock:
            if key in self._answers:
                return
            self._answers[key] = answer
            self.size_bytes += size
            while self.size_bytes > self.max_bytes:
                _, dropped = self._answers.popitem(last=False)
                self.size_bytes -= len(dropped.body) + _OVERHEAD_BYTES
