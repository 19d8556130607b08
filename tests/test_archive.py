"""Zip and tar as hostile hands make them: refused with one named problem, within the limits, or read exactly."""

import gzip
import io
import os
import stat
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.reading.archive import archive_kind, open_archive
from processor.reading.decode import DecodeLimits, decoded
from processor.reading.shape import shape_of
from schemas.errors import Rejected
from tests.golden import transformed

LIMITS = DecodeLimits()
FILES = {"a.json": b"{}", "b/c/d.txt": b"text" * 5000, "b/empty": b"", "ümläut/ß.json": b"[1]"}


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def tar_of(files: dict[str, bytes], format: int = tarfile.USTAR_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def tar_with(info: tarfile.TarInfo, format: int = tarfile.USTAR_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as archive:
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    return made.getvalue()


def read_all(data: bytes, limits: DecodeLimits = LIMITS) -> dict[str, bytes]:
    archive = open_archive(data, limits)
    return {name: archive.read(name) for name in archive.names}


def refused(data: bytes, limits: DecodeLimits = LIMITS) -> str:
    """The one problem for which `data` is refused, when it is opened or when its members are read."""
    with pytest.raises(Rejected) as caught:
        read_all(data, limits)
    (problem,) = caught.value.problems
    assert problem.where
    assert problem.expected
    assert problem.found
    return str(problem)


# --- what is read ---


@pytest.mark.parametrize(
    "data",
    [
        zip_of(FILES),
        zip_of(FILES, zipfile.ZIP_STORED),
        tar_of(FILES, tarfile.PAX_FORMAT),
        tar_of(FILES, tarfile.GNU_FORMAT),
        tar_of(FILES),
    ],
    ids=["deflated", "stored", "pax", "gnu", "ustar"],
)
def test_members_are_read_as_they_were_packed_in_their_order(data: bytes) -> None:
    assert list(read_all(data).items()) == list(FILES.items())
    for view in (memoryview(data), data):
        assert shape_of(view).names == tuple(FILES)
        assert shape_of(view).kind == "archive"


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_paths_are_read_whole(format: int) -> None:
    name = "/".join(["folder" * 5] * 7) + "/file.json"
    files = {name: b"1", "short": b"2"}
    assert len(name) > 200
    assert read_all(tar_of(files, format)) == files
    assert read_all(zip_of(files)) == files


def test_an_old_tar_without_magic_is_known_by_its_checksum() -> None:
    header = bytearray(tar_of({"a.json": b"{}"})[:512])
    header[257:512] = bytes(255)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data = bytes(header) + b"{}".ljust(512, b"\0") + bytes(1024)
    assert read_all(data) == {"a.json": b"{}"}
    header[0] ^= 1
    assert archive_kind(bytes(header) + data[512:]) == ""


def test_folders_are_no_members_and_the_dot_before_a_path_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    (tmp_path / "in" / "b" / "c.json").write_bytes(b"{}")
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.add(tmp_path / "in", arcname=".")
    assert read_all(made.getvalue()) == {"b/c.json": b"{}"}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive_zip:
        archive_zip.mkdir("b")
        archive_zip.writestr("./b//c.json", b"{}")
    assert read_all(made.getvalue()) == {"b/c.json": b"{}"}


def test_a_zip_written_as_a_stream_is_read() -> None:
    """Its local headers have no sizes: a descriptor follows the content, and zip64 fields may be anywhere."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.made = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.made += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
    assert read_all(bytes(pipe.made)) == FILES


def with_zip64_end(data: bytes, *, count: int | None = None, start: int | None = None) -> bytes:
    """`data` with the numbers of its end record moved to a zip64 one."""
    end = data.rfind(b"PK\x05\x06")
    _, _, _, _, real_count, size, real_start, _ = struct.unpack("<4s4H2IH", data[end:])
    count, start = real_count if count is None else count, real_start if start is None else start
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:end] + record + locator + last


def test_zip64_is_read_and_its_lies_are_refused() -> None:
    data = zip_of(FILES)
    assert read_all(with_zip64_end(data)) == FILES
    assert "at most 10,000 members" in refused(with_zip64_end(data, count=1 << 62))
    assert "an entry of the central directory" in refused(with_zip64_end(data, count=5))
    assert "a central directory that ends at" in refused(with_zip64_end(data, start=1 << 62))
    end = len(data) - 22
    assert "a zip64 end record where" in refused(
        data[:end] + struct.pack("<4sIQI", b"PK\x06\x07", 0, 1 << 63, 1) + data[end:]
    )


def test_the_empty_zip_is_an_archive_of_nothing() -> None:
    data = zip_of({})
    assert data.startswith(b"PK\x05\x06")
    assert shape_of(data).names == ()
    assert transformed(data).outcome.verdict == "rejected"


def test_a_tar_may_be_compressed_and_a_zip_may_not() -> None:
    for compress, encoding in ((gzip.compress, "gzip"), (zstandard.compress, "zstd")):
        assert read_all(bytes(decoded(compress(tar_of(FILES)), LIMITS))) == FILES
        with pytest.raises(Rejected, match=f"zip inside {encoding}"):
            decoded(compress(zip_of(FILES)), LIMITS)


# --- paths ---


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../b",
        "..",
        "C:/x",
        "c:x",
        "a\\b",
        "..\\..\\x",
        "//server/share",
        "a/..",
    ],
)
def test_a_path_that_could_leave_its_folder_is_refused_by_name(name: str) -> None:
    for data in (zip_of({name: b""}), tar_of({name: b""}, tarfile.PAX_FORMAT)):
        problem = refused(data)
        assert "member 1: expected a " in problem
        assert repr(name) in problem


def test_a_nul_in_a_path_is_refused() -> None:
    data = zip_of({"aXb": b""}).replace(b"aXb", b"a\0b")
    assert "relative path" in refused(data)
    long = tar_of({"x" * 120: b""}, tarfile.PAX_FORMAT).replace(b"path=" + b"x" * 120, b"path=" + b"x\0" * 60)
    assert "relative path" in refused(long)


def test_a_path_that_is_too_long_or_empty_is_refused() -> None:
    long = "/".join(["a" * 100] * 60)
    assert "a path of at most 4,096 characters" in refused(zip_of({long: b""}))
    assert "a path of at most 4,096 characters" in refused(tar_of({long: b""}, tarfile.PAX_FORMAT))
    assert "expected a path, found an empty one" in refused(zip_of({".": b""}))


def test_a_path_that_is_no_utf_8_is_refused_or_read_as_the_old_code_page() -> None:
    info = tarfile.TarInfo("a\udcff")
    assert "a path in UTF-8" in refused(tar_with(info, tarfile.GNU_FORMAT))
    old = zip_of({"aXb": b""}).replace(b"aXb", b"a\x81b")
    assert list(read_all(old)) == ["aüb"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_path_that_comes_twice_is_refused() -> None:
    for made in (zip_of, tar_of):
        assert "each path once" in refused(made({"a/b": b"1", "a//b": b"2"}))
        assert "each path once" in refused(made({"a/b": b"1", "./a/b": b"2"}))


@pytest.mark.parametrize(
    ("type", "kind"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"M", "the rest of a file"),
        (b"V", "of type b'V'"),
    ],
)
def test_what_is_no_file_in_a_tar_is_refused_by_name(type: bytes, kind: str) -> None:
    info = tarfile.TarInfo("evil")
    info.type, info.linkname = type, "/etc/passwd"
    problem = refused(tar_with(info))
    assert "'evil'" in problem
    assert kind in problem


def test_sparse_files_of_pax_are_refused() -> None:
    info = tarfile.TarInfo("evil")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 50)}
    assert "a sparse file" in refused(tar_with(info, tarfile.PAX_FORMAT))


def test_a_link_with_a_long_target_is_refused() -> None:
    info = tarfile.TarInfo("evil")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/" + "x" * 200
    assert "expected a regular file" in refused(tar_with(info, tarfile.GNU_FORMAT))
    assert "a symbolic link" in refused(tar_with(info, tarfile.PAX_FORMAT))


@pytest.mark.parametrize("type", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_what_is_no_file_in_a_zip_is_refused_by_name(type: int) -> None:
    info = zipfile.ZipInfo("evil")
    info.create_system, info.external_attr = 3, (type | 0o777) << 16
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(info, b"/etc/passwd")
    assert "'evil', a link or device" in refused(made.getvalue())


# --- size ---


def test_10_001_members_are_refused_and_10_000_are_not() -> None:
    files = {f"f{number}": b"" for number in range(10_001)}
    for made in (zip_of, tar_of):
        assert "at most 10,000 members" in refused(made(files))
        assert len(open_archive(made(dict(list(files.items())[1:])), LIMITS).names) == 10_000


def test_folders_count_as_members_too() -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(11):
            info = tarfile.TarInfo(f"d{number}")
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
    assert "at most 10 members" in refused(made.getvalue(), DecodeLimits(max_members=10))


def test_extended_headers_without_end_are_refused() -> None:
    pax = tar_of({"x" * 120: b""}, tarfile.PAX_FORMAT)[:1024]
    assert "at most 40 headers" in refused(pax * 50 + bytes(1024), DecodeLimits(max_members=10))
    assert "a member behind its extended header" in refused(pax + bytes(1024))


@cache
def deflated_zeros(size: int) -> bytes:
    compressor = zlib.compressobj(9, wbits=-15)
    piece = bytes(1 << 20)
    return b"".join([*(compressor.compress(piece) for _ in range(size >> 20)), compressor.flush()])


def zip_by_hand(
    members: list[tuple[bytes, int, bytes, int, int]], *, directory: list[tuple[bytes, int, int, int, int, int]]
) -> bytes:
    """A zip of local members (name, method, content, crc, size) and directory (name, method, crc, stored, size, at)."""
    local = b"".join(
        struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, method, 0, 0, crc, len(content), size, len(name), 0)
        + name
        + content
        for name, method, content, crc, size in members
    )
    central = b"".join(
        struct.pack(
            "<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, method, 0, 0, crc, stored, size, len(name), 0, 0, 0, 0, 0, at
        )
        + name
        for name, method, crc, stored, size, at in directory
    )
    count = len(directory)
    return local + central + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(central), len(local), 0)


def one_member(name: bytes, method: int, content: bytes, crc: int, size: int) -> bytes:
    return zip_by_hand([(name, method, content, crc, size)], directory=[(name, method, crc, len(content), size, 0)])


@pytest.mark.parametrize("said", [1 << 30, 100, 0])
def test_a_gibibyte_of_zeros_is_given_up_at_the_limit_whatever_its_header_says(said: int) -> None:
    data = one_member(b"bomb", 8, deflated_zeros(1 << 30), 0, said)
    assert len(data) < 2 << 20
    limits = DecodeLimits(max_decoded_bytes=1 << 30, max_ratio=4, ratio_free_bytes=8 << 20)
    tracemalloc.start()
    began = time.process_time()
    try:
        problem = refused(data, limits)
        took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "more than 8,388,608 bytes" in problem
    assert "'bomb'" in problem
    assert took < 2
    assert peak < 32 << 20


def test_the_limit_is_of_all_members_together() -> None:
    data = zip_of({f"f{number}": bytes(1 << 20) for number in range(20)})
    archive = open_archive(data, DecodeLimits(ratio_free_bytes=10 << 20, max_ratio=2))
    for name in archive.names[:10]:
        assert len(archive.read(name)) == 1 << 20
    with pytest.raises(Rejected, match="limits of size and ratio"):
        archive.read(archive.names[10])


def test_members_that_share_their_content_are_refused() -> None:
    """The bomb that inflates one kernel through many overlapping members."""
    kernel = deflated_zeros(1 << 20)
    crc = zlib.crc32(bytes(1 << 20))
    shared = [(b"a", 8, crc, len(kernel), 1 << 20, 0)] * 2
    assert "each path once" in refused(zip_by_hand([(b"a", 8, kernel, crc, 1 << 20)], directory=shared))
    second = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 8, 0, 0, crc, len(kernel), 1 << 20, 1, 0) + b"b"
    quoted = struct.pack("<BHH", 0, len(second), len(second) ^ 0xFFFF) + second + kernel
    entries = [(b"a", 8, crc, len(quoted), 1 << 20, 0), (b"b", 8, crc, len(kernel), 1 << 20, 31 + 5)]
    assert "do not overlap" in refused(zip_by_hand([(b"a", 8, quoted, crc, 1 << 20)], directory=entries))


@pytest.mark.parametrize("size", ["-1", "9" * 18, "1e9", ""])
def test_a_size_that_pax_makes_up_is_refused(size: str) -> None:
    info = tarfile.TarInfo("a")
    info.pax_headers = {"size": size}
    assert "size" in refused(tar_with(info, tarfile.PAX_FORMAT)) or size == "9" * 18
    assert refused(tar_with(info, tarfile.PAX_FORMAT)).startswith("tar: expected ")


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (b"\xff" * 12, "a size of 0 or more"),
        (b"\x80" + b"\xff" * 11, "as a header says"),
        (b"77777777777\0", "as a header says"),
        (b"-0000000001\0", "a size of 0 or more"),
        (b"0000000 001\0", "a size of 0 or more"),
    ],
)
def test_a_size_in_a_tar_header_that_cannot_be_is_refused(field: bytes, found: str) -> None:
    data = bytearray(tar_of({"a": b"x"}))
    data[124:136] = field
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    assert found in refused(bytes(data))


# --- damage ---


def test_a_truncated_archive_is_refused_wherever_it_ends() -> None:
    data = zip_of(FILES)
    for length in (4, 30, 100, len(data) - 30, len(data) - 1):
        assert refused(data[:length])
    data = tar_of(FILES)
    ends = data.rstrip(b"\0").__len__() + 511 & ~511
    for length in (512, 513, 1024, 2000, ends):
        assert "tar: expected" in refused(data[:length])


@pytest.mark.parametrize("made", [zip_of, tar_of])
def test_garbage_behind_an_archive_is_refused(made: Callable[[dict[str, bytes]], bytes]) -> None:
    assert refused(made(FILES) + b"garbage")
    assert refused(made(FILES) + made(FILES))


def test_a_member_that_does_not_have_its_checksum_or_size_is_refused() -> None:
    content = deflated_zeros(1 << 20)
    crc = zlib.crc32(bytes(1 << 20))
    assert read_all(one_member(b"a", 8, content, crc, 1 << 20)) == {"a": bytes(1 << 20)}
    for wrong_crc, wrong_size in ((crc ^ 1, 1 << 20), (crc, (1 << 20) + 1), (crc, 0)):
        assert "with the checksum of the header" in refused(one_member(b"a", 8, content, wrong_crc, wrong_size))


def test_a_deflate_stream_must_be_whole_and_alone() -> None:
    content = zlib.compress(os.urandom(200_000), wbits=-15)
    assert "one that is cut off" in refused(one_member(b"a", 8, content[:-20], 0, 200_000))
    assert "bytes after its end" in refused(one_member(b"a", 8, content + bytes(5), 0, 200_000))
    assert "bytes after its end" in refused(one_member(b"a", 8, content + bytes(500_000), 0, 200_000))
    assert "a whole deflate stream" in refused(one_member(b"a", 8, b"\xff" * 100, 0, 100))


def test_an_encrypted_member_is_refused() -> None:
    data = bytearray(zip_of({"secret": b"x"}))
    data[6] |= 1
    data[data.find(b"PK\x01\x02") + 8] |= 1
    assert "not encrypted, found 'secret'" in refused(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_compression_is_refused_by_its_number(method: int) -> None:
    assert f"with method {method}" in refused(zip_of({"a": b"x" * 100}, method))


def test_two_headers_that_disagree_are_refused() -> None:
    data = zip_of({"good": b"x"})
    assert "two headers that agree on b'good'" in refused(data.replace(b"good", b"evil", 1))


def test_a_directory_that_points_outside_is_refused() -> None:
    for at in (1, 1 << 20, 0xFFFFFFFE):
        entry = (b"a", 0, 0, 1, 1, at)
        assert "a local header where" in refused(zip_by_hand([(b"a", 0, b"x", 0, 1)], directory=[entry]))
    beyond = zip_by_hand([(b"a", 0, b"x", 0, 1)], directory=[(b"a", 0, 0, 1 << 20, 1 << 20, 0)])
    assert "content before the central directory" in refused(beyond)
    missing = zip_by_hand([(b"a", 0, b"x", 0, 1)], directory=[(b"a", 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0)])
    assert "a zip64 field" in refused(missing)


@pytest.mark.parametrize(
    ("inner", "kind"),
    [
        (zip_of({"a": b""}), "zip"),
        (tar_of({"a": b""}), "tar"),
        (gzip.compress(b"{}"), "gzip"),
        (zstandard.compress(b"{}"), "zstd"),
    ],
    ids=["zip", "tar", "gzip", "zstd"],
)
def test_what_is_packed_twice_is_refused_when_it_is_read(inner: bytes, kind: str) -> None:
    for made, outer in ((zip_of, "zip"), (tar_of, "tar")):
        data = made({"a.json": inner})
        assert open_archive(data, LIMITS).names == ("a.json",)
        assert f"{kind} inside {outer}" in refused(data)


@pytest.mark.parametrize(
    "record",
    [b"5 a=\n", b"99 path=x\n", b"path=x\n", b"9 path=xx", b"0 a=b\n", b"2 \n", b"99999999999 a=b\n", b"6 abc\n"],
)
def test_a_pax_header_that_is_none_is_refused(record: bytes) -> None:
    pax = bytearray(tar_of({"x" * 120: b""}, tarfile.PAX_FORMAT))
    pax[124:136] = b"%011o\0" % len(record)
    pax[148:156] = b" " * 8
    pax[148:156] = b"%06o\0 " % sum(pax[:512])
    pax[512:1024] = record.ljust(512, b"\0")
    if record == b"5 a=\n":
        assert list(read_all(bytes(pax))) == ["x" * 100]
    else:
        assert "pax records" in refused(bytes(pax))


def test_an_archive_of_no_format_is_rejected() -> None:
    for made in (zip_of, tar_of):
        outcome = transformed(made({"a/readme.txt": b"hello"})).outcome
        assert outcome.verdict == "rejected"
        assert "one of the formats" in outcome.problems[0].expected
        assert transformed(made({"../x": b""})).outcome.problems[0].where.endswith("member 1")


def test_an_archive_that_two_formats_claim_is_rejected_and_read_if_one_is_declared() -> None:
    data = zip_of({"x/new/estimates.json": b'{"mean": {"point_estimate": 1.0}}', "machine.json": b"{}"})
    outcome = transformed(data).outcome
    assert outcome.verdict == "rejected"
    assert "claims by asv, criterion" in outcome.problems[0].found
    assert transformed(data, "criterion").outcome.measurements == 1


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([zip_of(FILES), tar_of(FILES), tar_of(FILES, tarfile.PAX_FORMAT), with_zip64_end(zip_of(FILES))]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=0, max_size=8), st.integers(0, 8)), min_size=1, max_size=4),
)
def test_any_damage_is_read_as_something_or_refused(data: bytes, changes: list[tuple[float, bytes, int]]) -> None:
    for place, put, length in changes:
        at = int(place * len(data))
        data = data[:at] + put + data[at + length :]
    problems = 1
    if archive_kind(data):
        try:
            read_all(data)
        except Rejected as refusal:
            problems = len(refusal.problems)
    assert problems == 1
