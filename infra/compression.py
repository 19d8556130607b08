"""Content negotiation of compression (RFC 9110, 12.5.3), and the compressing, for text that we serve. Pure.

The encoded body is another representation than the plain one, so it has another strong ETag (8.8.3.3), and whoever
sends either says `Vary: Accept-Encoding`, also in a 304. Ranges are of the plain one only.
"""

import re
from typing import Literal

import zstandard
from isal import igzip

Coding = Literal["identity", "gzip", "zstd"]

LEAST_BYTES = 1024
"""A smaller body fits one packet with its headers as it is."""

MOST_BYTES = 8 << 20
"""A larger one would be compressed anew for each reader and held in memory for it."""

VARY = {"Vary": "Accept-Encoding"}

_PREFERRED: tuple[Coding, ...] = ("zstd", "gzip")
_ZSTD_LEVEL = 3
_GZIP_LEVEL = 2
_ELEMENT = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:;\s*[qQ]\s*=\s*([01](?:\.\d{0,3})?)\s*)?")


def compressed(body: bytes, accept_encoding: str | None, etag: str) -> tuple[bytes, dict[str, str], str]:
    """What to send of `body` to whoever asks with that header: the bytes, headers to add, and their ETag.

    `etag` is the strong one of the plain body, in its quotes. Compare If-None-Match with the ETag that comes back.
    """
    coding = coding_for(accept_encoding, len(body))
    return encoded(body, coding), coding_headers(coding), coding_etag(etag, coding)


def coding_for(accept_encoding: str | None, size_bytes: int) -> Coding:
    """The coding in which a text of that size goes out; `identity` where nothing else is wanted, or worth it."""
    if not accept_encoding or not LEAST_BYTES <= size_bytes <= MOST_BYTES:
        return "identity"
    weights = _weights(accept_encoding)
    others = weights.get("*", 0.0)
    best: Coding = "identity"
    weight = weights.get("identity", 0.0)  # named, it may be wanted more than the others
    for coding in _PREFERRED:
        wanted = weights.get(coding, others)
        if wanted > 0 and (wanted > weight or (wanted == weight and best == "identity")):
            best, weight = coding, wanted
    return best


def encoded(body: bytes, coding: Coding) -> bytes:
    """The same body always gives the same bytes."""
    if coding == "zstd":
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(body)
    if coding == "gzip":
        return igzip.compress(body, _GZIP_LEVEL, mtime=0)
    return body


def coding_headers(coding: Coding) -> dict[str, str]:
    """What every answer that was negotiated says."""
    return VARY if coding == "identity" else VARY | {"Content-Encoding": coding}


def coding_etag(etag: str, coding: Coding) -> str:
    """The strong ETag of that coding of what has `etag`, which stands in its quotes."""
    return etag if coding == "identity" else f'{etag[:-1]}-{coding}"'


def _weights(accept_encoding: str) -> dict[str, float]:
    """Weight by coding, lower-case; what is no element of such a list is passed over."""
    weights = {}
    for element in accept_encoding.split(","):
        if match := _ELEMENT.fullmatch(element):
            name = match[1].lower().removeprefix("x-")
            weights[name] = min(float(match[2]), 1.0) if match[2] else 1.0
    return weights
