"""Sources: somebody else's feeds, which we look at ourselves. What the operator has said of each, and how far it is.

    sources/<name>.json         what was said; written by `runfeed source`
    sources/<name>/state.json   how far it has come; swapped by whoever looks at it

Whoever loses a swap of the state stops: another process looks at that source. Nothing breaks if two do, since the id
of a submission comes from its content.
"""

import contextlib
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused
from schemas.records import Source, SourceState

_SOURCE = re.compile(r"sources/([^/]+)\.json")


def checked_source(name: str) -> str:
    """`name` if it may name a source, which is as projects are named, but not `….json`; else Refused 422."""
    if keys.checked_project(name, "source").endswith(".json"):
        raise Refused("source", "a name that does not end with .json", repr(name), status=422)
    return name


def name_from(url: str) -> str:
    """A name for the source at `url`: its host."""
    host = re.sub(r"[^a-z0-9.-]+", "-", (urlsplit(url).hostname or "").lower()).strip(".-")
    return checked_source(host[:64].strip(".-"))


def set_source(private: Bucket, source: Source) -> bool:
    """Have `source` looked at; whether it is new. One that is there may change in all but its URL (Refused 409)."""
    key = keys.source(checked_source(source.name))
    try:
        private.create(key, msgspec.json.encode(source))
    except FileExistsError:
        body, etag = private.read_versioned(key)
        known = msgspec.json.decode(body, type=Source)
        if known.url != source.url:
            raise Refused(
                f"source {source.name}", "a name that no other feed has (--name)", known.url, status=409
            ) from None
        private.swap(key, msgspec.json.encode(msgspec.structs.replace(source, created=known.created)), etag=etag)
        return False
    return True


def remove_source(private: Bucket, name: str) -> None:
    """Look at source `name` no more, and forget how far it was; what was taken stays. Fine if there is none."""
    private.delete(keys.source(checked_source(name)))
    private.delete(keys.source_state(name))


def read_source(private: Bucket, name: str) -> Source:
    """The source of that name, else Refused 404."""
    try:
        return msgspec.json.decode(private.read(keys.source(checked_source(name))), type=Source)
    except FileNotFoundError:
        raise Refused("source", "a source that is known (see: runfeed source list)", repr(name), status=404) from None


def source_names(private: Bucket) -> list[str]:
    """Of all sources, ascending."""
    found = (_SOURCE.fullmatch(key) for key in private.list(keys.SOURCES))
    return sorted(match[1] for match in found if match)


def sources(private: Bucket) -> Iterator[Source]:
    """All sources, by name."""
    for name in source_names(private):
        with contextlib.suppress(Refused):  # removed meanwhile
            yield read_source(private, name)


def read_state(private: Bucket, source: Source) -> tuple[SourceState, str | None]:
    """How far `source` has come, and the etag of that; the beginning, and the etag to swap, if there is nothing yet or
    it is of a source of the same name that had another URL."""
    try:
        body, etag = private.read_versioned(keys.source_state(source.name))
    except FileNotFoundError:
        return SourceState(url=source.url), None
    state = msgspec.json.decode(body, type=SourceState)
    return (state if state.url == source.url else SourceState(url=source.url)), etag


def write_state(private: Bucket, source: Source, state: SourceState, etag: str | None) -> str:
    """The new etag; SwapLost if another process was here, or the source was removed."""
    return private.swap(keys.source_state(source.name), msgspec.json.encode(state), etag=etag)
