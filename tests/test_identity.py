"""Identities are published: the same facts give the same name for ever, however it is computed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import identity
from schemas.canonical import canonical_encoder
from schemas.records import Machine

FACTS = {
    "project": "demo",
    "benchmark": "json.Decode",
    "params": '{"size":"1kB"}',
    "metric": "time",
    "unit": "ns/op",
    "better": "lower",
    "benchmark_version": "2",
    "environment": "0123456789abcdef01234567",
}
STRANGE = {
    "project": "démo",
    "benchmark": 'a "quoted" \\ name\n\x00\x7f',
    "params": '{"µ":"😀"}',
    "metric": "",
    "unit": "µs",
    "better": "",
    "benchmark_version": "",
    "environment": "",
}
ANY_TEXT = st.text(st.characters(exclude_categories=()))  # halves of characters too
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
)


@pytest.mark.parametrize(
    ("facts", "digest"),
    [
        (FACTS, "027e462cfa933b37e3eff643"),
        (STRANGE, "dcf4b9e1c752be76e4c97f1f"),
        ({**STRANGE, "benchmark": "half \ud83d"}, "83654ebeee7ab846b9a7d27a"),
    ],
)
def test_a_series_keeps_its_id(facts: dict[str, str], digest: str) -> None:
    assert identity.series_id(**facts) == digest


def test_runs_and_environments_keep_their_ids() -> None:
    machine = Machine(cpu="Example CPU", cores=8, os="Debian 12", runtime="CPython 3.12")
    assert identity.run_id("ab" * 32, 3) == "ed52db993847e2af258e128c"
    assert identity.chunked_run_id("demo", "group-1", 0) == "af765b4dc0370dd7a22c1a18"
    assert identity.environment_id("büro", Machine()) == "307d750d7d6d3a11baf23d9a"
    assert identity.environment_id("", machine) == "acfb753b036261b49a0d6203"


@given(st.lists(ANY_TEXT, min_size=8, max_size=8))
def test_a_series_id_is_the_digest_of_its_facts_as_json(facts: list[str]) -> None:
    assert identity.series_id(**dict(zip(FACTS, facts, strict=True))) == identity.digest24("series", *facts)


@given(JSON_VALUES, st.booleans())
def test_canonical_text_is_what_json_itself_writes(value: Any, ensure_ascii: bool) -> None:
    expected = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=ensure_ascii)
    assert canonical_encoder(ensure_ascii=ensure_ascii)(value) == expected


def test_canonical_text_is_the_same_without_an_encoder_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"b": [1, 2.5, None], "a": {"é": 1e-05}}
    quick = canonical_encoder(ensure_ascii=False)(value)
    monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    assert canonical_encoder(ensure_ascii=False)(value) == quick == '{"a":{"é":1e-05},"b":[1,2.5,null]}'
