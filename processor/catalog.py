"""A lake version's catalogs: which files hold each row once, for engines that read Parquet where it lies.

A catalog never changes; creating it is the commit of a compaction, so of several that make one generation one wins. Any
catalog, the newest or not, gives the lake's rows together with the outcomes after it (`schemas.records.Catalog`), so
nothing depends on how fast `current.json` follows.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from infra.bucket import Bucket
from schemas import keys
from schemas.errors import SwapLost, Unavailable
from schemas.records import Catalog, CurrentCatalog, PartRef


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """Of an outcome, what tells where its rows are."""

    first: int
    last: int
    revision: int
    parts: list[PartRef]


def catalogs(public: Bucket, lake_version: int) -> list[int]:
    """The generations that are there, ascending."""
    found = []
    for key in public.list(keys.catalog_prefix(lake_version)):
        named = keys.parse_catalog(key)
        if named is None:
            break  # what follows is `current.json` and the folders of merged files
        found.append(named[1])
    return found


def read_catalog(public: Bucket, lake_version: int, generation: int) -> Catalog:
    return msgspec.json.decode(public.read(keys.catalog(lake_version, generation)), type=Catalog)


def named_files(public: Bucket, lake_version: int, generations: Iterable[int]) -> set[str]:
    """The keys of all files that these catalogs name; one that is gone names nothing."""
    named: set[str] = set()
    for generation in generations:
        with contextlib.suppress(FileNotFoundError):
            tables = read_catalog(public, lake_version, generation).tables
            named.update(file.key for files in tables.values() for file in files)
    return named


def newest_catalog(public: Bucket, lake_version: int) -> Catalog:
    """The newest; an empty one, of generation 0, where nothing has been compacted."""
    while generations := catalogs(public, lake_version):
        with contextlib.suppress(FileNotFoundError):  # there is a newer one since then, and a withdrawal removed this
            return read_catalog(public, lake_version, generations[-1])
    return Catalog(version=lake_version, generation=0, through=0, tables={})


def publish_catalog(public: Bucket, catalog: Catalog) -> bool:
    """Commit `catalog` and let `current.json` name it; False if somebody else has committed its generation."""
    body = msgspec.json.encode(catalog)
    key = keys.catalog(catalog.version, catalog.generation)
    try:
        public.create(key, body)
    except FileExistsError:
        if public.read(key) != body:  # perhaps our own, whose confirmation got lost
            return False
    point_to(public, catalog.version, catalog.generation)
    return True


def point_to(public: Bucket, lake_version: int, generation: int) -> None:
    """Move `current.json` forward to `generation`; never back."""
    key = keys.current_catalog(lake_version)
    body = msgspec.json.encode(CurrentCatalog(key=keys.catalog(lake_version, generation)))
    while True:
        try:
            found, etag = public.read_versioned(key)
        except FileNotFoundError:
            etag = None
        else:
            if current_generation(key, found) >= generation:
                return
        try:
            public.swap(key, body, etag=etag)
        except SwapLost:
            continue
        return


def current_generation(key: str, body: bytes) -> int:
    """Which generation the `current.json` of that key and body names."""
    named = keys.parse_catalog(msgspec.json.decode(body, type=CurrentCatalog).key)
    if named is None:
        raise Unavailable(f"{key}: expected the key of a catalog, found {body[:80]!r}")
    return named[1]


@dataclass(frozen=True)
class Later:
    """What outcomes after a catalog change: batches that it holds and whose rows are others now, and new parts."""

    replaced: list[tuple[int, int]] = field(default_factory=list)
    """First and last seq of each."""
    parts: list[PartRef] = field(default_factory=list)
    revisions: dict[int, int] = field(default_factory=dict)
    """As in a catalog that holds all these."""


def later(catalog: Catalog, outcomes: Iterable[Committed]) -> Later:
    """What `outcomes`, those after the catalog in the order of their log, change. Pure."""
    newest: dict[int, Committed] = {}
    for outcome in outcomes:
        held = newest[outcome.first].revision if outcome.first in newest else catalog.revisions.get(outcome.first, -1)
        if outcome.revision > held:
            newest[outcome.first] = outcome
    revised = {outcome.first: outcome.revision for outcome in newest.values() if outcome.revision}
    return Later(
        [(outcome.first, outcome.last) for outcome in newest.values() if outcome.revision],
        [part for outcome in newest.values() for part in outcome.parts],
        catalog.revisions | revised,
    )
