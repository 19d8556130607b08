"""What the fuzzer (`python -m tests.fuzz`) has found: each input ends as it should, and goes on doing so."""

from datetime import UTC, datetime

import pytest

from ingest.benchmarks import make_benchmark
from schemas.records import Metric, Param
from tests.any_bytes import assert_tables_or_named_problems


@pytest.mark.parametrize("depth", [99, 100, 101])
def test_a_test_case_without_a_suite_that_nests_too_deeply_is_refused_at_a_place(depth: int) -> None:
    data = b"<testcase>" + b"<e>" * depth + b"</e>" * depth + b"</testcase>"
    outcome = assert_tables_or_named_problems(data, "auto").outcome
    assert (outcome.verdict == "rejected") == (depth > 99)
    if outcome.verdict == "rejected":
        assert str(outcome.problems[0]) == "/testcase: expected at most 100 nested elements, found more"


def test_a_message_of_criterion_whose_counts_do_not_match_is_refused_at_a_place() -> None:
    data = b'{"reason":"benchmark-complete","id":"a","unit":"ns","iteration_count":[],"measured_values":[1.0],'
    data += b'"typical":{"estimate":2,"unit":"ns"}}'
    (problem,) = assert_tables_or_named_problems(data, "auto").outcome.problems
    assert problem.where == "/"
    assert problem.found == "1 measured values and 0 iteration counts"


@pytest.mark.parametrize("document", [b'"text"', b"null", b"[true]", b"{}"])
@pytest.mark.parametrize("param", ["", "/a"])
def test_a_metric_that_is_the_whole_document_is_refused_at_a_place(document: bytes, param: str) -> None:
    params = [Param(path=param, name="p")]
    metrics = [Metric(path="", metric="m", samples="/s")]
    benchmark = make_benchmark("b", b"{}", metrics=metrics, params=params, now=datetime(2026, 1, 1, tzinfo=UTC))
    outcome = assert_tables_or_named_problems(document, "auto", benchmark).outcome
    assert "/" in {problem.where for problem in outcome.problems}
