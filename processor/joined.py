"""What came of a big file's slices as what came of the file: one run, one outcome. Pure."""

import io
from collections import Counter
from collections.abc import Sequence

import msgspec
import pyarrow.parquet as pq

from processor.part import Part, make_parts
from processor.tables import MAX_PROBLEMS, MAX_UNREAD_NAMES, OTHER_NAMES
from processor.task import TABLES_OF_RUN, Done
from schemas.records import Problem, SubmissionOutcome
from schemas.tables import TABLES


def joined(slices: Sequence[Done], array: str) -> Done:
    """The slices' outcomes as one, and the part of their run; the other parts stay as they are and are not repeated.

    What a slice says of the document around its elements, each says, so it is heard once. Places of elements count on
    from slice to slice.
    """
    outcomes = [outcome for done in slices for outcome in done.outcomes]
    elements = [count for done in slices for count in done.elements]
    accepted = all(outcome.verdict == "accepted" for outcome in outcomes)
    of_elements = f"/{array}/"
    problems = list(outcomes[0].problems)
    total = outcomes[0].problems_total
    unread = Counter(outcomes[0].unread)
    before = elements[0]
    for count, outcome in zip(elements[1:], outcomes[1:], strict=True):
        new = [one for one in outcome.problems if one.where.startswith(of_elements) or one not in problems]
        problems += [_moved(problem, of_elements, before) for problem in new]
        total += outcome.problems_total - (len(outcome.problems) - len(new))
        of_slice = {
            name: times for name, times in outcome.unread.items() if name.startswith((of_elements, OTHER_NAMES))
        }
        unread.update(of_slice)
        before += count
    if len(problems) > MAX_PROBLEMS:
        problems.sort(key=lambda problem: problem.effect == "kept")  # no kept one hides why the run was refused
    outcome = msgspec.structs.replace(
        outcomes[0],
        verdict="accepted" if accepted else "rejected",
        problems=problems[:MAX_PROBLEMS],
        problems_total=total,
        runs=outcomes[0].runs if accepted else 0,
        measurements=_sum(outcomes, "measurements") if accepted else 0,
        tests=_sum(outcomes, "tests") if accepted else 0,
        unread=dict(sorted(_few(unread).items())) if accepted else {},
    )
    return Done(outcomes=[outcome], parts=_parts_of_run(slices) if accepted else [])


def refuses_around(done: Done, array: str) -> bool:
    """Whether a slice was refused for what is none of its elements: where that is in the file, only the file tells."""
    problems = (problem for outcome in done.outcomes for problem in outcome.problems)
    return any(one.effect == "refused" and not one.where.startswith(f"/{array}/") for one in problems)


def _few(unread: Counter[str]) -> Counter[str]:
    """As many names as a loss report may have; the rarest of the others are counted together."""
    kept = Counter(dict(unread.most_common(MAX_UNREAD_NAMES)))
    if others := unread.total() - kept.total():
        kept[OTHER_NAMES] += others
    return kept


def _moved(problem: Problem, beginning: str, by: int) -> Problem:
    index, _, rest = problem.where.removeprefix(beginning).partition("/")
    where = f"{beginning}{int(index) + by}" + (f"/{rest}" if rest else "") if index.isdecimal() else problem.where
    return msgspec.structs.replace(problem, where=where)


def _sum(outcomes: Sequence[SubmissionOutcome], name: str) -> int:
    return sum(getattr(outcome, name) for outcome in outcomes)


def _parts_of_run(slices: Sequence[Done]) -> list[Part]:
    """The first slice's run with the counts of all slices, and its chunk."""
    of_first = {part.table: part for part in slices[0].parts if part.table in TABLES_OF_RUN}
    row = pq.read_table(io.BytesIO(of_first.pop("runs").body))
    for name in slices[0].counts:
        total = sum(done.counts[name] for done in slices)
        row = row.set_column(row.schema.get_field_index(name), name, [[total]])
    return [*make_parts({"runs": row.cast(TABLES["runs"]).to_batches()}), *of_first.values()]
