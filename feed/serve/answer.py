"""What to answer to a GET of an object that exists: status, headers, which bytes, how encoded (RFC 9110). Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

from feed.serve.topics import hubs_of, topic_of
from infra.bucket import Head
from infra.compression import VARY, Coding, coding_etag, coding_for, coding_headers
from schemas import keys

COMMON = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range, ETag, Link",
    "X-Content-Type-Options": "nosniff",
}
"""What every answer says."""

_HEAD = re.compile(r"feeds/([a-z0-9-]+)/current\.atom")
_SHORT = re.compile(r"feeds/.*")
_LASTING = ("feeds/", "withdrawals/", "benchmarks/")
"""What stays, whatever is withdrawn."""

_TEXT = re.compile(r"(?!blobs/).*\.(?:atom|json)")
_RANGE = re.compile(r"bytes\s*=\s*(?:(\d{1,18})\s*-\s*(\d{1,18})?|-\s*(\d{1,18}))\s*")
_BLOB = {"Content-Disposition": "attachment", "Content-Security-Policy": "sandbox"}


@dataclass(frozen=True)
class Answer:
    """What to send: status, headers, and which bytes (`length` of them from `start`)."""

    status: int
    headers: dict[str, str]
    start: int = 0
    length: int = 0
    """Of the plain bytes, unless they are encoded."""
    coding: Coding = "identity"

    @property
    def sends(self) -> bool:
        return self.status not in (204, 304, 416)


def answer_to(key: str, asked: dict[str, str], head: Head, now: datetime) -> Answer:
    """The answer to a GET of an object that exists; `asked` are the request's headers, by lower-case name."""
    mutable = keys.is_mutable(key)
    text = _TEXT.fullmatch(key) is not None
    # Ranges are of the plain bytes, so whoever asks for one gets those, and their ETag.
    coding = coding_for(asked.get("accept-encoding"), head.size_bytes) if text and "range" not in asked else "identity"
    etag = coding_etag('"' + head.etag.strip('"') + '"', coding)
    # A date tells versions of one second apart only once that second is over (RFC 9110, 8.8.2.2).
    modified = None if mutable and now - head.modified < timedelta(seconds=2) else head.modified.replace(microsecond=0)
    headers = COMMON | {
        "Cache-Control": _cache_control(key),
        "ETag": etag,
        "Accept-Ranges": "bytes" if coding == "identity" else "none",
    }
    if text:
        headers |= VARY
    if modified:
        headers["Last-Modified"] = format_datetime(modified.astimezone(UTC), usegmt=True)
    if _not_modified(asked, etag, modified):
        return Answer(304, headers)
    if key.startswith("blobs/"):
        headers |= _BLOB | {"Content-Type": "application/octet-stream"}
    else:
        headers["Content-Type"] = head.content_type
    if "range" not in asked or not _range_holds(asked.get("if-range"), etag, modified):
        encoding = coding_headers(coding) if text else {}
        return Answer(200, headers | encoding, 0, head.size_bytes, coding)
    match = _RANGE.fullmatch(asked["range"])
    if not match or (match[2] and int(match[2]) < int(match[1])):
        return Answer(200, headers, 0, head.size_bytes)  # several ranges, or none that we know: the whole is allowed
    start = int(match[1]) if match[1] else max(0, head.size_bytes - int(match[3]))
    last = min(int(match[2]), head.size_bytes - 1) if match[2] else head.size_bytes - 1
    if start > last:
        return Answer(416, headers | {"Content-Range": f"bytes */{head.size_bytes}"})
    headers["Content-Range"] = f"bytes {start}-{last}/{head.size_bytes}"
    return Answer(206, headers, start, last - start + 1)


def _cache_control(key: str) -> str:
    """Pages for ever, and for a day what a withdrawal may remove, since it has to reach caches too. A log's head and
    its index for a second, about as long as commits wait for each other under load: a cache before a thousand readers
    then asks once a second. Other pointers are asked for anew."""
    if not keys.is_mutable(key):
        return f"public, max-age={31536000 if key.startswith(_LASTING) else 86400}, immutable"
    return "public, max-age=1" if _SHORT.fullmatch(key) else "no-cache"


def link_header(key: str, base: str, hubs: str) -> dict[str, str]:
    """What RFC 8288 can say without reading the object: a head's own address and its hubs (WebSub, 4), a page's head.

    `base` is our address, `hubs` those of the settings.
    """
    if match := _HEAD.fullmatch(key):
        found = [(topic_of(base, match[1]), "self")] if base else []
        found += [(hub, "hub") for hub in hubs_of(base, hubs)]
    elif page := keys.parse_page(key):
        found = [(keys.feed_head(page.log).rpartition("/")[2], "current")]
    else:
        found = []
    return {"Link": ", ".join(f'<{target}>; rel="{relation}"' for target, relation in found)} if found else {}


def _not_modified(asked: dict[str, str], etag: str, modified: datetime | None) -> bool:
    if "if-none-match" in asked:
        known = [tag.strip().removeprefix("W/") for tag in asked["if-none-match"].split(",")]
        return etag in known or "*" in known
    since = _date(asked.get("if-modified-since"))
    return since is not None and modified is not None and modified <= since


def _range_holds(if_range: str | None, etag: str, modified: datetime | None) -> bool:
    return if_range is None or if_range == etag or (modified is not None and _date(if_range) == modified)


def _date(text: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    return date if date is None or date.tzinfo else date.replace(tzinfo=UTC)
