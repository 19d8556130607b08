"""Any bytes, and any mutation of a golden input, give tables or named problems, nothing else: no other exception."""

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processor.formats.registry import FORMATS
from tests.any_bytes import assert_tables_or_named_problems, is_json, json_of, places
from tests.golden import pairs, transformed

MANY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
INPUTS = [(format, path.name, path.read_bytes()) for format, path, _ in pairs() if format in FORMATS]
DECLARED = st.sampled_from(["auto", *FORMATS])


JSON_INPUTS = [(format, json_of(data)) for format, _, data in INPUTS if is_json(json_of(data))]

numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**53 + 1, 2**63, 2**64, 10**400, -(2**63) - 1, 1e308, 5e-324, math.nan, math.inf]),
    st.floats(),
)
texts = st.one_of(
    st.text(st.characters(codec=None), max_size=20),
    st.sampled_from(["", "NaN", "+INF", "\x00", "\ud800", "a/b", "1,234.5", "0001-01-01T00:00:00+23:59", "x" * 70_000]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)


@st.composite
def changed_json(draw: st.DrawFn) -> tuple[str, bytes]:
    """A golden input with a few values replaced, removed, renamed or repeated."""
    format, data = draw(st.sampled_from(JSON_INPUTS))
    document = {"": json.loads(data)}
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(document))
        if not found:
            break
        container, key = found[draw(st.integers(0, len(found) - 1))]
        change = draw(st.sampled_from(["replace", "replace", "remove", "rename", "repeat"]))
        if change == "remove" and container is not document:
            del container[key]
        elif change == "rename" and isinstance(container, dict) and container is not document:
            container[draw(texts)] = container.pop(key)
        elif change == "repeat" and isinstance(container, list):
            container.append(container[key])
        else:
            container[key] = draw(values)
    return format, json.dumps(document[""]).encode()


@st.composite
def changed_bytes(draw: st.DrawFn) -> tuple[str, bytes]:
    """A golden input with a piece of it replaced by other bytes."""
    format, _, data = draw(st.sampled_from(INPUTS))
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + draw(st.sampled_from([0, 1, 20, len(data)])))))
    marks = st.sampled_from([b"", b"NaN", b"null", b"\xff", b'"', b"{", b"]", b"<", b"&a;", b"\\ud800", b"1" * 5000])
    return format, data[:start] + draw(st.one_of(marks, st.binary(max_size=8))) + data[end:]


@MANY
@given(st.one_of(st.binary(max_size=200), values.map(lambda value: json.dumps(value).encode())), DECLARED)
def test_any_bytes_give_tables_or_named_problems(data: bytes, declared: str) -> None:
    assert_tables_or_named_problems(data, declared)


@MANY
@given(changed_bytes(), st.booleans())
def test_an_input_with_other_bytes_in_it_gives_tables_or_named_problems(
    changed: tuple[str, bytes], declared: bool
) -> None:
    format, data = changed
    assert_tables_or_named_problems(data, format if declared else "auto")


@MANY
@given(changed_json(), st.booleans())
def test_an_input_with_other_values_in_it_gives_tables_or_named_problems(
    changed: tuple[str, bytes], declared: bool
) -> None:
    format, data = changed
    assert_tables_or_named_problems(data, format if declared else "auto")


@pytest.mark.parametrize(
    ("format", "data"), [pytest.param(format, data, id=f"{format}/{name}") for format, name, data in INPUTS]
)
@pytest.mark.parametrize("declared", FORMATS)
def test_an_input_declared_as_another_format_gives_tables_or_named_problems(
    format: str, data: bytes, declared: str
) -> None:
    assert_tables_or_named_problems(data, declared)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"machine_info":{},"benchmarks":[{"fullname":"a","stats":{"median":1},"extra_info":', b"}]}"),
        (b'{"benchmarks":[],"machine_info":{"a":', b"}}"),
        (b'{"context":{"a":', b'},"benchmarks":[]}'),
        (b'{"context":{},"benchmarks":[{"name":"a","real_time":1,"x":', b"}]}"),
        (b'{"lastUpdate":1,"entries":{"s":[{"benches":[{"name":"a","value":1,"extra":', b"}]}]}}"),
    ],
)
def test_what_is_nested_too_deep_to_be_kept_is_a_named_problem(before: bytes, after: bytes) -> None:
    """Reading and writing JSON reach their limits at different depths: below 1,000 in Python 3.11, later in others."""
    verdicts = set()
    for levels in (*range(10, 1000, 30), *range(900, 1010), *range(2_000, 12_000, 500), 50_000):
        result = transformed(before + b"[" * levels + b"]" * levels + after)
        verdicts.add(result.outcome.verdict)
        assert result.outcome.verdict == "accepted" or "nesting" in result.outcome.problems[0].expected
    assert verdicts == {"accepted", "rejected"}
