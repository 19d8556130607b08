"""The Arrow schema of each lake table: the columns of every part and of DuckDB's tables of the same names.

Every row has `seq` (the submission's number in the log) and `run`. Published columns never change meaning; a new
meaning is a new column. `TABLE_VERSION` grows with each added column.
"""

import pyarrow as pa

TABLE_VERSION = 2

_TIME = pa.timestamp("us", tz="UTC")
_WORD = pa.dictionary(pa.int32(), pa.string())  # text that repeats

STATUSES = (
    "pass",
    "ok",
    "skip",
    "notrun",
    "precondition_failed",
    "assert",
    "fail",
    "error",
    "timeout",
    "crash",
    "unknown",
)
"""One ladder for all formats. `ok` is a harness that ran: the verdict is in its subtests. `unknown` keeps the sender's
word in `status_text` and is never a pass."""

BETTER = ("lower", "higher", "")
"""Which direction is an improvement; empty where the format does not say."""

RUNS = pa.schema(
    [
        ("seq", pa.int64()),
        ("run", pa.string()),
        ("submission", pa.string()),
        ("ordinal", pa.int32()),  # position in its file, from 0
        ("project", _WORD),
        ("format", _WORD),
        ("digest", pa.string()),  # of commit, time, environment and rows: the same run sent again
        ("title", pa.string()),  # what the format calls it: suite, product, benchmark file
        ("commit", pa.string()),
        ("commit_parents", pa.list_(pa.string())),
        ("commit_time", _TIME),
        ("commit_subject", pa.string()),
        ("branch", _WORD),
        ("dirty", pa.bool_()),
        ("started", _TIME),
        ("finished", _TIME),
        ("received", _TIME),  # when the submission was received
        ("environment", pa.string()),  # fingerprint
        ("environment_title", _WORD),
        ("cpu", _WORD),
        ("cores", pa.int32()),
        ("ram_gib", pa.int32()),
        ("os", _WORD),
        ("runtime", _WORD),
        ("machine", pa.string()),  # JSON: everything else the file says of its machine
        ("labels", pa.map_(pa.string(), pa.string())),
        ("trust", _WORD),
        ("measurements", pa.int64()),
        ("tests", pa.int64()),  # rows in tests
        ("passed", pa.int64()),  # of these: pass or ok
        ("failed", pa.int64()),  # assert, fail, error, timeout, crash
    ]
)

RUN_CHUNKS = pa.schema(
    [
        ("seq", pa.int64()),
        ("run", pa.string()),
        ("submission", pa.string()),
        ("run_group", pa.string()),
        ("chunk", pa.int32()),  # from 1
        ("chunks", pa.int32()),
    ]
)

MEASUREMENTS = pa.schema(
    [
        ("seq", pa.int64()),
        ("run", _WORD),
        ("series", pa.string()),
        ("benchmark", _WORD),
        ("params", _WORD),  # canonical JSON object, "" if none
        ("metric", _WORD),
        ("unit", _WORD),
        ("better", _WORD),  # see BETTER
        ("value", pa.float64()),  # the one number to plot, in `unit`
        ("n", pa.int64()),  # how many samples the statistics cover
        ("min", pa.float64()),
        ("max", pa.float64()),
        ("mean", pa.float64()),
        ("median", pa.float64()),
        ("stddev", pa.float64()),
        ("q1", pa.float64()),
        ("q3", pa.float64()),
        ("samples", pa.list_(pa.float64())),
        ("benchmark_version", _WORD),
        ("derived", pa.bool_()),  # an aggregate of other measurements
        ("extra", pa.string()),  # JSON: what the format says besides
    ]
)

TESTS = pa.schema(
    [
        ("seq", pa.int64()),
        ("run", _WORD),
        ("test", _WORD),
        ("subtest", pa.string()),  # null for the test itself
        ("status", _WORD),  # see STATUSES
        ("status_text", _WORD),  # the sender's word where status is unknown
        ("expected", _WORD),  # the status that was expected, if the file says
        ("known_intermittent", pa.list_(pa.string())),
        ("duration_seconds", pa.float64()),
        ("message", pa.string()),
        ("extra", pa.string()),  # JSON: what the format says besides; since table version 2
    ]
)

TABLES = {"runs": RUNS, "run_chunks": RUN_CHUNKS, "measurements": MEASUREMENTS, "tests": TESTS}
