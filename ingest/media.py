"""What a file is, by its bytes: how it is compressed, and the media type of what is inside. Pure.

The media type describes the decoded content, as in HTTP, where Content-Encoding stands beside Content-Type. It is a
label for readers and mirrors; which format reads the file is the processor's decision. The bytes outrank the name,
whose ending only settles what bytes leave open.
"""

import json
import zlib

from schemas.records import Encoding

HEAD_BYTES = 64 << 10
"""How much of a file's beginning `encoding` and `media_type` want to see."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_BOM = b"\xef\xbb\xbf"
_COMPRESSED_ENDINGS = (".gz", ".gzip", ".zst", ".zstd")
_MAGIC = (
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"PAR1", "application/vnd.apache.parquet"),
    (257, b"ustar", "application/x-tar"),
)
_TEXT_ENDINGS = {".csv": "text/csv", ".tsv": "text/tab-separated-values"}
_LINE_ENDINGS = (".ndjson", ".jsonl")


def encoding(head: bytes) -> Encoding:
    """How the file that begins with `head` is compressed."""
    if head.startswith(_GZIP):
        return "gzip"
    return "zstd" if head.startswith(_ZSTD) else "identity"


def media_type(head: bytes, name: str) -> str:
    """The media type of the decoded content of the file `name` that begins with `head`."""
    name = name.lower()
    if (compressed := encoding(head)) != "identity":
        head = _decoded_head(head, compressed)
        for ending in _COMPRESSED_ENDINGS:
            name = name.removesuffix(ending)
    for offset, magic, found in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return found
    text = _text(head.removeprefix(_BOM))
    if text is None:
        utf16_xml = name.endswith(".xml") and head[:2] in (b"\xff\xfe", b"\xfe\xff")
        return "application/xml" if utf16_xml else "application/octet-stream"
    start = text.lstrip()
    if start.startswith("<"):
        return "application/xml"
    if start.startswith(("{", "[")):
        by_lines = name.endswith(_LINE_ENDINGS) or _is_a_value_per_line(start)
        return "application/x-ndjson" if by_lines else "application/json"
    return next((found for ending, found in _TEXT_ENDINGS.items() if name.endswith(ending)), "text/plain")


def _decoded_head(head: bytes, compressed: Encoding) -> bytes:
    """What the compressed `head` begins with; binary if it is damaged, which the processor will say better."""
    if compressed == "gzip":
        try:
            return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
        except zlib.error:
            return b"\0"
    import zstandard  # only here: most results are not zstd, and the command starts faster without

    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(head) as reader:
            return reader.read(HEAD_BYTES)
    except zstandard.ZstdError:
        return b"\0"


def _text(head: bytes) -> str | None:
    """`head` as text, or None if it is none. A character cut in two at the end is fine."""
    if b"\0" in head:
        return None
    try:
        return head.decode()
    except UnicodeDecodeError as error:
        cut = error.reason == "unexpected end of data" and error.start > len(head) - 4
        return head[: error.start].decode() if cut else None


def _is_a_value_per_line(text: str) -> bool:
    """Whether the first line is a JSON value by itself and another begins after it."""
    first, _, rest = text.partition("\n")
    if not rest.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True
