"""Documents read in slices as fuzzed: a slice is sound, and all of them give what the whole gives."""

import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from processor import slices
from processor.formats.registry import FORMATS
from processor.joined import joined, refuses_around
from processor.part import Part
from processor.reading.decode import Buffer, DecodeLimits, mended_surrogates, quoted_constants
from processor.reading.shape import Shape, shape_of
from processor.tables import OTHER_NAMES
from processor.task import TABLES_OF_RUN, File, Survey, Transform, do
from schemas.errors import Rejected
from schemas.records import SubmissionOutcome
from schemas.tables import TABLES
from tests.fuzz import seeds
from tests.golden import make_submission

LIMITS = DecodeLimits()
_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # disks stall
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
    if _may_nest_deeply(text):
        return
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
        {key: _mended(value) for key, value in shape.keys.items() if key != "results"} for shape in (whole, around)
    )
    assert left == right


def check_joined(data: bytes) -> None:
    """What a document gives in slices is what it gives when it is read whole. The first byte chooses the sizes.

    Halves of characters are left aside: each slice counts its own.
    """
    if mended_surrogates(data)[1] or _may_nest_deeply(data):
        return
    with tempfile.TemporaryDirectory(dir=_MEMORY) as scratch:
        path = Path(scratch) / "report"
        path.write_bytes(data[1:])
        file = File(seq=7, submission=make_submission(), path=str(path))
        with _small_pieces(data[0] if data else 0) as slice_bytes:
            survey = do(Survey(file=file, limits=LIMITS, scratch=scratch, slice_bytes=slice_bytes))
        done = [do(one) for one in survey.slices]
        array = FORMATS["wptreport"].long_array
        if not done or any(refuses_around(one, array) for one in done):
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


def _may_nest_deeply(text: bytes) -> bool:
    """Near the limit, whether it is too deep depends on who reads it."""
    return text.count(b"[") + text.count(b"{") > 800


def _counts(outcome: SubmissionOutcome, unread: dict[str, int] | None) -> SubmissionOutcome:
    return msgspec.structs.replace(outcome, problems=[], unread=outcome.unread if unread is None else unread)


def _shape(document: bytes) -> Shape | None:
    """As the processor sees it: None for what it does not take for JSON."""
    try:
        return shape_of(document)
    except Rejected:
        return None


def _elements(array: Buffer | msgspec.Raw) -> list[bytes]:
    return [bytes(element) for element in msgspec.json.decode(_mended(array), type=list[msgspec.Raw])]


def _mended(text: Buffer | msgspec.Raw) -> bytes:
    return bytes(quoted_constants(mended_surrogates(bytes(text))[0]))


def slice_seeds() -> list[bytes]:
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
