"""The members of a zip, from its central directory. Pure; reads headers only, and believes none without a look.

Parsed by hand rather than with `zipfile`: an archive is refused unless its parts lie side by side and both headers of
a member agree, so that no two readers can see different files in it, and no bytes are inflated twice.

Definition: APPNOTE.TXT of PKWARE, https://support.pkware.com/pkzip/appnote
"""

import stat
import struct
from dataclasses import dataclass
from itertools import pairwise

from processor.reading.decode import DecodeLimits, rejected
from processor.reading.members import Member, Members

_END = struct.Struct("<4s4H2IH")
_LOCATOR_64 = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_MAX_COMMENT = 0xFFFF
_IN_ZIP64 = 0xFFFFFFFF
_ENCRYPTED = 0x2041  # encrypted, strongly encrypted, headers masked
_UTF_8 = 0x800
_STORED, _DEFLATED = 0, 8
_UNIX = (3, 19)  # the systems whose attributes hold a file's type


@dataclass(frozen=True)
class _Entry:
    """Of the central directory; `offset` is the local header's."""

    raw_name: bytes
    system: int
    flags: int
    method: int
    crc: int
    stored: int
    size: int
    type: int
    offset: int
    end: int
    """Where the next entry starts."""


def zip_members(view: memoryview, limits: DecodeLimits) -> dict[str, Member]:
    """Regular files by path, in the archive's order. Raises Rejected with one problem for anything out of order."""
    count, directory, end = _central_directory(view)
    if count > limits.max_members:
        raise rejected("zip", f"at most {limits.max_members:,} members", f"{count:,}")
    at, members, ranges = directory, Members("zip", limits), []
    for _ in range(count):
        members.begin()
        entry = _entry(members, view, at, end)
        at = entry.end
        name = _decoded_name(members, entry)
        path = members.path(name)
        if entry.flags & _ENCRYPTED:
            raise rejected(members.where, "a member that is not encrypted", repr(name[:200]))
        if entry.method not in (_STORED, _DEFLATED) or (entry.method == _STORED and entry.stored != entry.size):
            raise rejected(members.where, "stored or deflated content", f"{name[:200]!r} with method {entry.method}")
        if entry.system in _UNIX and entry.type not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise rejected(members.where, "a regular file", f"{name[:200]!r}, a link or device")
        start = _content_start(members, view, entry, directory)
        if start + entry.stored > directory:
            raise rejected(
                members.where, "content before the central directory", f"{entry.stored:,} bytes at {start:,}"
            )
        ranges.append((entry.offset, start + entry.stored))
        if not name.endswith("/"):
            deflated = entry.method == _DEFLATED
            members.add(Member(path, start, entry.stored, entry.size, deflated=deflated, crc=entry.crc))
    if at != end:
        raise rejected("zip", f"a central directory of {count:,} entries", f"{end - at:,} bytes after them")
    _refuse_overlaps(ranges)
    return members.of_path


def _central_directory(view: memoryview) -> tuple[int, int, int]:
    """(entries, start, end) as the end record says, in its 64-bit form if there is one."""
    tail_at = max(0, len(view) - _END.size - _MAX_COMMENT)
    tail = bytes(view[tail_at:])
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if len(tail) - at >= _END.size and at + _END.size + _END.unpack_from(tail, at)[-1] == len(tail):
            break
        at = tail.rfind(b"PK\x05\x06", 0, at + 3)
    else:
        raise rejected("zip", "an end record as the last thing of a whole zip", "none")
    _, disk, first_disk, count_here, count, size, start, _ = _END.unpack_from(tail, at)
    end = tail_at + at
    locator_at = end - _LOCATOR_64.size
    if locator_at >= 0 and bytes(view[locator_at : locator_at + 4]) == b"PK\x06\x07":
        _, _, end, _ = _LOCATOR_64.unpack_from(view, locator_at)
        if end > locator_at - _END_64.size or bytes(view[end : end + 4]) != b"PK\x06\x06":
            raise rejected("zip", "a zip64 end record where its locator says", f"none at {end:,}")
        _, record, _, _, disk, first_disk, count_here, count, size, start = _END_64.unpack_from(view, end)
        if end + 12 + record != locator_at:
            raise rejected("zip", "a zip64 end record that its locator follows", f"{record:,} bytes")
    if disk or first_disk or count_here != count:
        raise rejected("zip", "one part", "a part of several")
    if start + size != end:
        raise rejected("zip", f"a central directory that ends at {end:,}", f"{size:,} bytes from {start:,}")
    return count, start, end


