"""From the bytes that were sent to the bytes that a format reads: decompression within limits, and JSON's dialects.

Pure. The bytes decide, never the name: gzip is 1f 8b, zstd is 28 b5 2f fd, anything else is taken as it is.
"""

import gzip
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import msgspec
import zstandard
from isal import igzip, igzip_lib

from schemas.errors import Rejected
from schemas.problems import problem_of
from schemas.records import Problem

T = TypeVar("T")
Buffer = bytes | memoryview

_IsalError: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # its stub calls the class a number
_PIECE = 1 << 20
_ZSTD_PIECE = 1 << 10  # 1 KiB of zstd becomes at most 32 MiB: a block is 4 bytes or more and gives at most 128 KiB
_BOM = b"\xef\xbb\xbf"
_STRING_OR_CONSTANT = re.compile(rb'"(?:[^"\\]|\\.)*+"|-?\b(?:NaN|Infinity)\b', re.DOTALL)
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


@dataclass(frozen=True)
class DecodeLimits:
    """How much a blob may grow to when it is decompressed or unpacked."""

    max_decoded_bytes: int = 1 << 30
    max_ratio: int = 250
    """Of decoded to sent size, looked at beyond `ratio_free_bytes`, so that small files may compress well."""
    ratio_free_bytes: int = 16 << 20
    max_members: int = 10_000
    """Files and folders in an archive."""


def rejected(where: str, expected: str, found: str) -> Rejected:
    """A Rejected with one problem."""
    return Rejected([Problem(where=where, expected=expected, found=found)])


# --- compression ---


def decoded(data: Buffer, limits: DecodeLimits) -> Buffer:
    """`data` decompressed once if it is gzip or zstd, without a UTF-8 byte order mark.

    Raises Rejected for a truncated or damaged stream, a bomb (size or ratio), compression or a zip inside compression,
    and an empty file. A tar inside is what a tar.gz is.
    """
    if not len(data):
        raise rejected("blob", "a result file", "0 bytes")
    if encoding := encoding_of(data):
        data = _decompressed(data, encoding, limits)
        if not data:
            raise rejected(encoding, "a result file inside", "0 bytes")
        if inner := encoding_of(data) or ("zip" if is_zip(data) else ""):
            raise rejected(encoding, "a result file inside", f"{inner} inside {encoding}")
    if len(data) > limits.max_decoded_bytes:
        raise rejected("blob", f"at most {limits.max_decoded_bytes:,} bytes", f"{len(data):,} bytes")
    return data[3:] if data[:3] == _BOM else data


def encoding_of(data: Buffer) -> str:
    """`gzip`, `zstd`, or empty, by the first bytes."""
    if data[:2] == b"\x1f\x8b":
        return "gzip"
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return "zstd"
    return ""


def is_zip(data: Buffer) -> bool:
    """Whether `data` starts as a zip does: with a member, or with its end if it has none."""
    return bytes(data[:4]) in (b"PK\x03\x04", b"PK\x05\x06")


def _decompressed(data: Buffer, encoding: str, limits: DecodeLimits) -> bytes:
    out = io.BytesIO()  # it hands its bytes over without a copy, where joining pieces would hold both
    inflate(data, encoding, limits, out)
    return out.getvalue()


def inflate(data: Buffer, encoding: str, limits: DecodeLimits, out: BinaryIO) -> int:
    """Write `data` decompressed to `out`, piece by piece; how many bytes that were. Raises Rejected as `decoded`."""
    allowed = min(limits.max_decoded_bytes, max(limits.ratio_free_bytes, len(data) * limits.max_ratio))
    size = 0
    try:
        for piece in _gzip_pieces(data) if encoding == "gzip" else _zstd_pieces(data):
            size += len(piece)
            if size > allowed:
                raise rejected(
                    encoding,
                    f"at most {limits.max_decoded_bytes:,} bytes and {limits.max_ratio} times the size sent",
                    f"more than {allowed:,} bytes from {len(data):,}",
                )
            out.write(piece)
    except (EOFError, ValueError, _IsalError, zstandard.ZstdError, gzip.BadGzipFile) as error:
        raise rejected(encoding, f"a whole {encoding} stream", f"{error} (after {size:,} decoded bytes)") from error
    return size


def _gzip_pieces(data: Buffer) -> Iterator[bytes]:
    with igzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        while piece := stream.read(_PIECE):
            yield piece


def _zstd_pieces(data: Buffer) -> Iterator[bytes]:
    """All frames of a stream; ValueError if the last one does not end (the library's reader lets that pass)."""
    view = memoryview(data)
    at = 0
    while at < len(view):
        frame = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        while not frame.eof:
            if at >= len(view):
                raise ValueError("the stream ends inside a frame")
            piece = view[at : at + _ZSTD_PIECE]
            at += len(piece)
            if out := frame.decompress(piece):
                yield out
        at -= len(frame.unused_data)


# --- JSON ---


def read_json(data: Buffer, type: type[T] | Any = Any, *, where: str = "") -> T:
    """`data` as JSON of `type`; raises Rejected that says where. Strict: no NaN, no lone surrogates, UTF-8 only."""
    try:
        return msgspec.json.decode(data, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected([problem_of(error, where, data)]) from error


def quoted_constants(data: Buffer) -> Buffer:
    """`data` with bare NaN, Infinity and -Infinity outside strings put in quotes, for formats whose tools write them.

    Returns `data` itself where there are none.
    """
    if not re.search(rb"NaN|Infinity", data):
        return data
    return _STRING_OR_CONSTANT.sub(lambda match: match[0] if match[0][:1] == b'"' else b'"' + match[0] + b'"', data)


def mended_surrogates(data: Buffer) -> tuple[Buffer, int]:
    """`data` with each escape of half a character replaced by U+FFFD, and how many there were."""
    if not re.search(rb"\\u[dD][89a-fA-F]", data):
        return data, 0
    count = 0

    def mend(match: re.Match[bytes]) -> bytes:
        nonlocal count
        if match[1] is None:
            return match[0]
        count += 1
        return rb"\ufffd"

    mended = _ESCAPE.sub(mend, data)
    return (mended, count) if count else (data, 0)
