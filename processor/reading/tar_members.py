"""The members of a tar: v7, ustar, pax, and GNU's long names. Pure; reads headers only, and believes none blindly.

Parsed by hand rather than with `tarfile`, which reads on behind much that is damaged: here every block is accounted
for, up to the zeros at the end.

Definition: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from processor.reading.decode import Buffer, DecodeLimits, rejected
from processor.reading.members import Member, Members
from schemas.errors import Rejected

_BLOCK = 512
_MAX_EXTENSION_BYTES = 1 << 20  # of a pax header or a GNU long name
_HEADERS_PER_MEMBER = 4
_PIECE = 1 << 20
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_PAX_LENGTH = re.compile(rb"([1-9][0-9]{0,8}) ")
_MAGIC = (b"ustar\x0000", b"ustar  \0")  # POSIX, GNU
_FOLDER = b"5"
_TAKEN = {b"0", b"\0", b"7", _FOLDER}
_LONG_NAME, _PAX = b"L", b"x"
_EXTENDED = {_LONG_NAME, _PAX, b"g"}
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"K": "a link with a long target",
    b"S": "a sparse file",
    b"M": "the rest of a file from another part",
}


def is_tar(data: Buffer) -> bool:
    """By the magic of POSIX and GNU, else by the checksum, which is all that a v7 header has."""
    if len(data) < _BLOCK:
        return False
    header = bytes(data[:_BLOCK])
    return header[257:265] in _MAGIC or (header[0] != 0 and _has_checksum(header))


@dataclass(frozen=True)
class _Entry:
    """A header that is a member's, with what extended headers before it say."""

    type: bytes
    start: int
    size: int
    raw_path: bytes
    sparse: bool


def tar_members(view: memoryview, limits: DecodeLimits) -> dict[str, Member]:
    """Regular files by path, in the archive's order. Raises Rejected with one problem for anything out of order."""
    members = Members("tar", limits)
    for entry in _entries(view, _HEADERS_PER_MEMBER * limits.max_members):
        members.begin()
        try:
            raw_path = entry.raw_path.decode("utf-8")
        except UnicodeDecodeError as error:
            raise rejected(members.where, "a path in UTF-8", repr(entry.raw_path[:200])) from error
        path = members.path(raw_path)
        if entry.sparse or entry.type not in _TAKEN:
            kind = "a sparse file" if entry.sparse else _REFUSED.get(entry.type, f"of type {entry.type!r}")
            raise rejected(members.where, "a regular file", f"{raw_path[:200]!r}, {kind}")
        if entry.type != _FOLDER and not raw_path.endswith("/"):
            members.add(Member(path, entry.start, entry.size, entry.size))
        elif entry.size:
            raise rejected(members.where, "a folder of 0 bytes", f"{raw_path[:200]!r} of {entry.size:,}")
    return members.of_path


def _entries(view: memoryview, max_headers: int) -> Iterator[_Entry]:
    """Every member's header, up to the end of the archive, behind which there must be nothing."""
    at, pax = 0, dict[bytes, bytes]()
    for _ in range(max_headers + 1):
        header = bytes(view[at : at + _BLOCK])
        if len(header) < _BLOCK:
            raise rejected("tar", "zeros at the end of a whole tar", f"{len(header)} bytes after {at:,}")
        if not header.strip(b"\0"):
            break
        if not _has_checksum(header):
            raise rejected("tar", "a header with its checksum", f"none at {at:,}")
        type, start, size = header[156:157], at + _BLOCK, _number(header[124:136], at)
        if type in _EXTENDED:
            at = _next(view, start, size)
            pax |= _extension(type, view, start, size)
            continue
        size = _pax_size(pax[b"size"]) if b"size" in pax else size
        at = _next(view, start, size)
        sparse = any(key.startswith(b"GNU.sparse") for key in pax)
        yield _Entry(type, start, size, pax.get(b"path") or _path(header), sparse)
        pax = {}
    else:
        raise rejected("tar", f"at most {max_headers:,} headers", "more")
    if pax:
        raise rejected("tar", "a member behind its extended header", "none")
    _refuse_trailing(view, at)


def _extension(type: bytes, view: memoryview, start: int, size: int) -> dict[bytes, bytes]:
    """What an extended header says of the next member, as pax does."""
    if size > _MAX_EXTENSION_BYTES:
        raise rejected("tar", f"extended headers of at most {_MAX_EXTENSION_BYTES:,} bytes", f"{size:,}")
    content = bytes(view[start : start + size])
    if type == _LONG_NAME:
        return {b"path": content.rstrip(b"\0")}
    records = _pax_records(content)
    if type == _PAX:
        return records
    if {b"path", b"size"} & records.keys():
        raise rejected("tar", "a global header without path and size", "one that has them")
    return {}


def _has_checksum(header: bytes) -> bool:
    match = _OCTAL.fullmatch(header[148:156])
    if match is None or not match[1]:
        return False
    return int(match[1], 8) == sum(header) - sum(header[148:156]) + 8 * 0x20


def _number(field: bytes, at: int) -> int:
    """An octal number, or a binary one if its first bit is set."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise rejected("tar", "a size of 0 or more", f"{field!r} in the header at {at:,}")
    return int(match[1] or b"0", 8)


def _next(view: memoryview, start: int, size: int) -> int:
    """Where the next header is."""
    if size > len(view) - start:
        raise rejected("tar", f"{size:,} bytes at {start:,}, as a header says", f"{len(view) - start:,}")
    return start + -(-size // _BLOCK) * _BLOCK


def _path(header: bytes) -> bytes:
    path, prefix = header[:100].split(b"\0", 1)[0], header[345:500].split(b"\0", 1)[0]
    return prefix + b"/" + path if prefix and header[257:265] == _MAGIC[0] else path


def _pax_records(content: bytes) -> dict[bytes, bytes]:
    """The `length key=value` lines of a pax header."""
    records, at = {}, 0
    while at < len(content):
        match = _PAX_LENGTH.match(content, at)
        end = at + int(match[1]) if match else 0
        if match is None or end > len(content) or end <= match.end() or content[end - 1 : end] != b"\n":
            raise _bad_pax(content[at : at + 60])
        key, equals, value = content[match.end() : end - 1].partition(b"=")
        if not equals:
            raise _bad_pax(content[at : at + 60])
        records[key] = value
        at = end
    return records


def _pax_size(value: bytes) -> int:
    if not re.fullmatch(rb"[0-9]{1,19}", value):
        raise rejected("tar", "a size of 0 or more", repr(value[:60]))
    return int(value)


def _bad_pax(found: bytes) -> Rejected:
    return rejected("tar", "pax records of `length key=value`", repr(found))


def _refuse_trailing(view: memoryview, at: int) -> None:
    while at < len(view):
        piece = bytes(view[at : at + _PIECE])
        if piece.count(0) != len(piece):
            raise rejected("tar", "nothing but zeros after the end", f"other bytes after {at:,}")
        at += _PIECE
