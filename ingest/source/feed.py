"""Anybody's Atom or RSS feed: which enclosures it has, and where its archive goes on.

feedparser reads whatever people call a feed, but neither its time nor its memory is bounded by the size of what it
reads, so it does that in a process of its own, which has nothing but the document: `python -m ingest.source.feed`.
"""

import io
import os
import resource
import subprocess
import sys
from typing import Any
from urllib.parse import urljoin

import msgspec

from schemas.errors import Refused, Unavailable

MAX_ENCLOSURES = 5000
"""Of one document."""

SECONDS, MEMORY_BYTES = 30, 1 << 30

_LONGEST = 2000
_PASSED_ON = ("PATH", "LANG", "TMPDIR")
"""Of the environment; the rest may hold credentials."""


class Enclosure(msgspec.Struct, frozen=True):
    """A file that an entry carries. Type and size are the feed's word; "" and None if it has none."""

    entry: str
    """The entry's id: its own, or its link, or the enclosure's URL."""
    url: str
    media_type: str = ""
    size_bytes: int | None = None


class Feed(msgspec.Struct, frozen=True):
    """What matters to us in a document. `enclosures` are oldest first, as far as the feed's order shows it."""

    id: str = ""
    """Atom's; empty where there is none."""
    enclosures: list[Enclosure] = []
    older: str = ""
    """URL of the document before it (RFC 5005: prev-archive, or next of a paged feed)."""
    every_seconds: float = 0.0
    """How often it changes, as it says itself."""
    problem: str = ""
    """Why it is no feed."""


class _Question(msgspec.Struct, frozen=True):
    url: str
    content_type: str
    body: bytes


def read_feed(body: bytes, *, url: str, content_type: str) -> Feed:
    """The feed in `body`, which came from `url`. Refused if it is none, or takes too long to read."""
    command = [sys.executable, "-P", "-m", "ingest.source.feed"]
    environ = {name: value for name, value in os.environ.items() if name in _PASSED_ON}
    question = msgspec.msgpack.encode(_Question(url, content_type, body))
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, input=question, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ,
            timeout=2 * SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise _unreadable(url, f"one that takes more than {2 * SECONDS} s") from error
    except OSError as error:
        raise Unavailable(f"the process that reads feeds cannot be started: {error}") from error
    if done.returncode:
        limits = f"{SECONDS} s, {MEMORY_BYTES >> 20} MiB"
        raise _unreadable(url, f"one that ends what reads it (status {done.returncode}; it has {limits})")
    feed = msgspec.msgpack.decode(done.stdout, type=Feed)
    if feed.problem:
        raise Refused(url, "an Atom or RSS feed", feed.problem, status=422)
    return feed


def _unreadable(url: str, found: str) -> Refused:
    return Refused(url, "a feed that can be read", found, status=422)


def parse_feed(body: bytes, *, url: str, content_type: str) -> Feed:
    """The same in this process: pure, but not bounded. What the reader stumbles over is a problem of the feed."""
    try:
        return _parsed(body, url=url, content_type=content_type)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - of some documents feedparser raises whatever its own slips come to
        return Feed(problem=f"one that its reader stumbles over ({type(error).__name__})")


def _parsed(body: bytes, *, url: str, content_type: str) -> Feed:
    import feedparser  # here, so that only the process that reads feeds loads it

    # Bytes in a file are never taken for an address or a path.
    parsed = feedparser.parse(
        io.BytesIO(body),
        response_headers={"content-location": url, "content-type": content_type or "application/xml"},
        sanitize_html=False,
        resolve_relative_uris=False,
    )
    if not parsed.get("version") and not parsed.entries:
        reason = str(parsed.get("bozo_exception") or "")[:200]
        return Feed(problem=f"{content_type or 'something else'}" + (f" ({reason})" if reason else ""))
    found = [one for entry in reversed(parsed.entries) for one in _enclosures(entry, url)]
    links = {link.get("rel"): link.get("href", "") for link in reversed(parsed.feed.get("links", []))}
    older = links.get("prev-archive") or links.get("next") or ""
    return Feed(
        id=_text(parsed.feed.get("id")),
        enclosures=found[-MAX_ENCLOSURES:],
        older=_joined(url, _text(older)) if older else "",
        every_seconds=_update_seconds(parsed.feed),
    )


def _enclosures(entry: Any, url: str) -> list[Enclosure]:
    """Those of links and of Media RSS, each URL once."""
    found: dict[str, Enclosure] = {}
    named = [(link.get("href"), link.get("type"), link.get("length")) for link in entry.get("enclosures", [])]
    named += [
        (media.get("url"), media.get("type") or _kind(media.get("medium")), media.get("filesize"))
        for media in entry.get("media_content", [])
    ]
    for href, media_type, length in named:
        target = _joined(url, _text(href))
        if href and target:
            id = _text(entry.get("id") or entry.get("link") or target)
            size = int(length) if isinstance(length, str) and length.isdecimal() and len(length) < 16 else None
            found.setdefault(target, Enclosure(id, target, _text(media_type).strip().lower(), size))
    return list(found.values())


def _text(value: object) -> str:
    """`value` as text that can be written down: bounded, without lone surrogates."""
    return str(value or "")[: _LONGEST + 1].encode("utf-8", "replace").decode()


def _kind(medium: object) -> str:
    """The media type that Media RSS's `medium` comes to."""
    return f"{medium}/*" if medium in ("image", "audio", "video") else ""


def _joined(url: str, reference: str) -> str:
    """`reference` as an address, or "" if it cannot be one or is too long."""
    try:
        target = urljoin(url, reference.strip())
    except ValueError:
        return ""
    return target if len(target) <= _LONGEST else ""


def _update_seconds(feed: Any) -> float:
    from ingest.source.pace import update_seconds

    names = ("ttl", "sy_updateperiod", "sy_updatefrequency")
    return update_seconds(*(str(feed.get(name, "")) for name in names))


def main() -> None:
    """Answer one question, from standard input to standard output."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    asked = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Question)
    feed = parse_feed(asked.body, url=asked.url, content_type=asked.content_type)
    sys.stdout.buffer.write(msgspec.msgpack.encode(feed))


if __name__ == "__main__":
    main()
