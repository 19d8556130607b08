"""Compaction: the many small parts of a lake version as few large sorted files, for readers of the lake.

A step takes the next outcomes of the log into account and commits a catalog that holds them. It merges their small
parts, with those files of the last catalog that are small beside them, so that each row is written again only a few
times in its life, and it rewrites files that hold rows of revised batches. Parts stay where they are.

Whoever dies leaves at most files that no catalog names. They bear the generation that they were made for, so once that
generation is committed, and a week old, those that it does not name can go: nobody can come to name them any more.
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from feed.log import LogReader
from infra.bucket import Bucket
from processor.catalog import Committed, later, newest_catalog, point_to, publish_catalog
from processor.lake import revisions
from processor.merge import FILE_BYTES, Input, Merged, Range, merge, outdated_rows
from schemas import keys
from schemas.errors import Refused, SwapLost, Unavailable
from schemas.records import Catalog, CatalogFile, Entry, PartRef
from schemas.tables import TABLES

OUTCOMES_PER_STEP = 1000

_MERGE_BYTES = 256 << 20  # of files merged at once, so that sorting them needs little memory and disk
_MERGE_FILES = 1000
_LOOKS = 5  # in a row, in which what was to be merged has been removed meanwhile


class Compaction:
    """Of one lake version; any number may work beside each other, one of them gets on. `threads` fetch files."""

    def __init__(
        self,
        public: Bucket,
        outcomes: LogReader,
        lake_version: int,
        *,
        memory_limit: str = "400MB",
        file_bytes: int = FILE_BYTES,
        threads: int = 8,
    ) -> None:
        self._public = public
        self._outcomes = outcomes
        self._lake_version = lake_version
        self._memory_limit = memory_limit
        self._file_bytes = file_bytes
        self._threads = threads

    def step(self) -> int:
        """Commit a catalog that holds the next outcomes; how many those were, 0 when level with the log."""
        last = newest_catalog(self._public, self._lake_version)
        if last.generation:
            point_to(self._public, self._lake_version, last.generation)  # whoever committed it may have died since
        entries = self._outcomes.entries_after(last.through, OUTCOMES_PER_STEP)
        if not entries:
            return 0
        with ThreadPoolExecutor(self._threads, "compaction") as pool:
            change = later(last, filter(None, pool.map(self._committed, entries)))
            tables = {}
            for table in TABLES:
                new = [_as_file(part) for part in change.parts if part.table == table]
                plan = planned(last.tables.get(table, []), new, change.replaced, self._file_bytes)
                tables[table] = self._carried_out(table, plan, change.replaced, last.generation + 1, pool)
        catalog = Catalog(
            version=self._lake_version,
            generation=last.generation + 1,
            through=entries[-1].seq,
            tables=tables,
            revisions=change.revisions,
        )
        publish_catalog(self._public, catalog)  # if another was faster, the next step goes on from there
        return len(entries)

    def _committed(self, entry: Entry) -> Committed | None:
        """The outcome that was announced; None if it is gone, since a withdrawal has made a later one of its batch."""
        try:
            return msgspec.json.decode(self._public.read(entry.key), type=Committed)
        except FileNotFoundError as error:
            _, first, revision = keys.parse_outcome(entry.key) or (0, 0, 0)
            if max(revisions(self._public, self._lake_version, first), default=-1) > revision:
                return None
            raise Unavailable(f"{entry.key}: announced, but not there") from error

    def _carried_out(
        self, table: str, plan: "Plan", replaced: Sequence[Range], generation: int, pool: ThreadPoolExecutor
    ) -> list[CatalogFile]:
        files = list(plan.kept)
        groups = plan.merges[::-1]
        while groups:
            group = groups.pop()
            if len(group) == 1 and not group[0].outdated:
                files.append(group[0].file)
                continue
            try:
                files += self._merged(table, group, replaced, generation, pool)
            except MemoryError:
                if len(group) == 1:
                    raise
                half = len(group) // 2
                groups += [group[half:], group[:half]]
        return files

    def _merged(
        self,
        table: str,
        group: list["Planned"],
        replaced: Sequence[Range],
        generation: int,
        pool: ThreadPoolExecutor,
    ) -> list[CatalogFile]:
        """Files that hold the rows of the group. Refused unless each is there, counted in another way too."""
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runfeed-compact-")))
            paths = list(pool.map(partial(self._fetched, stack), [one.file for one in group]))
            inputs = [Input(path, one.outdated) for path, one in zip(paths, group, strict=True)]
            made = merge(table, inputs, replaced, folder, memory_limit=self._memory_limit, file_bytes=self._file_bytes)
            written = [self._published(table, generation, one) for one in made]
            expected = sum(one.file.rows for one in group) - outdated_rows(inputs, replaced)
        found = sum(file.rows for file in written)
        if found != expected:
            raise Refused(f"merge of {table} from {group[0].file.key} on", f"{expected} rows", f"{found} rows")
        return written

    def _published(self, table: str, generation: int, made: Merged) -> CatalogFile:
        sha256, size_bytes = made.sha256, made.path.stat().st_size
        key = keys.merged(self._lake_version, table, generation, sha256[:16])
        with contextlib.suppress(FileExistsError):  # made by another, or by one who died
            self._public.create(key, made.path)
        made.path.unlink(missing_ok=True)
        return CatalogFile(
            key=key,
            sha256=sha256,
            size_bytes=size_bytes,
            rows=made.rows,
            first=made.first,
            last=made.last,
            lowest=made.lowest,
            highest=made.highest,
        )

    def _fetched(self, open_files: contextlib.ExitStack, file: CatalogFile) -> Path:
        """`file` as a local one, for as long as `open_files`; Refused if it is not what it should be."""
        try:
            path = open_files.enter_context(self._public.local_path(file.key))
        except FileNotFoundError as error:
            raise SwapLost(f"{file.key}: removed meanwhile, as something in it was withdrawn") from error
        with open(path, "rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest != file.sha256:
            raise Refused(file.key, f"bytes of digest {file.sha256}", digest)
        return path


def _as_file(part: PartRef) -> CatalogFile:
    named = keys.parse_part(part.key)
    if named is None:
        raise Refused(part.key, "a part's key", "another")
    return CatalogFile(
        key=part.key,
        sha256=part.sha256,
        size_bytes=part.size_bytes,
        rows=part.rows,
        first=named.first,
        last=named.last,
    )


# --- decisions ---


@dataclass(frozen=True)
class Planned:
    """A file to merge; `outdated` if the last catalog names it and a batch that it may hold has been revised."""

    file: CatalogFile
    outdated: bool = False


@dataclass(frozen=True)
class Plan:
    """What becomes of a table's files: those kept as they are, and groups of those to merge, of at least one."""

    kept: list[CatalogFile] = field(default_factory=list)
    merges: list[list[Planned]] = field(default_factory=list)


