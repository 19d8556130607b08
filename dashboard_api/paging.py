"""Pages of a query by keyset: a cursor names the last row shown, so rows that arrive meanwhile shift nothing.

A Listing is a query not yet run. It gives Structs for pages and JSON, or an Arrow table straight from DuckDB; both
have the same columns and the same next cursor.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import pyarrow as pa

from dashboard_api.database import Snapshot
from dashboard_api.resources import Page, Row
from schemas.errors import Refused

R = TypeVar("R", bound=Row)
K = TypeVar("K")
V = TypeVar("V")
Seq = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What fits DuckDB's BIGINT."""

_MAX_CURSOR = 2000


@dataclass(frozen=True)
class Listing(Generic[R]):
    """`sql` gives the columns of `item` and of `key` in the order of the list, with no LIMIT of its own."""

    sql: str
    parameters: dict[str, Any]
    item: type[R]
    key: tuple[str, ...]
    """The columns that name a row's place in the order."""
    limit: int
    turned: bool = False
    """The order is newest first to find the newest rows, but they are shown oldest first."""

    def arrow(self, snapshot: Snapshot) -> tuple[pa.Table, str | None]:
        """The page's rows and the next cursor."""
        found = snapshot.arrow(f"{self.sql} LIMIT {self.limit + 1}", self.parameters)
        page = found.slice(0, self.limit)
        cursor = None
        if found.num_rows > self.limit:
            last = page.slice(self.limit - 1)
            cursor = make_cursor([values[0] for values in _columns(last.select(list(self.key)))])
        if self.turned:
            page = page.take(pa.array(range(page.num_rows - 1, -1, -1), pa.int64()))
        return page.select(list(self.item.__struct_fields__)), cursor

    def page(self, snapshot: Snapshot) -> Page[R]:
        """The same as Structs."""
        table, cursor = self.arrow(snapshot)
        return Page(items=rows_of(table, self.item), next=cursor)


def rows_of(table: pa.Table, item: Callable[..., V]) -> list[V]:
    """A Struct (or dict) per row; the columns carry its fields' names."""
    names = table.column_names
    return [item(**dict(zip(names, values, strict=True))) for values in zip(*_columns(table), strict=True)]


def make_cursor(key: Sequence[Any]) -> str:
    """The place of a row in its list, as opaque text that needs no escaping in a URL."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def parse_cursor(cursor: str | None, type: type[K], where: str) -> K | None:
    """The key in `cursor`, or Refused 400 if it is no cursor of this kind of list."""
    if cursor is None:
        return None
    try:
        if len(cursor) > _MAX_CURSOR:
            raise ValueError("too long")
        return msgspec.json.decode(
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True), type=type
        )
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError) as error:
        raise Refused(where, "a cursor from an answer's next", repr(cursor[:80])) from error


def _columns(table: pa.Table) -> list[list[Any]]:
    return [_values(column) for column in table.columns]


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Python values: times aware (without asking the machine for its time zones), maps as dicts."""
    if pa.types.is_timestamp(column.type):
        return [time and time.replace(tzinfo=UTC) for time in column.cast(pa.timestamp("us")).to_pylist()]
    if pa.types.is_map(column.type):
        return [None if pairs is None else dict(pairs) for pairs in column.to_pylist()]
    values: list[Any] = column.to_pylist()
    return values
