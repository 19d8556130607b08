"""Rebuild: replay the submissions log into a new lake version while the old one serves, compare, switch.

The new version has its own batches (larger, of whole commits), outcomes log and checkpoint. A rebuild that died goes on
where it was. Dashboards load the new version by themselves once `lake/current.json` names it.

The way back is the same: a version that has served before gets the outcomes that it lacks, then serves again. Its
batches are single commits, as the dispatcher cut them, since a worker may still have one of them.
"""

import bisect
import contextlib
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

import duckdb

from feed.announceable import describe_outcome
from feed.announcer import Announcer
from feed.log import LogReader
from feed.signing import Signer
from infra.bucket import Bucket, Buckets
from processor.batch import Processor
from processor.dispatcher import read_checkpoint, write_checkpoint
from processor.lake import current_lake, done_through, outcomes, read_current_lake, serve_lake
from processor.transform import TRANSFORM_VERSION
from schemas import keys
from schemas.errors import SwapLost
from schemas.records import Entry, Outcome, SubmissionOutcome
from schemas.tables import TABLES

BATCH_ENTRIES = 1000
BATCH_BYTES = 8 << 20

_LOOKS = 3
_NESTED = {"labels", "samples", "known_intermittent", "commit_parents"}

Progress = Callable[[int, int], None]
"""Called with the seq done and the seq to reach."""


