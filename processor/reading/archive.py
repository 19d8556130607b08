"""Zip and tar as a format sees them: paths, and the bytes behind each, inflated within limits. Pure.

A tar.gz or tar.zst has been decompressed by `decoded` before it comes here. Nothing is written to disk, no path is
used as one, and no size in a header is believed: what counts is what inflating gives. Members are read one at a time.
"""

import io
import zlib

from processor.reading.decode import Buffer, DecodeLimits, encoding_of, is_zip, rejected
from processor.reading.members import Member
from processor.reading.tar_members import is_tar, tar_members
from processor.reading.zip_members import zip_members

_FED_BYTES = 1 << 16  # zlib copies what it has not used, so it gets little at a time
_PIECE = 1 << 20


class Archive:
    """An open archive. Not for direct construction: `open_archive` makes it."""

    def __init__(self, kind: str, view: memoryview, members: dict[str, Member], limits: DecodeLimits) -> None:
        self.kind = kind
        self.names = tuple(members)
        """Paths of the regular files, `a/b/c`, in the archive's order."""
        self.decoded_bytes = 0
        """Of all members read so far."""
        self._view = view
        self._members = members
        self._allowed = min(limits.max_decoded_bytes, max(limits.ratio_free_bytes, len(view) * limits.max_ratio))

    def read(self, name: str) -> bytes:
        """The content of the member `name`, one of `names`.

        Raises Rejected if it is damaged, is itself an archive or compressed, or if all members read so far make more
        than the limits allow.
        """
        member = self._members[name]
        stored = self._view[member.start : member.start + member.stored_bytes]
        self._count(name, 0 if member.deflated else len(stored))
        content = self._inflated(name, stored) if member.deflated else bytes(stored)
        if len(content) != member.size_bytes or member.crc not in (None, zlib.crc32(content)):
            found = f"{len(content):,} bytes with checksum {zlib.crc32(content):08x}"
            raise rejected(name, f"{member.size_bytes:,} bytes with the checksum of the header", found)
        if inner := encoding_of(content) or archive_kind(content):
            raise rejected(name, "a result file", f"{inner} inside {self.kind}")
        return content

    def _inflated(self, name: str, stored: memoryview) -> bytes:
        out, stream = io.BytesIO(), zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for at in range(0, len(stored), _FED_BYTES):
                fed: Buffer = stored[at : at + _FED_BYTES]
                while len(fed) and not stream.eof:
                    piece = stream.decompress(fed, _PIECE)
                    self._count(name, len(piece))
                    out.write(piece)
                    fed = stream.unconsumed_tail
                if stream.eof and at + _FED_BYTES < len(stored):
                    break
            rest = stream.flush()
        except zlib.error as error:
            raise rejected(name, "a whole deflate stream", str(error)) from error
        self._count(name, len(rest))
        out.write(rest)
        if not stream.eof or stream.unused_data or at + _FED_BYTES < len(stored):
            found = "bytes after its end" if stream.eof else "one that is cut off"
            raise rejected(name, "a whole deflate stream", found)
        return out.getvalue()

    def _count(self, name: str, size: int) -> None:
        self.decoded_bytes += size
        if self.decoded_bytes > self._allowed:
            found = f"more than {self._allowed:,} bytes from {len(self._view):,}, at {name[:200]!r}"
            raise rejected(self.kind, "an archive within the limits of size and ratio", found)


def archive_kind(data: Buffer) -> str:
    """`zip`, `tar`, or empty for anything else."""
    if is_zip(data):
        return "zip"
    return "tar" if is_tar(data) else ""


def open_archive(data: Buffer, limits: DecodeLimits) -> Archive:
    """The archive that `data` is.

    Raises Rejected with one problem if it is none, is damaged, has more than `limits.max_members` members, one that is
    encrypted or neither a regular file nor a folder, a path that comes twice or leads out of the archive.
    """
    view, kind = memoryview(data), archive_kind(data)
    if not kind:
        raise rejected("blob", "a zip or tar archive", f"a file that starts {bytes(data[:40])!r}")
    members = zip_members(view, limits) if kind == "zip" else tar_members(view, limits)
    return Archive(kind, view, members, limits)
