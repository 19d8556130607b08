"""Whoever reads a catalog and the outcomes after it sees each row of the newest outcomes once, at every moment.

The reader is a stranger: the code of processor/README.md, which knows nothing of Runfeed's.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feed.announceable import describe_outcome
from feed.announcer import Announcer
from feed.log import LogReader
from infra.bucket import Buckets
from infra.folder import FolderBucket
from processor import merge as merge_module
from processor.catalog import catalogs, newest_catalog, point_to
from processor.compaction import Compaction, Planned, planned
from processor.lake import publish_outcome, write_part
from processor.merge import Input, merge
from processor.part import make_parts
from schemas import keys
from schemas.errors import Refused
from schemas.records import CatalogFile, Outcome, SubmissionOutcome
from schemas.tables import TABLES
from tests.chain import Unreliable, failing, nothing

Rows = Counter[str]

_README = (Path(__file__).parents[1] / "processor/README.md").read_text()
_SNIPPETS = re.findall(r"^```python\n(.*?)^```$", _README, re.M | re.S)


def stranger() -> Callable[..., tuple[list[str], list[tuple[int, int]], list[str]]]:
    """`live` of processor/README.md."""
    [code] = [snippet for snippet in _SNIPPETS if "def live" in snippet]
    names: dict[str, Any] = {}
    exec(code, names)
    return names["live"]  # type: ignore[no-any-return]


LIVE = stranger()


class Lake:
    """A lake version whose outcomes are written by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "public"
        self.public: Any = Unreliable(FolderBucket(self.folder))
        self.buckets = Buckets(self.public, FolderBucket(folder / "private"))
        self.log = LogReader(self.public, keys.outcomes_log(1))
        self.now = datetime(2026, 5, 1, tzinfo=UTC)
        self.announcer = Announcer(
            self.buckets, self.log, describe_outcome, clock=lambda: self.now, head_keep=2, threads=1
        )
        self.revisions: dict[int, int] = {}

    def commit(self, first: int, values: list[float], *, samples: Sequence[float] = ()) -> None:
        """An outcome of the batch `first`, its first or a revision, with a measurement of each value."""
        revision = self.revisions[first] = self.revisions.get(first, -1) + 1
        measurements = [
            {
                "seq": first,
                "run": f"run-{first}",
                "series": f"s{value % 3:.3f}",
                "value": value,
                "samples": [value, *samples],
            }
            for value in values
        ]
        run = {"seq": first, "run": f"run-{first}", "ordinal": 0, "labels": [("revision", str(revision))]}
        tables = {"measurements": measurements, "runs": [run] if values else []}
        batches = {
            table: [pa.RecordBatch.from_pylist(rows, schema=TABLES[table])] for table, rows in tables.items() if rows
        }
        self.now += timedelta(seconds=1)
        outcome = Outcome(
            first=first,
            last=first,
            revision=revision,
            nonce=keys.new_nonce(self.now),
            through=first,
            transform_version=1,
            submissions=[SubmissionOutcome(seq=first, id="a" * 64, verdict="accepted")],
            parts=[write_part(self.public, 1, first, first, part) for part in make_parts(batches)],
            finished=self.now,
        )
        assert publish_outcome(self.buckets, 1, outcome)

    def announce(self) -> None:
        while self.announcer.commit():
            pass

    def compaction(self, **of: Any) -> Compaction:
        return Compaction(self.public, LogReader(self.public, keys.outcomes_log(1)), 1, threads=2, **of)

    def compact(self, **of: Any) -> None:
        compaction = self.compaction(**of)
        while compaction.step():
            pass

    def files(self, table: str = "measurements") -> list[CatalogFile]:
        return newest_catalog(self.public, 1).tables.get(table, [])

    # --- what there is, and what a stranger sees ---

    def expected(self, table: str) -> Rows:
        newest: dict[int, Outcome] = {}
        for entry in self.log.entries_after(0):
            outcome = msgspec.json.decode(self.public.read(entry.key), type=Outcome)
            if outcome.first not in newest or newest[outcome.first].revision < outcome.revision:
                newest[outcome.first] = outcome
        return rows_of(
            self.folder / part.key for outcome in newest.values() for part in outcome.parts if part.table == table
        )

    def seen(self, table: str, live: Callable[..., Any] = LIVE) -> Rows:
        try:
            files, replaced, parts = live(self.public.read, table)
        except FileNotFoundError:
            return Counter()
        held = rows_of(
            (self.folder / key for key in files),
            lambda seq: not any(first <= seq <= last for first, last in replaced),
        )
        return held + rows_of(self.folder / key for key in parts)

    def check(self) -> None:
        if (self.folder / keys.current_catalog(1)).exists():
            for table in ("measurements", "runs"):
                assert self.seen(table) == self.expected(table)


