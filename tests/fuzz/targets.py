"""What is fuzzed: functions of bytes that raise, or assert, if anything but the promised comes of them."""

import gzip
import io
import json
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any
from unittest.mock import patch

import msgspec
import pyarrow.parquet as pq
import zstandard

from ingest.benchmarks import make_benchmark
from processor import archive, decode, instants, mended, shape, slices, validation, withheld
from processor.archive import open_archive
from processor.decode import Buffer, DecodeLimits, decoded, encoding_of, mended_surrogates, quoted_constants
from processor.formats import wptreport
from processor.formats.registry import FORMATS
from processor.joined import TABLES_OF_RUN, joined, refuses_around
from processor.part import Part
from processor.shape import Shape, shape_of
from processor.tables import OTHER_NAMES
from processor.task import File, Survey, Transform, do
from schemas import own_schema
from schemas.errors import Refused, Rejected
from schemas.keys import OWN_SCHEMA
from schemas.records import Benchmark, Metric, Param, Problem, SubmissionOutcome
from schemas.tables import TABLES
from tests.any_bytes import assert_tables_or_named_problems, assert_the_same_again
from tests.fuzz import planted, seeds
from tests.fuzz.mutation import DAMAGED, Material, Mutate, changed, changed_behind
from tests.golden import FOLDER, RECORD, make_submission, pairs

LIMITS = DecodeLimits(max_decoded_bytes=1 << 20, max_ratio=50, ratio_free_bytes=1 << 18, max_members=200)


@dataclass(frozen=True)
class Target:
    """`check` raises for bytes that show a fault. `modules` are those whose words are worth putting in."""

    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    format: str = ""
    modules: tuple[ModuleType, ...] = ()
    changed: Callable[[bytes, int, Random, Material, Mutate], bytes] = changed


# --- formats ---


def _format_check(format: str) -> Callable[[bytes], None]:
    def check(data: bytes) -> None:
        result = assert_tables_or_named_problems(data, format)
        if zlib.crc32(data) % 8 == 0:
            assert_the_same_again(data, format, result)

    return check


def _of_format(format: str) -> Target:
    modules = [sys.modules[one.read.__module__] for one in FORMATS.values() if format in (one.id, "auto")]
    common = (mended, shape, instants, withheld)
    return Target(_format_check(format), lambda: seeds.golden(format), format, (*modules, *common))


# --- decompression and archives ---


def check_decoded(data: bytes) -> None:
    """Within limits, and what the usual libraries make of the same bytes, if they take them."""
    try:
        content = bytes(decoded(data, LIMITS))
    except Rejected as refusal:
        _assert_named(refusal)
        return
    assert len(content) <= LIMITS.max_decoded_bytes
    encoding = encoding_of(data)
    try:
        usual = _usually_decoded(data, encoding)
    except (ValueError, EOFError, OSError, zlib.error, zstandard.ZstdError):
        return
    assert content == usual.removeprefix(b"\xef\xbb\xbf")


def _assert_named(refusal: Rejected) -> None:
    assert refusal.problems
    assert all(problem.where and problem.expected and problem.found for problem in refusal.problems)


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
        _assert_named(refusal)
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
        regular = [one for one in tar.getmembers() if one.isreg() and not one.name.endswith("/")]
        files = [tar.extractfile(one) for one in regular]
        return [file.read() for file in files if file]


def _packed_seeds() -> list[bytes]:
    plain = FORMATS["runfeed"].example.encode()
    found = [gzip.compress(plain), gzip.compress(plain) * 2, zstandard.compress(plain), zstandard.compress(plain) * 2]
    found += [zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(plain * 50)]
    found += [gzip.compress(b"\xef\xbb\xbf" + plain), b"\xef\xbb\xbf" + plain, b"\x28\xb5\x2f\xfd\x00\x00\x01\x00\x00"]
    return found + _archive_seeds()


def _archive_seeds() -> list[bytes]:
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


# --- a schema of one's own ---


_LISTED_WORK = (validation.MAX_LISTED_WORK, 500, 10)


class Pair(msgspec.Struct):
    """A benchmark as somebody would register it, and a result of it."""

    schema: msgspec.Raw
    document: msgspec.Raw
    metrics: list[Metric] = []
    params: list[Param] = []
    execution_time: str = ""


