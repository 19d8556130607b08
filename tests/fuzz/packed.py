"""Decompression and archives as fuzzed: within limits, and what Python's own readers make of the same bytes."""

import gzip
import io
import tarfile
import zipfile
import zlib

import zstandard

from processor.formats.registry import FORMATS
from processor.reading.archive import open_archive
from processor.reading.decode import DecodeLimits, decoded, encoding_of
from schemas.errors import Rejected
from tests.any_bytes import assert_named
from tests.fuzz.mutation import DAMAGED
from tests.golden import pairs

LIMITS = DecodeLimits(max_decoded_bytes=1 << 20, max_ratio=50, ratio_free_bytes=1 << 18, max_members=200)


def check_decoded(data: bytes) -> None:
    """Within limits, and what the usual libraries make of the same bytes, if they take them."""
    try:
        content = bytes(decoded(data, LIMITS))
    except Rejected as refusal:
        assert_named(refusal)
        return
    assert len(content) <= LIMITS.max_decoded_bytes
    encoding = encoding_of(data)
    try:
        usual = _usually_decoded(data, encoding)
    except (ValueError, EOFError, OSError, zlib.error, zstandard.ZstdError):
        return
    assert content == usual.removeprefix(b"\xef\xbb\xbf")


def _usually_decoded(data: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(data)
    if encoding == "zstd":
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
            return bytes(stream.read(LIMITS.max_decoded_bytes + 1))
    return data


def check_archive(data: bytes) -> None:
    """Every member read within limits, and Python's own readers, if they take the archive, see the same files."""
    try:
        content = decoded(data, LIMITS)
        opened = open_archive(content, LIMITS)
        members = {name: opened.read(name) for name in opened.names}
    except Rejected as refusal:
        assert_named(refusal)
        return
    assert sum(map(len, members.values())) <= LIMITS.max_decoded_bytes
    for name in members:
        steps = name.split("/")
        assert not {"", ".", ".."} & {*steps}
        assert not set("\\\0") & {*name}
    try:
        usual = _usual_members(bytes(content), opened.kind)
    except DAMAGED:
        return
    assert list(members.values()) == usual


def _usual_members(data: bytes, kind: str) -> list[bytes]:
    if kind == "zip":
        with zipfile.ZipFile(io.BytesIO(data)) as zip:
            return [zip.read(one) for one in zip.infolist() if not one.is_dir()]
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        names = {one: one.pax_headers.get("path", one.name) for one in tar.getmembers() if one.isreg()}
        regular = [one for one, name in names.items() if not name.endswith("/")]  # with it, it is a folder for GNU tar
        files = [tar.extractfile(one) for one in regular]
        return [file.read() for file in files if file]


def packed_seeds() -> list[bytes]:
    plain = FORMATS["runfeed"].example.encode()
    found = [gzip.compress(plain), gzip.compress(plain) * 2, zstandard.compress(plain), zstandard.compress(plain) * 2]
    found += [zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(plain * 50)]
    found += [gzip.compress(b"\xef\xbb\xbf" + plain), b"\xef\xbb\xbf" + plain, b"\x28\xb5\x2f\xfd\x00\x00\x01\x00\x00"]
    return found + archive_seeds()


def archive_seeds() -> list[bytes]:
    archives = [path.read_bytes() for _, path, _ in pairs() if path.name.endswith((".zip", ".tar.gz"))]
    plain = [bytes(decoded(data, DecodeLimits())) for data in archives]
    made = []
    for name in ("a/b.json", "ü/" + "long/" * 25 + "a", "./a"):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zip:
            zip.writestr("a/", b"")
            with zip.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                member.write(b"{}" * 20)
        made.append(out.getvalue())
        for format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w", format=format, pax_headers={"comment": "a"}) as tar:
                info = tarfile.TarInfo(name)
                info.size = 3
                tar.addfile(info, io.BytesIO(b"[1]"))
            made.append(out.getvalue())
    return archives + plain + made
