"""One submission's blob to rows or reasons. Pure: bytes and a submission in, a Transformed out."""

from dataclasses import dataclass

from processor.formats import Format
from processor.formats.registry import FORMATS
from processor.reading.decode import Buffer, DecodeLimits, decoded, rejected
from processor.reading.shape import Shape, shape_of
from processor.tables import Tables, clipped
from schemas.errors import Rejected
from schemas.keys import OWN_SCHEMA, parse_benchmark_format
from schemas.records import Benchmark, Problem, Submission, SubmissionOutcome, Verdict, Withdrawal

TRANSFORM_VERSION = 3
"""Grows whenever the same bytes may give other rows; quarantined submissions are then tried again."""


@dataclass(frozen=True)
class Transformed:
    """The verdict for the outcome, and the tables that hold the rows (none unless accepted)."""

    outcome: SubmissionOutcome
    tables: Tables | None


def transform(
    data: Buffer, submission: Submission, seq: int, limits: DecodeLimits, benchmark: Benchmark | None = None
) -> Transformed:
    """Decode, recognise and read one blob. Raises only for bugs and exhausted memory: the caller quarantines.

    `benchmark` is the registered benchmark that the submission names, if any.
    """
    tables = Tables(submission, seq, limits, benchmark)
    try:
        content = decoded(data, limits)
        tables.decoded_bytes = len(content)
        format = chosen_format(content, submission.format, limits)
    except Rejected as refusal:
        return _refused(tables, refusal)
    return read_content(content, tables, format)


def read_content(content: Buffer, tables: Tables, format: Format) -> Transformed:
    """Read decoded content of a known format into `tables`."""
    tables.format = format.id
    try:
        format.read(content, tables)
        tables.finish()
    except Rejected as refusal:
        return _refused(tables, refusal)
    if tables.runs == 0 and any(problem.effect == "refused" for problem in tables.problems):
        return Transformed(_outcome(tables, "rejected"), None)
    return Transformed(_outcome(tables, "accepted"), tables)


def _refused(tables: Tables, refusal: Rejected) -> Transformed:
    for problem in refusal.problems:
        tables.problem(problem.where, problem.expected, problem.found, effect=problem.effect)
    return Transformed(_outcome(tables, "rejected"), None)


def quarantined(submission_id: str, seq: int, reason: str) -> Transformed:
    """We failed, not the file: kept out of the way, with the reason."""
    problem = Problem(where="processor", expected="a transform that ends", found=clipped(reason))
    return Transformed(
        SubmissionOutcome(seq=seq, id=submission_id, verdict="quarantined", problems=[problem], problems_total=1), None
    )


def rejected_outcome(submission_id: str, seq: int, refusal: Rejected) -> SubmissionOutcome:
    """Refused before its content was looked at."""
    problems = refusal.problems
    return SubmissionOutcome(
        seq=seq, id=submission_id, verdict="rejected", problems=problems, problems_total=len(problems)
    )


def withdrawn_outcome(submission_id: str, seq: int, withdrawal: Withdrawal) -> SubmissionOutcome:
    """Nothing of it is kept, whatever it was."""
    found = f"one withdrawn on {withdrawal.withdrawn:%Y-%m-%d}: {withdrawal.reason}"
    problem = Problem(where="blob", expected="a file that is not withdrawn", found=clipped(found))
    return SubmissionOutcome(seq=seq, id=submission_id, verdict="withdrawn", problems=[problem], problems_total=1)


def chosen_format(content: Buffer, declared: str, limits: DecodeLimits) -> Format:
    """The declared format, or the only one that claims the content; else Rejected."""
    if declared != "auto":
        declared = OWN_SCHEMA if parse_benchmark_format(declared) else declared
        if declared not in FORMATS:
            raise rejected("format", "one of " + ", ".join(["auto", *FORMATS]), repr(declared[:80]))
        return FORMATS[declared]
    shape = shape_of(content, limits)
    claiming = [format for format in FORMATS.values() if format.claims(shape)]
    if len(claiming) == 1:
        return claiming[0]
    if claiming:
        names = ", ".join(format.id for format in claiming)
        raise rejected("blob", "content that one format claims (name it with --format)", f"claims by {names}")
    raise rejected("blob", "one of the formats " + ", ".join(FORMATS), _seen(shape))


def _seen(shape: Shape) -> str:
    """The shape in words."""
    if shape.kind == "xml":
        return f"XML with root element {shape.root!r}"
    if shape.kind == "text":
        return f"text that starts {shape.head[:40].decode(errors='replace')!r}"
    if shape.kind == "archive":
        return f"an archive of {len(shape.names):,} files: {', '.join(shape.names[:5])}"
    keys = ", ".join(sorted(shape.keys)[:8])
    kind = "array of objects" if shape.kind == "array" and keys else shape.kind
    return f"JSON {kind}" + (f" with keys {keys}" if keys else "")


def _outcome(tables: Tables, verdict: Verdict) -> SubmissionOutcome:
    accepted = verdict == "accepted"
    return SubmissionOutcome(
        seq=tables.seq,
        id=tables.submission.id,
        verdict=verdict,
        format=tables.format,
        problems=tables.problems,
        problems_total=tables.problems_total,
        runs=tables.runs if accepted else 0,
        measurements=tables.measurements if accepted else 0,
        tests=tables.tests if accepted else 0,
        unread=dict(sorted(tables.unread.items())) if accepted else {},
    )