def rows_of(paths: Iterator[Path] | Any, wanted: Callable[[int], bool] = lambda seq: True) -> Rows:
    rows: Rows = Counter()
    for path in paths:
        rows.update(str(row) for row in pq.read_table(path).to_pylist() if wanted(row["seq"]))
    return rows


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


# --- each row once, always ---

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(0, 4)),
        st.tuples(st.just("revise"), st.integers(0, 30)),
        st.just(("announce", 0)),
        st.just(("compact", 0)),
        st.tuples(st.just("crash"), st.integers(0, 6)),
        st.tuples(st.just("race"), st.integers(0, 6)),
    ),
    max_size=14,
)


def test_a_revision_with_the_same_rows_names_the_same_part_and_it_counts_once(lake: Lake) -> None:
    for revision in range(3):
        lake.commit(1, [10.0])
        lake.announce()
        lake.compact()
        lake.check()
        assert sum(file.rows for file in lake.files()) == 1, f"revision {revision}"


@example(actions=[("revise", 1), ("announce", 0), ("compact", 0), ("revise", 1)], file_bytes=20_000)
@given(actions=ACTIONS, file_bytes=st.sampled_from([1, 20_000, 1 << 27]))
@settings(max_examples=25)
def test_each_row_is_seen_once_after_every_step_crash_race_and_revision(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int]], file_bytes: int
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for action, number in [("commit", 1), ("announce", 0), *actions, ("announce", 0), ("compact", 0)]:
        if action == "commit":
            lake.commit(max(lake.revisions, default=0) + 1, [number * 10.0 + at for at in range(number)])
        elif action == "revise":
            first = 1 + number % len(lake.revisions)
            lake.commit(first, [100.0 * number + at for at in range(number % 3)])
        elif action == "announce":
            lake.announce()
        elif action == "compact":
            lake.compact(file_bytes=file_bytes)
        else:
            at_write(lake, number, die if action == "crash" else lambda: meanwhile(lake, file_bytes))
            try:
                lake.compact(file_bytes=file_bytes)
            except KeyboardInterrupt:
                pass
            finally:
                lake.public.before = nothing
        lake.check()
    assert newest_catalog(lake.public, 1).through == lake.log.last_seq()
    assert catalogs(lake.public, 1) == list(range(1, len(catalogs(lake.public, 1)) + 1)), "generations are dense"


def at_write(lake: Lake, number: int, act: Callable[[], None]) -> None:
    """Do `act` before the `number`-th write into the lake from now on."""
    left = [number]

    def hook(verb: str, key: str) -> None:
        if verb in ("create", "swap") and key.startswith("lake/"):
            left[0] -= 1
            if left[0] == -1:
                act()

    lake.public.before = hook


def die() -> None:
    raise KeyboardInterrupt


def meanwhile(lake: Lake, file_bytes: int) -> None:
    """Another compaction runs from end to end, after a revision and a new batch."""
    lake.public.before = nothing
    lake.commit(1, [7.0])
    lake.commit(max(lake.revisions) + 1, [8.0])
    lake.announce()
    lake.check()
    lake.compact(file_bytes=file_bytes)
    lake.check()


def test_an_older_revision_that_is_announced_later_changes_nothing(lake: Lake) -> None:
    lake.commit(1, [1.0])
    [older] = lake.buckets.private.list("pending/")
    lake.buckets.private.delete(older)  # as if its announcer's clock ran ahead
    lake.commit(1, [2.0])
    lake.announce()
    lake.compact()
    lake.buckets.private.create(older, b"")
    lake.announce()
    assert [entry.id[-1] for entry in lake.log.entries_after(0)] == ["1", "0"]
    assert lake.seen("measurements") == lake.expected("measurements") == rows_of_newest(lake)
    lake.compact()
    assert lake.seen("measurements") == rows_of_newest(lake)


def rows_of_newest(lake: Lake) -> Rows:
    newest = msgspec.json.decode(lake.public.read(keys.outcome(1, 1, 1)), type=Outcome)
    return rows_of(lake.folder / part.key for part in newest.parts if part.table == "measurements")


def test_a_reader_that_forgets_the_revised_ranges_would_be_caught(lake: Lake) -> None:
    lake.commit(1, [1.0])
    lake.announce()
    lake.compact()
    lake.commit(1, [2.0])
    lake.announce()

    def careless(*given: Any) -> Any:
        files, _, parts = LIVE(*given)
        return files, [], parts

    assert lake.seen("measurements") == lake.expected("measurements")
    assert lake.seen("measurements", careless) != lake.expected("measurements")