def check_own_schema(data: bytes) -> None:
    """A benchmark is refused with a reason when it is added, or its results are read as promised."""
    try:
        pair = msgspec.json.decode(data, type=Pair)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    try:
        benchmark = make_benchmark(
            "b",
            bytes(pair.schema),
            metrics=pair.metrics,
            params=pair.params,
            execution_time=pair.execution_time,
            now=datetime(2026, 1, 1, tzinfo=UTC),
        )
        stored = msgspec.json.decode(msgspec.json.encode(benchmark), type=Benchmark)
    except Refused as refusal:
        _assert_named(Rejected([Problem(where=refusal.where, expected=refusal.expected, found=refusal.found)]))
        return
    listed = _LISTED_WORK[zlib.crc32(data) % len(_LISTED_WORK)]  # as if the document were that much larger
    with patch.object(validation, "MAX_LISTED_WORK", listed):
        assert_tables_or_named_problems(bytes(pair.document), "auto", stored)


def _schema_seeds() -> list[bytes]:
    record = json.loads((FOLDER / OWN_SCHEMA / RECORD).read_bytes())
    metric = {"path": "/a/*/t", "metric": "t", "unit": "s", "better": "lower", "samples": "/a/*/s"}
    found = [
        {"schema": record["schema"], "metrics": record["metrics"], "params": record["params"], "document": document}
        for document in _documents()
    ]
    document = {
        "a": [{"t": 1, "s": "1:2", "n": "x"}, {"t": [1, 2], "s": [3]}],
        "when": "2026-01-01",
        "cpu": {"count": 1},
    }
    found += [
        {"schema": schema, "document": document, "metrics": [metric], "params": [{"path": "/a/*/n", "name": "n"}]}
        | ({"execution_time": "/when"} if len(schema) % 2 else {})
        for schema in _SCHEMAS
    ]
    return [json.dumps(one).encode() for one in found]


def _documents() -> list[Any]:
    texts = [path.read_bytes() for id, path, _ in pairs() if id == OWN_SCHEMA]
    return [json.loads(text) for text in texts]


_DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
_SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": "object", "properties": {"a": {"items": {"properties": {"t": {"type": ["number", "array"]}}}}}},
    {
        "$schema": _DRAFT_2020,
        "$defs": {"x": {"items": {"$ref": "#/$defs/x"}}},
        "properties": {"a": {"$ref": "#/$defs/x"}},
    },
    {"patternProperties": {"^[a-z]+$": {"maxItems": 1, "uniqueItems": True}}, "additionalProperties": False},
    {"allOf": [{"required": ["b"]}, {"minProperties": 9}], "anyOf": [{"type": "null"}, {"const": {"a": [1]}}]},
    {
        "oneOf": [{}, {}],
        "not": {"required": ["a"]},
        "if": {"maxProperties": 1},
        "then": False,
        "else": {"enum": [1, "a"]},
    },
    {"$schema": _DRAFT_2020, "unevaluatedProperties": False, "dependentSchemas": {"a": {"properties": {"when": {}}}}},
    {"properties": {"when": {"format": "date-time", "pattern": "(a|b)*c{2,50}$", "minLength": 40, "maxLength": 3}}},
    {
        "$schema": _DRAFT_2020,
        "properties": {"a": {"prefixItems": [True], "contains": {"type": "string"}, "minContains": 2}},
    },
    {
        "propertyNames": {"pattern": "^x"},
        "dependencies": {"a": ["z"], "when": {"type": "array"}},
        "definitions": {"q": {}},
    },
    {
        "properties": {
            "a": {"items": {"properties": {"t": {"multipleOf": 0.3, "minimum": 1e308, "exclusiveMaximum": -1}}}}
        }
    },
    {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True, "id": "http://a/b"},
    {"additionalProperties": {"runfeed": {"param": "x"}}, "properties": {"cpu": {"runfeed": {"metric": "m"}}}},
]


# --- slices ---

_SIZES = (16, 40, 100, 250, 1_000, 4_000)