def _entry(members: Members, view: memoryview, at: int, end: int) -> _Entry:
    if end - at < _CENTRAL.size or bytes(view[at : at + 4]) != b"PK\x01\x02":
        raise rejected(members.where, "an entry of the central directory", "none")
    fields = _CENTRAL.unpack_from(view, at)
    _, made_by, _, flags, method, _, _, crc, stored, size, name_bytes, extra_bytes, comment_bytes, *_ = fields
    name_at = at + _CENTRAL.size
    extra_at = name_at + name_bytes
    next_at = extra_at + extra_bytes + comment_bytes
    if next_at > end:
        raise rejected(members.where, "an entry inside the central directory", "one that goes on after its end")
    extra = bytes(view[extra_at : extra_at + extra_bytes])
    size, stored, offset = _sizes(members, extra, [size, stored, fields[-1]])
    return _Entry(
        raw_name=bytes(view[name_at:extra_at]),
        system=made_by >> 8,
        flags=flags,
        method=method,
        crc=crc,
        stored=stored,
        size=size,
        type=stat.S_IFMT(fields[-2] >> 16),
        offset=offset,
        end=next_at,
    )


def _sizes(members: Members, extra: bytes, values: list[int]) -> list[int]:
    """`values` (size, stored size, offset), each from the zip64 field where the header has no room for it."""
    missing = [index for index, value in enumerate(values) if value == _IN_ZIP64]
    at = 0
    while missing and len(extra) - at >= 4:
        id, length = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + length]
        if id == 1 and len(field) >= 8 * len(missing):
            for place, index in enumerate(missing):
                (values[index],) = struct.unpack_from("<Q", field, 8 * place)
            return values
        at += 4 + length
    if missing:
        raise rejected(members.where, "a zip64 field with what the header leaves out", "none")
    return values


def _decoded_name(members: Members, entry: _Entry) -> str:
    try:
        return entry.raw_name.decode("utf-8")
    except UnicodeDecodeError as error:
        if entry.flags & _UTF_8:
            raise rejected(members.where, "a path in UTF-8", repr(entry.raw_name[:200])) from error
        return entry.raw_name.decode("cp437")


def _content_start(members: Members, view: memoryview, entry: _Entry, directory: int) -> int:
    """Where the content starts, behind a local header that agrees with the central one."""
    offset = entry.offset
    if offset > directory - _LOCAL.size or bytes(view[offset : offset + 4]) != b"PK\x03\x04":
        raise rejected(members.where, "a local header where the central directory says", f"none at {offset:,}")
    _, _, flags, method, *_, name_bytes, extra_bytes = _LOCAL.unpack_from(view, offset)
    name_at = offset + _LOCAL.size
    raw_name = bytes(view[name_at : name_at + name_bytes])
    if (raw_name, method, flags & _ENCRYPTED) != (entry.raw_name, entry.method, entry.flags & _ENCRYPTED):
        raise rejected(members.where, f"two headers that agree on {entry.raw_name[:200]!r}", repr(raw_name[:200]))
    return int(name_at + name_bytes + extra_bytes)


def _refuse_overlaps(ranges: list[tuple[int, int]]) -> None:
    ranges.sort()
    for (_, end), (start, _) in pairwise(ranges):
        if start < end:
            raise rejected("zip", "members that do not overlap", f"one that starts at {start:,} inside another")