def test_a_revision_without_rows_takes_away_those_of_its_batch_only(lake: Lake) -> None:
    for first in (1, 2, 3):
        lake.commit(first, [float(first)])
    lake.announce()
    lake.compact()
    lake.commit(2, [])
    lake.announce()
    lake.check()
    lake.compact()
    lake.check()
    assert sorted(seqs_of(lake)) == [1, 3]


def seqs_of(lake: Lake) -> list[int]:
    return [seq for file in lake.files() for seq in pq.read_table(lake.folder / file.key)["seq"].to_pylist()]


def test_the_last_rows_of_a_table_can_be_revised_away(lake: Lake) -> None:
    lake.commit(1, [1.0])
    lake.announce()
    lake.compact()
    lake.commit(1, [])
    lake.announce()
    lake.compact()
    assert lake.files() == []
    lake.check()


# --- commits ---


def test_nothing_new_makes_no_catalog(lake: Lake) -> None:
    lake.commit(1, [1.0])
    lake.announce()
    lake.compact()
    before = sorted(lake.public.list("lake/"))
    lake.compact()
    assert sorted(lake.public.list("lake/")) == before


def test_compacting_the_same_twice_makes_the_same_files(tmp_path: Path) -> None:
    """So whoever comes after one that died finds its files and need not write them again."""
    found = []
    for name in ("a", "b"):
        lake = Lake(tmp_path / name)
        for first in range(1, 5):
            lake.commit(first, [float(first), 2.0, 2.0])
        lake.announce()
        lake.compact()
        found.append([file.sha256 for file in lake.files()])
    assert found[0] == found[1]