def planned(
    held: Sequence[CatalogFile], new: Sequence[CatalogFile], replaced: Sequence[Range], file_bytes: int
) -> Plan:
    """What to do with the files that the last catalog holds and with new parts. Pure.

    Outdated files are rewritten, whatever their size. Parts that are large already stay as they are. A small file of
    the last catalog joins in if it is no larger than all that joined before it: so a row is written again only when the
    file that holds it at least doubles.
    """
    small_bytes = file_bytes // 4
    again = {file.key for file in new}  # a revision may name a part that the one before it named: same rows, same key
    held = [file for file in held if file.key not in again]
    outdated = [any(file.first <= last and first <= file.last for first, last in replaced) for file in held]
    joined = {file.key for file in new if file.size_bytes < small_bytes}
    size = sum(file.size_bytes for file in new if file.key in joined)
    size += sum(file.size_bytes for file, old in zip(held, outdated, strict=True) if old)
    for file in sorted(held, key=lambda file: (file.size_bytes, file.key)):
        if file.size_bytes < small_bytes and file.size_bytes <= size:
            joined.add(file.key)
            size += file.size_bytes
    plan = Plan()
    inputs: list[Planned] = []
    for file, old in [*zip(held, outdated, strict=True), *((file, False) for file in new)]:
        if old or file.key in joined:
            inputs.append(Planned(file, old))
        else:
            plan.kept.append(file)
    plan.merges.extend(_groups(inputs))
    return plan


def _groups(inputs: Iterable[Planned]) -> Iterator[list[Planned]]:
    """In order, each within bounds."""
    group: list[Planned] = []
    size = 0
    for one in inputs:
        if group and (size + one.file.size_bytes > _MERGE_BYTES or len(group) >= _MERGE_FILES):
            yield group
            group, size = [], 0
        group.append(one)
        size += one.file.size_bytes
    if group:
        yield group


# --- all of it ---


def compact(public: Bucket, outcomes: LogReader, lake_version: int, *, memory_limit: str = "400MB") -> int:
    """Bring the catalog level with the outcomes log, in as many steps as it takes; how many outcomes that were."""
    compaction = Compaction(public, outcomes, lake_version, memory_limit=memory_limit)
    count = lost = 0
    while True:
        try:
            done = compaction.step()
        except SwapLost:
            lost += 1
            if lost == _LOOKS:
                raise
            continue
        if not done:
            return count
        count += done
