"""What an address means to whoever follows, mirrors or verifies: a bucket to read, and a log in it.

https://host[/path]                            a server, or a copy on any web server: its submissions log
https://host[/path]/feeds/<log>/….atom         this log there
https://host/any/page                          the log that the page names (autodiscovery, or a Link header)
s3://bucket[/prefix][/feeds/<log>/….atom]      the same in object storage, with the environment's keys
folder                                         a data folder, or a copy of its `public`
"""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from feed.remote.asking import Asker
from feed.remote.bucket import RemoteBucket
from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused

__all__ = ["RemoteBucket", "from_feed_url"]

_DOCUMENT = re.compile(r"(.*?)/feeds/([a-z0-9-]+)/[^/]+\.atom")
_LINK = re.compile(r"<([^<>]{1,2000})>\s*((?:;[^,]*)*)")
_PAGE_BYTES = 256 << 10


def from_feed_url(
    url: str, *, asker: Asker | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Bucket, str]:
    """The bucket that `url` leads to, and the log: that of the address, else the submissions log.

    `asker` is how HTTP servers are asked, `environ` where S3's keys are. Refused if it can mean nothing, and with a
    URL that is neither a server's root nor a log's document, whatever asking the server raises.
    """
    if url.startswith(("http://", "https://")):
        return _at_server(url, asker or Asker())
    if url.startswith("s3://"):
        from infra.s3 import open_s3

        base, log = _split(url.rstrip("/"))
        return open_s3(base, environ or {}), log
    if re.match(r"[a-z0-9+.-]+://", url):
        raise Refused("address", "http://, https://, s3:// or a folder", repr(url[:200]))
    return _in_folder(Path(url))


def _split(url: str) -> tuple[str, str]:
    match = _DOCUMENT.fullmatch(url)
    return (match[1], match[2]) if match else (url, keys.SUBMISSIONS_LOG)


def _in_folder(path: Path) -> tuple[Bucket, str]:
    from infra.folder import FolderBucket

    base, log = _split(str(path.absolute()))
    for root in (Path(base) / "public", Path(base)):
        if (root / "feeds").is_dir():
            return FolderBucket(root), log
    raise Refused("address", "a data folder, or a copy of its public bucket", f"{base}, which has no feeds/")


def _at_server(url: str, asker: Asker) -> tuple[Bucket, str]:
    parts = urlsplit(url)
    if not parts.hostname:
        raise Refused("address", "a URL with a host", repr(url[:200]))
    if parts.username is not None or parts.password is not None:
        raise Refused("address", "a URL without user and password", f"some for {parts.hostname}")
    address = parts._replace(query="", fragment="").geturl().rstrip("/")
    if _DOCUMENT.fullmatch(address) or not parts.path.strip("/"):
        base, log = _split(address)
        return RemoteBucket(base, asker), log
    bucket = RemoteBucket(address, asker)
    try:
        bucket.head(keys.feed_head(keys.SUBMISSIONS_LOG))
    except (FileNotFoundError, Refused):
        base, log = _split(asker.patiently(lambda: _named_by_page(url, asker)))
        return RemoteBucket(base, asker), log
    return bucket, keys.SUBMISSIONS_LOG


def _named_by_page(url: str, asker: Asker) -> str:
    """The address of the log's head that the page at `url` names; Refused if it names none."""
    with asker.asked(url, {"Accept": "text/html, */*;q=0.5"}) as answer:
        found = [urljoin(url, link) for link in _header_links(answer.headers.get("link", ""))]
        read = b""
        for piece in answer.pieces:
            read += piece
            if len(read) > _PAGE_BYTES:
                break
    found += [urljoin(url, link) for link in _page_links(read)]
    for link in found:
        if _DOCUMENT.fullmatch(link.partition("?")[0]) and urlsplit(link).netloc == urlsplit(url).netloc:
            return link.partition("?")[0]
    raise Refused(url, "a Runfeed, or a page that links its feed", "neither")


def _header_links(header: str) -> list[str]:
    """Targets of rel=alternate, self or current in a Link header (RFC 8288)."""
    return [
        target
        for target, parameters in _LINK.findall(header)
        if re.search(r';\s*rel\s*=\s*"?[^";]*\b(alternate|self|current)\b', parameters, re.IGNORECASE)
    ]


def _page_links(page: bytes) -> list[str]:
    """Targets of the `<link rel="alternate" type="application/atom+xml">` of a page."""
    from lxml import html
    from lxml.etree import LxmlError

    try:
        root = html.document_fromstring(page or b"<p>")
    except (LxmlError, ValueError):
        return []
    links = [link for link in root.iter("link") if "alternate" in (link.get("rel") or "").lower().split()]
    return [link.get("href", "") for link in links if (link.get("type") or "").startswith("application/atom+xml")]