def test_current_json_is_mended_by_the_next_step_after_a_death_before_it_moved(lake: Lake) -> None:
    lake.commit(1, [1.0])
    lake.announce()
    lake.public.before = failing("swap", "lake/v1/catalog/current.json", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        lake.compact()
    lake.public.before = nothing
    assert lake.seen("measurements") == Counter(), "no catalog is named yet"
    lake.compact()
    assert lake.seen("measurements") == lake.expected("measurements")


def test_current_json_never_goes_back(lake: Lake) -> None:
    point_to(lake.public, 1, 2)
    point_to(lake.public, 1, 1)
    assert keys.catalog(1, 2).encode() in lake.public.read(keys.current_catalog(1))


def test_steps_are_bounded_and_each_is_a_catalog(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.compaction.OUTCOMES_PER_STEP", 2)
    for first in range(1, 6):
        lake.commit(first, [float(first)])
    lake.announce()
    lake.compact()
    assert catalogs(lake.public, 1) == [1, 2, 3]
    lake.check()


def test_a_damaged_file_stops_compaction_and_is_named(lake: Lake) -> None:
    lake.commit(1, [1.0])
    lake.commit(2, [1.0])
    lake.announce()
    part = next(lake.public.list("lake/v1/measurements/"))
    body = bytearray((lake.folder / part).read_bytes())
    body[len(body) // 2] ^= 1
    (lake.folder / part).write_bytes(body)
    with pytest.raises(Refused, match=part):
        lake.compact()
    assert catalogs(lake.public, 1) == []


# --- what becomes of files ---


def file(key: str, size: int, first: int = 1, last: int = 1) -> CatalogFile:
    return CatalogFile(key=key, sha256="0" * 64, size_bytes=size, rows=1, first=first, last=last)


def test_large_parts_stay_and_small_ones_are_merged() -> None:
    large, small, other = file("large", 50), file("a", 1), file("b", 1)
    plan = planned([], [small, large, other], [], 100)
    assert plan.kept == [large]
    assert plan.merges == [[Planned(small), Planned(other)]]


def test_one_small_part_alone_stays_as_it_is(lake: Lake) -> None:
    only = file("a", 1)
    assert planned([], [only], [], 100).merges == [[Planned(only)]]
    lake.commit(1, [1.0])
    lake.announce()
    lake.compact()
    assert [keys.parse_part(one.key) is not None for one in lake.files()] == [True]


def test_a_file_joins_only_what_is_as_large() -> None:
    held = [file("ten", 10), file("two", 2), file("three", 3)]
    assert planned(held, [file("new", 1)], [], 100).merges == [[Planned(file("new", 1))]]
    plan = planned(held, [file("new", 2)], [], 100)
    assert [one.file.key for one in plan.merges[0]] == ["two", "three", "new"]
    assert [one.key for one in plan.kept] == ["ten"]


def test_a_revised_file_is_rewritten_whatever_its_size_and_others_are_not() -> None:
    touched, other = file("touched", 90, 1, 9), file("other", 90, 10, 19)
    plan = planned([touched, other], [], [(9, 9)], 100)
    assert plan.kept == [other]
    assert plan.merges == [[Planned(touched, outdated=True)]]


def test_rows_are_written_again_seldom() -> None:
    """A thousand days of equal parts: each byte is written about ten times, and the files stay few."""
    held: list[CatalogFile] = []
    written = 0
    for day in range(1000):
        plan = planned(held, [file(f"part-{day}-{at}", 1) for at in range(4)], [], 1 << 20)
        sizes = [sum(one.file.size_bytes for one in group) for group in plan.merges]
        written += sum(sizes)
        held = [*plan.kept, *(file(f"merged-{day}-{at}", size) for at, size in enumerate(sizes))]
    assert sum(one.size_bytes for one in held) == 4000
    assert len(held) <= 12
    assert written <= 4000 * 11


def test_merged_files_are_sorted_bounded_and_say_what_they_hold(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_module, "ROW_GROUP_ROWS", 1000)
    monkeypatch.setattr(merge_module, "_BATCH_ROWS", 1000)
    for first in range(1, 31):
        lake.commit(first, [random.Random(first * 1000 + at).random() for at in range(300)])
    lake.announce()
    lake.compact(file_bytes=60_000)
    files = lake.files()
    assert len(files) > 1
    series: list[str] = []
    for one in files:
        found = pq.read_table(lake.folder / one.key)
        assert (one.rows, one.size_bytes) == (len(found), (lake.folder / one.key).stat().st_size)
        assert (one.first, one.last) == (min(found["seq"].to_pylist()), max(found["seq"].to_pylist()))
        assert (one.lowest["series"], one.highest["series"]) == (
            found["series"][0].as_py(),
            found["series"][-1].as_py(),
        )
        series += found["series"].to_pylist()
        assert one.size_bytes < 120_000
    assert series == sorted(series)
    lake.check()


def test_a_merged_file_has_the_schema_of_the_table(lake: Lake) -> None:
    lake.commit(1, [1.0])
    lake.commit(2, [1.0])
    lake.announce()
    parts = {part.split("/")[2]: part for part in lake.public.list("lake/v1/") if keys.parse_part(part)}
    lake.compact()
    for table in ("measurements", "runs"):
        [merged_file] = lake.files(table)
        assert keys.parse_merged(merged_file.key)
        assert pq.read_schema(lake.folder / merged_file.key) == pq.read_schema(lake.folder / parts[table])


def test_equal_rows_keep_their_order_and_a_missing_column_is_null(tmp_path: Path) -> None:
    def write(name: str, rows: list[dict[str, Any]], without: list[str]) -> Input:
        table = pa.Table.from_pylist(rows, schema=TABLES["tests"]).drop_columns(without)
        pq.write_table(table, tmp_path / name)
        return Input(tmp_path / name)

    later = write("z", [{"seq": 2, "run": "r", "test": "b"}, {"seq": 2, "run": "r", "test": "a"}], [])
    earlier = write("a", [{"seq": 2, "run": "r", "test": "c"}, {"seq": 1, "run": "r", "test": "x"}], ["extra"])
    [made] = merge("tests", [later, earlier], [], tmp_path, memory_limit="100MB")
    rows = pq.read_table(made.path).to_pylist()
    assert [row["test"] for row in rows] == ["x", "b", "a", "c"]
    assert {row["extra"] for row in rows} == {None}


def test_a_column_of_a_newer_release_is_never_dropped_in_silence(tmp_path: Path) -> None:
    table = pa.table({"seq": [1], "run": ["r"], "novel": [1]})
    pq.write_table(table, tmp_path / "a")
    with pytest.raises(Refused, match="novel"):
        next(merge("tests", [Input(tmp_path / "a")], [], tmp_path, memory_limit="100MB"))


def test_merging_more_than_fits_into_memory_makes_more_files_and_loses_nothing(lake: Lake) -> None:
    """Samples of 17 MB in all are too large for 30 MB of memory: what is too large together is merged in halves."""
    samples = [n / 7 for n in range(3000)]
    for first in range(1, 8):
        lake.commit(first, [float(at) for at in range(100)], samples=samples)
    lake.announce()
    lake.compact(memory_limit="30MB")
    assert len(lake.files()) > 1
    assert any(keys.parse_merged(file.key) for file in lake.files())
    assert sum(file.rows for file in lake.files()) == 700
    lake.check()


# --- the stranger's engine ---


def test_the_files_alone_are_the_lake_as_of_the_catalog_in_duckdb(lake: Lake) -> None:
    for first in range(1, 4):
        lake.commit(first, [float(first)])
    lake.announce()
    lake.compact()
    before = lake.expected("measurements")
    lake.commit(1, [9.0])
    lake.announce()
    files, _, _ = LIVE(lake.public.read, "measurements")
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT seq, value FROM read_parquet(?) ORDER BY seq", [[str(lake.folder / key) for key in files]]
        ).fetchall()
    assert found == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert before.total() == 3