@contextmanager
def _small_pieces(choice: int) -> Iterator[int]:
    """About how many bytes a slice shall have. `choice`, a byte, also says how much is looked at in search of a cut, so
    that small documents are cut too, and in odd places."""
    sizes = {
        "_HEAD_BYTES": _SIZES[choice // 6 % 6],
        "_TAIL_BYTES": _SIZES[choice // 36 % 6],
        "_SEARCH_BYTES": _SIZES[choice // 6 % 6],
        "_LONGEST_ELEMENT": 2_000,
    }
    usual = {name: getattr(slices, name) for name in sizes}
    vars(slices).update(sizes)
    try:
        yield _SIZES[choice % 6]
    finally:
        vars(slices).update(usual)


def check_slices(data: bytes) -> None:
    """Where the elements of each slice are elements of an array, they are together exactly those of the whole, which is
    valid then. The first byte chooses the sizes.
    """
    text = data[1:]
    with _small_pieces(data[0] if data else 0) as slice_bytes:
        found = slices.cut(io.BytesIO(text), len(text), ["results"], slice_bytes)
    if found is None:
        return
    arrays = [b"[" + text[start:stop] + b"]" for start, stop in found.bounds]
    if any(_shape(array) is None for array in arrays):
        return  # the cut was wrong, and is found to be
    whole, around = _shape(text), _shape(found.prefix + found.suffix)
    assert whole is not None, "slices of what is no JSON"
    assert around is not None
    assert [element for array in arrays for element in _elements(array)] == _elements(whole.keys["results"])
    assert _elements(around.keys["results"]) == []
    left, right = (
        {key: bytes(value) for key, value in shape.keys.items() if key != "results"} for shape in (whole, around)
    )
    assert left == right


def check_joined(data: bytes) -> None:
    """What a document gives in slices is what it gives when it is read whole. The first byte chooses the sizes.

    Halves of characters are left aside: a slice counts its own, and only the first slice's count is told.
    """
    if mended_surrogates(data)[1]:
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "report"
        path.write_bytes(data[1:])
        file = File(seq=7, submission=make_submission(), path=str(path))
        with _small_pieces(data[0] if data else 0) as slice_bytes:
            survey = do(Survey(file=file, limits=LIMITS, scratch=scratch, slice_bytes=slice_bytes))
        done = [do(one) for one in survey.slices]
        array = FORMATS["wptreport"].long_array
        if not done or any(not one.outcomes or refuses_around(one, array) for one in done):
            return
        together = joined(done, array)
        whole = do(Transform(files=[file], limits=LIMITS))
    parts, outcome, expected = together.parts, together.outcomes[0], whole.outcomes[0]
    unread = {} if OTHER_NAMES in expected.unread else None  # which names are the others, each finds in its own way
    assert _counts(outcome, unread) == _counts(expected, unread)
    if expected.problems_total <= len(expected.problems):
        assert sorted(map(str, outcome.problems)) == sorted(map(str, expected.problems))
    if outcome.verdict == "accepted":
        parts += [part for one in done for part in one.parts if part.table not in TABLES_OF_RUN]
        for table in TABLES:
            assert _rows(parts, table) == _rows(whole.parts, table)


def _rows(parts: Sequence[Part], table: str) -> list[dict[str, Any]]:
    read = [pq.read_table(io.BytesIO(part.body)).to_pylist() for part in parts if part.table == table]
    return [{key: value for key, value in row.items() if key != "digest"} for rows in read for row in rows]


def _counts(outcome: SubmissionOutcome, unread: dict[str, int] | None) -> SubmissionOutcome:
    return msgspec.structs.replace(outcome, problems=[], unread=outcome.unread if unread is None else unread)


def _shape(document: bytes) -> Shape | None:
    """As the processor sees it: None for what it does not take for JSON."""
    try:
        return shape_of(document)
    except Rejected:
        return None


def _elements(array: Buffer | msgspec.Raw) -> list[bytes]:
    mended = quoted_constants(mended_surrogates(array)[0])
    return [bytes(element) for element in msgspec.json.decode(mended, type=list[msgspec.Raw])]


def _slice_seeds() -> list[bytes]:
    """Reports behind a byte for the sizes."""
    tests = [{"test": f"/{n}", "status": "OK", "subtests": [{"name": '"], "a": [{"test":'}]} for n in range(12)]
    report = {
        "run_info": {"os": "x"},
        "results": tests,
        "time_start": 1,
        "lsan_leaks": [{"test": "/l"}],
        "results2": [{}],
    }
    texts = [json.dumps(report), json.dumps(report, indent=1), json.dumps(report, separators=(",", ":"))]
    texts.append(json.dumps({"results": tests}))
    golden = [data for data in seeds.golden("wptreport") if data]
    return [bytes([n]) + text for n in (0, 13, 86, 200) for text in [*(one.encode() for one in texts), *golden]]


TARGETS: dict[str, Target] = {
    "auto": _of_format("auto"),
    **{id: _of_format(id) for id in FORMATS if id != OWN_SCHEMA},
    OWN_SCHEMA: Target(
        check_own_schema,
        _schema_seeds,
        modules=(own_schema, validation, sys.modules[FORMATS[OWN_SCHEMA].read.__module__]),
    ),
    "decoded": Target(check_decoded, _packed_seeds, modules=(decode,)),
    "archive": Target(check_archive, _archive_seeds, modules=(archive,)),
    "slices": Target(check_slices, _slice_seeds, modules=(slices,), changed=changed_behind),
    "joined": Target(check_joined, _slice_seeds, modules=(slices, wptreport), changed=changed_behind),
}
"""By name: a format's id, or what else is read."""

PLANTED = "planted"
TESTED: dict[str, Target] = {
    **TARGETS,
    PLANTED: Target(planted.check_planted, lambda: [planted.SEED], modules=(planted,)),
}
"""With the one that must fail."""
