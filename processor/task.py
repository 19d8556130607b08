"""What a child process is asked to do, what it answers, and the doing itself. Pure but for reading the files named.

A task is some files to transform together, or a look at one big file to see how it may be cut, or one slice of it. The
same function does it in a child (`processor.child`) and wherever else somebody wants it done.
"""

import errno
import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from processor.formats.registry import FORMATS
from processor.part import Part, make_parts
from processor.reading.decode import Buffer, DecodeLimits, encoding_of, inflate
from processor.rows import Rows
from processor.slices import SLICE_BYTES, cut, sliced_array
from processor.tables import Tables
from processor.transform import Transformed, chosen_format, quarantined, read_content, transform
from schemas.errors import Rejected
from schemas.records import Benchmark, Submission, SubmissionOutcome

PART_BYTES = 64 << 20
"""Bytes, of Arrow or of decoded files, that are gathered before their rows become parts of their own."""

TABLES_OF_RUN = ("runs", "run_chunks")
"""Tables of which all slices have the same rows, but for the counts of their run."""

SLICES_TOGETHER = 4
"""Whose rows make one part."""

_COUNTS = ("measurements", "tests", "passed", "failed")
_BOM = b"\xef\xbb\xbf"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One submission and where its bytes are: `body`, or the local file `path`."""

    seq: int
    submission: Submission
    body: bytes = b""
    path: str = ""
    record: bytes = b""
    """The benchmark that the submission names, as JSON: a schema may hold numbers that nothing else can."""

    def read(self) -> Buffer:
        return Path(self.path).read_bytes() if self.path else self.body

    @property
    def benchmark(self) -> Benchmark | None:
        return msgspec.json.decode(self.record, type=Benchmark) if self.record else None


class Transform(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Transform these files, each as if it were alone."""

    files: list[File]
    limits: DecodeLimits


class Survey(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """See whether the file can be read in slices; `scratch` is where it may be decompressed to."""

    file: File
    limits: DecodeLimits
    scratch: str
    slice_bytes: int = SLICE_BYTES


class Slices(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Transform some slices: the elements between two bytes of the long array, for each of `bounds`.

    `document` is the rest, with that array empty; `text_digest` is the SHA-256 of all.
    """

    file: File
    limits: DecodeLimits
    format: str
    document: bytes
    text_digest: bytes
    bounds: list[tuple[int, int]]
    first: bool

    @property
    def size_bytes(self) -> int:
        return self.bounds[-1][1] - self.bounds[0][0]


Task = Transform | Survey | Slices


class Done(msgspec.Struct, kw_only=True):
    """What came of a task: an outcome per file that could be decided, parts of their rows.

    `exhausted` are the seqs of files for which memory ran out. Of a survey there is only `slices`: none if the file
    must be read whole. Of slices there is an outcome for each, how many `elements` it had, and the `counts` of the run
    in all of them; the parts of that run come with the first.
    """

    outcomes: list[SubmissionOutcome] = []
    parts: list[Part] = []
    exhausted: list[int] = []
    slices: list[Slices] = []
    elements: list[int] = []
    counts: dict[str, int] = {}


def do(task: Task) -> Done:
    """Raises what storage of the files raises, and MemoryError where not even the reason could be kept."""
    if isinstance(task, Transform):
        return _transform(task)
    return _survey(task) if isinstance(task, Survey) else _slices(task)


# --- files ---


def _transform(task: Transform) -> Done:
    """Small files share record batches, so a value that no column can hold fails for all of them; then each gets its
    own, so that it fails alone."""
    try:
        return _together(task, apart=False)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - somebody's rows do not fit into a part: find out whose
        return _together(task, apart=True)


def _together(task: Transform, *, apart: bool) -> Done:
    done, rows, decoded_bytes = Done(), Rows(), 0
    for file in task.files:
        result = _transformed(file, task.limits, apart=apart)
        if result is None:
            done.exhausted.append(file.seq)
            continue
        done.outcomes.append(result.outcome)
        if result.tables is not None:
            rows.take(result.tables.rows)
            decoded_bytes += result.tables.decoded_bytes
        if max(rows.size_bytes, decoded_bytes) > PART_BYTES:
            done.parts += make_parts(rows.batches())
            rows, decoded_bytes = Rows(), 0
    done.parts += make_parts(rows.batches())
    return done


def _transformed(file: File, limits: DecodeLimits, *, apart: bool) -> Transformed | None:
    """None if memory ran out."""
    try:
        data = file.read()
        result = transform(data, file.submission, file.seq, limits, file.benchmark)
        if apart and result.tables is not None:
            result.tables.rows.batches()
    except MemoryError:
        return None
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - our bug: must not stand in the others' way
        return quarantined(file.submission.id, file.seq, f"{type(error).__name__}: {error}")
    return result


# --- slices ---


def _survey(task: Survey) -> Done:
    """A refusal here is no answer: reading the file whole finds the same reason, and says it once."""
    try:
        path = _decoded_file(task.file.path, task.limits, task.scratch)
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            return Done(slices=_cut(file, size, task, path))
    except Rejected:
        return Done()
    except OSError as error:
        if error.errno in _FULL:  # no room to decompress to: in memory there may be
            return Done()
        raise


def _cut(file: BinaryIO, size: int, task: Survey, path: str) -> list[Slices]:
    arrays = sorted({format.long_array for format in FORMATS.values() if format.long_array})
    if size > task.limits.max_decoded_bytes or size < 2 * task.slice_bytes or file.read(3) == _BOM:
        return []
    found = cut(file, size, arrays, task.slice_bytes)
    if found is None:
        return []
    format = chosen_format(found.document(file, 0), task.file.submission.format, task.limits)
    if format.long_array != found.array:
        return []
    text_digest = bytes.fromhex(task.file.submission.blob.sha256)
    if path != task.file.path:
        file.seek(0)
        text_digest = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
    of_file = msgspec.structs.replace(task.file, path=path)
    return [
        Slices(
            file=of_file, limits=task.limits, format=format.id, document=found.prefix + found.suffix,
            text_digest=text_digest, bounds=found.bounds[at : at + SLICES_TOGETHER], first=at == 0,
        )
        for at in range(0, len(found.bounds), SLICES_TOGETHER)
    ]  # fmt: skip


def _decoded_file(path: str, limits: DecodeLimits, scratch: str) -> str:
    """`path`, or where it has been decompressed to."""
    with open(path, "rb") as file:
        encoding = encoding_of(file.read(4))
        if not encoding:
            return path
        file.seek(0)
        data = file.read()
    decoded = os.path.join(scratch, "decoded")
    with open(decoded, "wb") as out:
        inflate(data, encoding, limits, out)
    return decoded


def _slices(task: Slices) -> Done:
    done, rows = Done(), Rows()
    for start, stop in task.bounds:
        tables = Tables(task.file.submission, task.file.seq, task.limits, task.file.benchmark)
        tables.text_digest = task.text_digest
        with open(task.file.path, "rb") as file:
            tables.long_array = sliced_array(file, start, stop)
        result = read_content(task.document, tables, FORMATS[task.format])
        done.outcomes.append(result.outcome)
        done.elements.append(tables.elements)
        if result.tables:
            rows.take(tables.rows)
    if any(outcome.verdict != "accepted" for outcome in done.outcomes):
        return done
    batches = rows.batches()
    run = pa.Table.from_batches(batches["runs"])
    done.counts = {name: pc.sum(run[name]).as_py() for name in _COUNTS}
    for table in TABLES_OF_RUN:
        batches[table] = [batch.slice(0, 1) for batch in batches[table][:1]] if task.first else []
    done.parts = make_parts(batches)
    return done