@dataclass
class Comparison:
    """What differs between two lake versions over the submissions that both have processed."""

    compared: int = 0
    left_out: int = 0
    """Submissions from the first on that the old version has not processed yet."""
    withdrawn: int = 0
    """Submissions that are withdrawn in a version, and so are not compared."""
    same_transform: bool = True
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Per table: rows only in the old version, rows only in the new."""
    verdicts: list[str] = field(default_factory=list)
    """A line per submission whose verdict or counts differ."""

    @property
    def equal(self) -> bool:
        return not self.verdicts and not any(old or new for old, new in self.rows.values())


class Rebuild:
    """One rebuild, of a new version or of the `version` given. `replay` may be called again until it returns 0; then
    `compare`, then `switch`.
    """

    def __init__(
        self,
        buckets: Buckets,
        reader_of: Callable[[str], LogReader],
        processor: Processor,
        *,
        clock: Callable[[], datetime],
        version: int | None = None,
    ) -> None:
        self._buckets = buckets
        self._submissions = reader_of(keys.SUBMISSIONS_LOG)
        self._processor = processor
        self._served, self._etag = read_current_lake(buckets.public)
        self.old_version = self._served.version
        self.new_version = version or self._version_to_go_on_with()
        has_served = self.new_version < self.old_version or read_checkpoint(buckets.private, self.new_version) > 0
        self._commits_together = not has_served
        self._lasts = _lasts(buckets.public, self.new_version)
        self._firsts = sorted(self._lasts)
        self.done = 0
        self._skip_done()
        self._began = self.done + 1
        log = reader_of(keys.outcomes_log(self.new_version))
        self._announcer = Announcer(buckets, log, describe_outcome, clock=clock, signer=Signer.of(buckets.private))

    def replay(self, progress: Progress) -> int:
        """Process what the log holds now beyond `done`; the number of batches that was. What arrives meanwhile waits
        for the next call, or, after the switch, for the dispatcher.

        SwapLost if another rebuild has switched meanwhile: from then on others write to the lake.
        """
        count = 0
        target = self._submissions.last_seq()
        while self.done < target and (batch := self._next_batch()):
            if current_lake(self._buckets.public)[0] != self.old_version:
                raise SwapLost(f"{keys.CURRENT_LAKE}: expected v{self.old_version}, another rebuild has switched")
            first, last = batch[0].seq, batch[-1].seq
            # Only the first batch may be one at which an earlier rebuild died.
            self._processor.process(self.new_version, first, last, redelivered=first == self._began)
            self._announcer.commit()
            # A rebuild beside this one may have cut the batch elsewhere; what is written counts.
            self.done = done_through(self._buckets.public, self.new_version, first)
            self._skip_done()
            count += 1
            progress(self.done, self._submissions.last_seq())
        while self._announcer.commit():
            pass
        return count

    def compare(self) -> Comparison:
        """Old against new, over what both have, but for submissions that either knows to be withdrawn."""
        for _ in range(_LOOKS - 1):
            with contextlib.suppress(FileNotFoundError):  # parts that have just gone, since something was withdrawn
                return self._compared()
        return self._compared()

    def _compared(self) -> Comparison:
        old, new = ({one.first: one for one in outcomes(self._buckets.public, version)} for version in self._versions)
        old_by_seq, new_by_seq = (
            {one.seq: one for outcome in of.values() for one in outcome.submissions} for of in (old, new)
        )
        last = min(_through(old.values()), _through(new.values()))
        seqs = [seq for seq in old_by_seq.keys() & new_by_seq.keys() if seq <= last]
        withdrawn = [seq for seq in seqs if "withdrawn" in (old_by_seq[seq].verdict, new_by_seq[seq].verdict)]
        both = sorted({*seqs}.difference(withdrawn))
        left_out = sum(seq > last for seq in new_by_seq)
        comparison = Comparison(compared=len(both), left_out=left_out, withdrawn=len(withdrawn))
        versions = {outcome.transform_version for outcome in (*old.values(), *new.values())}
        comparison.same_transform = len(versions) <= 1
        for seq in both:
            if _facts(old_by_seq[seq]) != _facts(new_by_seq[seq]):
                comparison.verdicts.append(f"{seq}: {_summary(old_by_seq[seq])} -> {_summary(new_by_seq[seq])}")
        for table in TABLES:
            difference = self._row_difference(table, list(old.values()), list(new.values()), last, withdrawn)
            comparison.rows[table] = difference
        return comparison

    def switch(self) -> None:
        """Let the new version serve; SwapLost if another rebuild was faster."""
        write_checkpoint(self._buckets.private, self.new_version, self.done)
        serve_lake(self._buckets.public, self.new_version, self._served, self._etag)

    def _version_to_go_on_with(self) -> int:
        """The version to build: an unfinished one of this transform, or a new one."""
        version = self.old_version + 1
        while True:
            made = outcomes(self._buckets.public, version)
            if all(outcome.transform_version == TRANSFORM_VERSION for outcome in made):
                return version
            version += 1

    def _skip_done(self) -> None:
        """Move `done` over the batches that have been there from the beginning."""
        while last := self._lasts.get(self.done + 1):
            self.done = last

    def _next_batch(self) -> list[Entry]:
        """Whole commits from `done` on, within the bounds; a commit beyond them is a batch of its own."""
        entries = self._submissions.entries_after(self.done, BATCH_ENTRIES)
        following = bisect.bisect_right(self._firsts, self.done)
        if following < len(self._firsts):  # a batch that an earlier version's workers finished out of order
            entries = [entry for entry in entries if entry.seq < self._firsts[following]]
        commits = [list(of_batch) for _, of_batch in groupby(entries, key=lambda entry: entry.batch)]
        if len(commits) > 1 and commits[-1][-1].seq < self._submissions.last_seq():
            commits.pop()  # the listing may have cut it
        batch: list[Entry] = []
        for commit in commits:
            together = sum(entry.size_bytes for entry in batch + commit) <= BATCH_BYTES and self._commits_together
            if batch and not together:
                break
            batch += commit
        return batch

    @property
    def _versions(self) -> tuple[int, int]:
        return self.old_version, self.new_version

    def _row_difference(
        self, table: str, old: list[Outcome], new: list[Outcome], last: int, withdrawn: list[int]
    ) -> tuple[int, int]:
        with contextlib.ExitStack() as files:
            overflow = files.enter_context(tempfile.TemporaryDirectory(prefix="runfeed-compare-"))
            connection = files.enter_context(
                duckdb.connect(config={"memory_limit": "400MB", "threads": 2, "temp_directory": overflow})
            )
            connection.register("no_rows", TABLES[table].empty_table())

            def rows(outcomes: list[Outcome]) -> str:
                paths = [
                    str(files.enter_context(self._buckets.public.local_path(part.key)))
                    for outcome in outcomes
                    for part in outcome.parts
                    if part.table == table
                ]
                listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
                columns = ", ".join(_comparable(name) for name in TABLES[table].names)
                source = "no_rows"  # has all columns: parts of an earlier release may lack the newest
                if paths:
                    source = f"(FROM no_rows UNION ALL BY NAME FROM read_parquet([{listed}], union_by_name = true))"
                return (
                    f"SELECT {columns} FROM {source} WHERE seq <= {last} AND seq NOT IN (SELECT unnest($out::BIGINT[]))"
                )

            def only(left: str, right: str) -> int:
                query = f"SELECT count(*) FROM ({left} EXCEPT ALL {right})"
                row = connection.execute(query, {"out": withdrawn}).fetchone()
                return int(row[0]) if row else 0

            before, after = rows(old), rows(new)
            return only(before, after), only(after, before)


def _comparable(column: str) -> str:
    """Lists and maps compare as text, so that every table can be a set of rows."""
    return f'"{column}"::VARCHAR' if column in _NESTED else f'"{column}"'


def _lasts(public: Bucket, lake_version: int) -> dict[int, int]:
    """The last seq of each batch that has an outcome, by its first."""
    return {outcome.first: outcome.last for outcome in outcomes(public, lake_version)}


def _through(made: Iterable[Outcome]) -> int:
    """The last seq before the first gap."""
    last = 0
    for outcome in sorted(made, key=lambda one: one.first):
        if outcome.first > last + 1:
            break
        last = max(last, outcome.last)
    return last


def _facts(outcome: SubmissionOutcome) -> tuple[object, ...]:
    return (outcome.verdict, outcome.format, outcome.runs, outcome.measurements, outcome.tests, outcome.problems_total)


def _summary(outcome: SubmissionOutcome) -> str:
    return (
        f"{outcome.verdict} {outcome.format or '-'} ({outcome.runs} runs, {outcome.measurements} measurements, "
        f"{outcome.tests} tests, {outcome.problems_total} problems)"
    )
