"""JSON with a schema of its own: registering a benchmark, pushing results of it, reading them, and hostile schemas."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.benchmark_cli import parse_metric, parse_param
from ingest.benchmarks import add_benchmark, make_benchmark, newest_version, resolved_format
from ingest.projects import add_project
from processor.batch import Processor
from processor.benchmarks import read_benchmark
from processor.children import Children
from processor.formats.own_schema import MAX_DOCUMENT_BYTES
from processor.reading.decode import DecodeLimits
from processor.transform import Transformed
from processor.validation import MAX_LISTED_WORK, MAX_WORK
from runfeed import cli
from schemas import keys
from schemas.errors import Refused, Rejected
from schemas.own_schema import MAX_SCHEMA_BYTES, MAX_WEIGHT, parse_schema, survey, validator_of
from schemas.pointers import found_at, parse_pointer, render_pointer
from schemas.records import Benchmark
from tests.chain import Chain, load, rows
from tests.golden import benchmark_of, rows_of, transformed
from tests.test_corpus import CORPUS

NOW = datetime(2026, 5, 1, tzinfo=UTC)
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
TIME = {"type": "object", "properties": {"time": {"runfeed": {"metric": "time", "unit": "s", "better": "lower"}}}}


def made(schema: Any = TIME, metrics: tuple[str, ...] = (), params: tuple[str, ...] = (), **others: Any) -> Benchmark:
    """A benchmark as the command would make it."""
    return make_benchmark(
        "b",
        json.dumps(schema).encode(),
        metrics=[parse_metric(text) for text in metrics],
        params=[parse_param(text) for text in params],
        now=NOW,
        **others,
    )


def read(document: Any, benchmark: Benchmark) -> Transformed:
    return transformed(json.dumps(document).encode(), benchmark=benchmark)


def measured(document: Any, benchmark: Benchmark) -> list[dict[str, Any]]:
    result = read(document, benchmark)
    assert (result.outcome.verdict, result.outcome.problems) == ("accepted", [])
    return rows_of(result, "measurements")


def problems(document: Any, benchmark: Benchmark) -> list[str]:
    return [str(problem) for problem in read(document, benchmark).outcome.problems]


def refusal(act: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        act()
    assert caught.value.status == 422
    return caught.value


# --- from the command to the row ---


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    chain = Chain(tmp_path / "data")
    add_project(chain.buckets, "p", chain.now)
    return chain


@pytest.fixture
def run(chain: Chain, tmp_path: Path) -> Callable[..., Result]:
    """`runfeed benchmark …` on the chain's data; a schema given as an object is written to a file."""

    def run(command: str, *arguments: str, schema: Any = None) -> Result:
        if schema is not None:
            path = tmp_path / "schema.json"
            path.write_text(json.dumps(schema))
            arguments = (*arguments, "--schema", str(path))
        return CliRunner().invoke(cli, ["benchmark", command, *arguments, "--data", str(chain.data)])

    return run


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device here")
def test_a_schema_without_an_end_is_refused(run: Callable[..., Result]) -> None:
    result = run("add", "p", "speed", "--schema", "/dev/zero")
    assert isinstance(result.exception, Refused)
    assert "at most" in str(result.exception)


def test_a_schema_may_name_numbers_that_no_machine_word_holds(chain: Chain, run: Callable[..., Result]) -> None:
    """Results are handed to child processes together with the schema."""
    time = {"type": "number", "maximum": 10**30, "runfeed": {"metric": "time"}}
    assert "Version 1 is there" in run("add", "p", "speed", schema={"properties": {"time": time}}).output
    chain.push(b'{"time": 1}', format="benchmark:speed")
    with Children(1, 1 << 30) as children:
        chain.processor = Processor(chain.buckets, chain.submissions, children, DecodeLimits(), chain.clock)
        batch = chain.announce()
        assert chain.process(batch)
    assert chain.verdicts(batch[0]) == ["accepted"]


def test_a_result_is_validated_with_its_benchmark_from_push_to_dashboard(
    chain: Chain, run: Callable[..., Result]
) -> None:
    """A registered benchmark, a result that fits it, one that does not: a row, and every reason."""
    schema = TIME | {"required": ["time"], "additionalProperties": False}
    assert "Version 1 is there" in run("add", "p", "speed", schema=schema).output
    chain.push(b'{"time": 0.25}', format="benchmark:speed")
    chain.push(b'{"tim": 0.25}', format="benchmark:speed@1")
    batch = chain.announce()
    assert chain.process(batch)
    assert chain.announce_outcomes() == 1
    good, bad = chain.outcome(batch[0]).submissions
    assert (good.verdict, good.format, good.measurements) == ("accepted", "benchmark", 1)
    assert bad.verdict == "rejected"
    assert {str(problem) for problem in bad.problems} == {
        "/: expected a field 'time', found none",
        "/: expected no other fields, found 'tim'",
    }
    with chain.dashboard() as dashboard:
        load(dashboard)
        sql = "SELECT benchmark, metric, value, unit, better, benchmark_version FROM measurements"
        assert rows(dashboard, sql) == [("speed", "time", 0.25, "s", "lower", "1")]


def test_a_submission_keeps_the_version_that_was_the_newest_when_it_came(
    chain: Chain, run: Callable[..., Result]
) -> None:
    run("add", "p", "speed", schema=TIME)
    early = chain.push(b'{"time": 1}', format="benchmark:speed")
    run("add", "p", "speed", schema=TIME | {"required": ["more"]})
    late = chain.push(b'{"time": 1}', format="benchmark:speed")
    formats = [json.loads(chain.public.read(keys.submission(id)))["format"] for id in (early, late)]
    assert formats == ["benchmark:speed@1", "benchmark:speed@2"]
    batch = chain.announce()
    chain.process(batch)
    assert chain.verdicts(batch[0]) == ["accepted", "rejected"]


def test_the_same_content_again_makes_no_version_and_another_makes_the_next(
    chain: Chain, run: Callable[..., Result]
) -> None:
    assert "Version 1 is there." in run("add", "p", "speed", schema=TIME).output
    again = {name: TIME[name] for name in reversed(TIME)}
    assert "Version 1 was there already" in run("add", "p", "speed", schema=again).output
    assert "Version 2 is there." in run("add", "p", "speed", "--tag", "2", schema=TIME).output
    assert list(chain.public.list("benchmarks/")) == [f"benchmarks/p/speed/{n:06d}.json" for n in (1, 2)]
    assert list(chain.private.list("benchmarks/")) == []


def test_two_that_add_at_once_get_a_version_each(chain: Chain) -> None:
    add_benchmark(chain.buckets.public, "p", made())
    other = made(title="other")

    def meanwhile(verb: str, key: str) -> None:
        if verb == "create":
            chain.public.before = lambda verb, key: None
            add_benchmark(chain.buckets.public, "p", made(title="faster"))

    chain.public.before = meanwhile
    assert add_benchmark(chain.buckets.public, "p", other)[0].version == 3
    assert newest_version(chain.buckets.public, "p", "b") == 3


def test_list_and_show_say_what_is_registered(run: Callable[..., Result]) -> None:
    options = ("--metric", "/score=score,unit=points,better=higher", "--title", "A title", "--param", "/size")
    run("add", "p", "speed", *options, schema=TIME)
    assert "speed" in run("list", "p").output
    shown = run("show", "p", "speed").output
    for text in ("A title", "/score (points, higher is better)", "/time (s, lower is better)", "/size"):
        assert text in shown
    assert msgspec.json.decode(run("show", "p", "speed", "--json").output, type=Benchmark).schema == TIME


def test_a_metric_that_the_schema_only_suggests_is_a_hint(run: Callable[..., Result]) -> None:
    schema = {"properties": {"score": {"suggestToUser": True}, "time": TIME["properties"]["time"]}}  # type: ignore[index]
    assert "hint: the schema suggests /score" in run("add", "p", "speed", schema=schema).output
    without = run("add", "p", "other", schema={"properties": {"score": {"suggestToUser": True}}})
    assert "the schema suggests /score" in str(without.exception)


@pytest.mark.parametrize("command", [("add", "nobody", "b"), ("show", "p", "nothing")])
def test_an_unknown_project_or_benchmark_is_said(run: Callable[..., Result], command: tuple[str, ...]) -> None:
    result = run(*command, schema=TIME if command[0] == "add" else None)
    assert isinstance(result.exception, Refused)
    assert result.exception.status == 404


# --- admission ---


def test_a_name_that_the_project_does_not_have_is_refused_with_those_it_has(chain: Chain) -> None:
    public = chain.buckets.public
    assert "p has none" in refusal(lambda: resolved_format(public, "p", "benchmark:x")).found
    add_benchmark(public, "p", made())
    assert refusal(lambda: chain.push(b"{}", format="benchmark:x")).expected == "a benchmark of p: b"
    assert refusal(lambda: resolved_format(public, "p", "benchmark:b@2")).expected == "version 1 to 1 of b"
    assert list(chain.public.list("blobs/")) == []
    assert list(chain.private.list("pending/")) == []


@pytest.mark.parametrize(
    "format",
    ["benchmark:", "benchmark:B", "benchmark:a/b", "benchmark:..", "benchmark:a@0", "benchmark:a@x", "benchmark:a@1 "],
)
def test_a_name_out_of_form_is_refused_before_any_key_is_built(chain: Chain, format: str) -> None:
    def anything(verb: str, key: str) -> None:
        raise AssertionError(f"{verb} {key}")

    chain.public.before = anything
    assert refusal(lambda: resolved_format(chain.buckets.public, "p", format)).where == "format"


def test_other_formats_are_left_as_they_are(chain: Chain) -> None:
    assert [resolved_format(chain.buckets.public, "p", one) for one in ("auto", "junit")] == ["auto", "junit"]


def test_push_names_a_benchmark_in_words_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text("{}")
    shown = CliRunner().invoke(cli, ["push", str(file), "--benchmark", "speed", "--dry-run", "--json"])
    assert '"format":"benchmark:speed"' in shown.stdout.replace(" ", "")
    for options in (["--benchmark", "a/b"], ["--benchmark", "a", "--format", "junit"]):
        assert CliRunner().invoke(cli, ["push", str(file), *options, "--dry-run"]).exit_code == 2


def test_a_benchmark_that_is_gone_rejects_its_results(chain: Chain) -> None:
    public = chain.buckets.public
    assert read_benchmark(public, "p", "auto") is None
    for format in ("benchmark:b@1", "benchmark:b", "benchmark:../x@1"):
        with pytest.raises(Rejected):
            read_benchmark(public, "p", format)


def test_results_without_a_benchmark_are_rejected() -> None:
    (problem,) = transformed(b"{}", "benchmark").outcome.problems
    assert "--benchmark" in problem.expected


# --- what may be registered ---


@pytest.mark.parametrize(
    ("metric", "where"),
    [
        ("score=score", "--metric"),
        ("/score", "--metric"),
        ("/score=", "--metric"),
        ("/score=s,unit", "--metric"),
        ("/score=s,colour=red", "--metric"),
        ("/score=s,better=more", "--metric better"),
        ("/~2=s", "metric s"),
        ("/a=s,samples=b", "metric s samples"),
        ("/a=s,samples=/*/b", "metric s samples"),
        ("/a=s,unit=" + "u" * 50, "metric s unit"),
        ("/a" * 40 + "=s", "metric s"),
        ("/a=" + "s" * 300, "metric"),
    ],
)
def test_a_metric_out_of_form_is_refused_by_name(metric: str, where: str) -> None:
    assert refusal(lambda: made({}, (metric,))).where == where


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"metrics": ("/a=time", "/b=time")}, "metric time"),
        ({"params": ("/a=p", "/b=p")}, "param p"),
        ({"execution_time": "/*/at"}, "execution time"),
        ({"execution_time": "at"}, "execution time"),
        ({"title": "a\nb"}, "title"),
        ({"url": "x" * 5000}, "url"),
    ],
)
def test_a_benchmark_out_of_form_is_refused_by_name(options: dict[str, Any], where: str) -> None:
    assert refusal(lambda: made(**options)).where == where


@pytest.mark.parametrize(
    "value", [{}, {"metric": "a", "param": "b"}, {"metric": 3}, {"metric": "a", "colour": 1}, "time"]
)
def test_a_keyword_that_declares_nothing_is_refused(value: Any) -> None:
    assert "runfeed" in refusal(lambda: made({"properties": {"a": {"runfeed": value}}})).where


def test_the_keyword_declares_where_it_stands_also_in_lists_maps_and_references() -> None:
    one = {"metric": "m"}
    schema = {
        "properties": {
            "list": {"items": {"properties": {"a/b": {"runfeed": one | {"metric": "1"}}}}},
            "map": {"additionalProperties": {"$ref": "#/definitions/x"}},
            "same": {"allOf": [{"properties": {"y": {"runfeed": {"param": "y"}}}}]},
        },
        "definitions": {"x": {"properties": {"z": {"runfeed": one | {"metric": "2"}}}}},
    }
    benchmark = made(schema)
    assert [metric.path for metric in benchmark.metrics] == ["/list/*/a~1b", "/map/*/z"]
    assert [param.path for param in benchmark.params] == ["/same/y"]


def test_what_the_command_says_of_a_path_replaces_what_the_schema_says() -> None:
    (metric,) = made(TIME, ("/time=duration,unit=ms",)).metrics
    assert (metric.metric, metric.unit) == ("duration", "ms")


# --- hostile schemas ---


def bomb(levels: int, keyword: str = "allOf") -> dict[str, Any]:
    """A schema of `levels` definitions, each twice the one before: 2 ** levels when written out."""
    definitions: dict[str, Any] = {
        f"d{level}": {keyword: [{"$ref": f"#/definitions/d{level + 1}"}] * 2} for level in range(levels)
    }
    return {"$ref": "#/definitions/d0", "definitions": {**definitions, f"d{levels}": {"type": "integer"}}}


def unevaluated(levels: int) -> dict[str, Any]:
    if not levels:
        return {"type": "object"}
    return {"allOf": [unevaluated(levels - 1)], "unevaluatedProperties": False, "properties": {f"a{levels}": True}}


def nested(levels: int) -> dict[str, Any]:
    return {"properties": {"a": nested(levels - 1)}} if levels else {"type": "integer"}


@pytest.mark.parametrize(
    ("schema", "where", "expected"),
    [
        ({"$ref": "http://127.0.0.1:1/schema"}, "/$ref", "within the schema"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "/properties/a/$ref", "within the schema"),
        ({"items": {"$ref": "other.json"}}, "/items/$ref", "within the schema"),
        ({"$ref": "#/definitions/none"}, "/$ref", "a schema at that place"),
        ({"$schema": "http://127.0.0.1:1/meta"}, "/$schema", "one of"),
        ({"$schema": DRAFT_2020, "$dynamicRef": "#a"}, "/$dynamicRef", "$ref only"),
        ({"items": {"$id": "http://127.0.0.1:1/x", "$ref": "#/y"}}, "/items", "no $id"),
        ({"pattern": "(?=a)b"}, "/pattern", "linear time"),
        ({"pattern": r"(a)\1"}, "/pattern", "linear time"),
        ({"pattern": "((a{1000}){1000}){1000}"}, "/pattern", "linear time"),
        (bomb(30), "/$ref", f"at most {MAX_WEIGHT:,}"),
        (bomb(30, "anyOf"), "/$ref", f"at most {MAX_WEIGHT:,}"),
        (bomb(200), "/$ref", "levels"),
        ({"$schema": DRAFT_2020} | unevaluated(20), "/allOf", f"at most {MAX_WEIGHT:,}"),
        ({"$ref": "#"}, "/$ref", "recursion"),
        ({"items": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}, "/items/allOf/1/$ref", "recursion"),
        ({"items": {"$ref": "#"}, "anyOf": [{"items": {"$ref": "#"}}]}, "/items/$ref", "recursion"),
        ({"properties": {"a": {"$ref": "#"}}, "patternProperties": {"b": {"$ref": "#"}}}, "/", "recursion"),
        (nested(150), "/properties/a", "levels"),
        ({"enum": list(range(60_000))}, "/", f"at most {MAX_SCHEMA_BYTES:,} bytes"),
        ({"enum": [0] * 60_000}, "/", f"at most {MAX_WEIGHT:,}"),
        ({"type": "number!"}, "/type", "a valid JSON Schema"),
        ({"properties": 3}, "/properties", "a valid JSON Schema"),
        ([], "/", "a JSON object"),
        (True, "/", "a JSON object"),
    ],
)  # fmt: skip
def test_a_schema_that_could_fetch_or_hang_is_refused_with_its_place(schema: Any, where: str, expected: str) -> None:
    error = refusal(lambda: parse_schema(json.dumps(schema).encode()))
    assert error.where.startswith("schema")
    assert expected in error.expected
    assert where in error.where or error.where == "schema"


def test_text_that_is_no_json_is_no_schema() -> None:
    for text in (b"", b"{", b'{"a": NaN}', b"\xff", b"[" * 100_000):
        refusal(lambda text=text: parse_schema(text))


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}},
        {"anyOf": [{"type": "number"}, {"items": {"$ref": "#"}}, {"additionalProperties": {"$ref": "#"}}]},
        {"$ref": "#/definitions/a", "definitions": {"a": {"items": {"$ref": "#/definitions/a"}}}},
        {"$schema": DRAFT_2020, "unevaluatedProperties": False, "allOf": [{"properties": {"a": {"$ref": "#"}}}]},
    ],
)
def test_a_tree_may_be_recursive_and_is_validated_in_proportion_to_its_depth(schema: dict[str, Any]) -> None:
    """100 levels: whoever looks twice at each would not end."""
    validator = validator_of(parse_schema(json.dumps(schema).encode()))
    tree: Any = "bad" if "anyOf" in schema else 1
    for key in ("left", "a") * 50:
        tree = {key: tree}
    assert sum(1 for _ in validator.iter_errors(tree)) <= 100


def test_a_pattern_that_hangs_others_is_validated_in_linear_time() -> None:
    validator = validator_of(parse_schema(b'{"pattern": "^(a+)+$"}'))
    assert not validator.is_valid("a" * 1_000_000 + "!")


def test_weight_counts_references_written_out() -> None:
    weights = [survey(bomb(levels)).weight for levels in (4, 5, 6)]
    assert weights[2] - weights[1] > weights[1] - weights[0] > 16


# --- large results ---


def test_a_result_too_large_to_list_all_its_violations_tells_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = made({"items": {"type": "integer"}}, ("/0=m",))
    wrong = ["x"] * 200
    assert len(problems(wrong, benchmark)) == 100
    weight = survey(benchmark.schema).weight
    monkeypatch.setattr("processor.validation.MAX_LISTED_WORK", weight * 300)
    assert problems(wrong, benchmark) == ["/0: expected integer, found 'x'"]
    monkeypatch.setattr("processor.validation.MAX_LISTED_WORK", weight * 100)
    assert problems(wrong, benchmark) == [
        "/: expected what the schema says, found something else, somewhere in a very large result"
    ]
    assert measured([1, 2], benchmark)[0]["value"] == 1


def test_a_result_too_large_for_its_schema_is_not_looked_at() -> None:
    schema = {"properties": {"a": {"items": {"enum": [0] * 40_000}}}}
    values = MAX_WORK // 40_000
    (problem,) = problems({"a": [1] * values}, made(schema, ("/b=m",)))
    assert "small enough for its schema" in problem
    assert values * 40_000 > MAX_LISTED_WORK
    assert "at most" in problems(" " * MAX_DOCUMENT_BYTES, made())[0]


# --- rows ---


def test_params_and_the_tag_make_the_identity_and_a_new_schema_with_the_tag_does_not() -> None:
    schema = TIME | {"properties": TIME["properties"] | {"size": {"runfeed": {"param": "size"}}}}  # type: ignore[operator]
    tagged = made(schema, tag="1.2")

    def series(document: Any, benchmark: Benchmark) -> str:
        return str(measured(document, benchmark)[0]["series"])

    same = series({"time": 1, "size": 10, "note": "a"}, tagged)
    assert series({"time": 2, "size": 10, "note": "b"}, msgspec.structs.replace(tagged, version=2)) == same
    assert series({"time": 1, "size": 20}, tagged) != same
    assert series({"time": 1, "size": 10}, made(schema, tag="1.3")) != same
    untagged = made(schema)
    assert series({"time": 1, "size": 10}, untagged) != series(
        {"time": 1, "size": 10}, msgspec.structs.replace(untagged, version=2)
    )


def test_every_element_is_told_apart_by_its_param_or_else_by_its_key() -> None:
    document = {
        "suites": [{"name": "a", "cases": {"x": {"t": 1}, "y": {"t": 2}}}, {"name": "b", "cases": {"x": {"t": 3}}}]
    }
    by_name = made({}, ("/suites/*/cases/*/t=t",), ("/suites/*/name=suite",))
    assert [json.loads(one["params"]) for one in measured(document, by_name)] == [
        {"suite": "a", "cases": "x"},
        {"suite": "a", "cases": "y"},
        {"suite": "b", "cases": "x"},
    ]
    by_index = made({}, ("/suites/*/cases/*/t=t",))
    assert [json.loads(one["params"])["suites"] for one in measured(document, by_index)] == ["0", "0", "1"]


def test_samples_of_each_element_are_its_own() -> None:
    benchmark = made({}, ("/runs/*/mean=time,samples=/runs/*/times",))
    rows = measured({"runs": [{"mean": 2, "times": [1, 3]}, {"mean": 5, "times": "4:6"}]}, benchmark)
    assert [(one["value"], one["samples"], one["n"]) for one in rows] == [(2, [1, 3], 2), (5, [4, 6], 2)]


@pytest.mark.parametrize(
    ("value", "median"),
    [([3, 1, 2.5], 2.5), ("54.623:54.514:54.626", 54.623), ("7", 7), ([1], 1), (5, 5), ("1e3 : -2", 499)],
)
def test_a_value_is_a_number_or_samples_with_their_median(value: Any, median: float) -> None:
    (row,) = measured({"time": value}, made())
    assert row["value"] == median
    assert (row["samples"] is None) == (value == 5)


@pytest.mark.parametrize(
    "value",
    [True, "fast", "1:fast", "", ":", "1::2", [], [1, "2"], [True], {}, {"a": 1}, [10**400], "1e999:1", "-:-", 10**400],
)
def test_a_value_that_is_no_number_refuses_the_run(value: Any) -> None:
    outcome = read({"time": value}, made()).outcome
    assert outcome.verdict == "rejected"
    assert [problem.where for problem in outcome.problems] == ["/time"]


@pytest.mark.parametrize("document", [{}, {"time": None}, [], "x", 3, None])
def test_a_metric_that_the_schema_lets_be_absent_is_flagged(document: Any) -> None:
    outcome = read(document, made({}, ("/time=time",))).outcome
    assert (outcome.verdict, outcome.measurements) == ("accepted", 0)
    assert [problem.effect for problem in outcome.problems] == ["kept"]


def test_a_param_that_is_absent_is_flagged_and_one_that_is_a_list_is_its_json() -> None:
    benchmark = made(TIME, (), ("/args",))
    assert problems({"time": 1}, benchmark) == ["/args: expected a value of param args, found none"]
    assert json.loads(measured({"time": 1, "args": ["-O2", 3]}, benchmark)[0]["params"]) == {"args": '["-O2",3]'}
    assert "at most 4,096 characters" in problems({"time": 1, "args": "x" * 5000}, benchmark)[0]


@pytest.mark.parametrize("at", ["2026-05-01T10:00:00Z", 1777629600, 1777629600000])
def test_the_execution_time_is_when_it_ran(at: Any) -> None:
    (row,) = rows_of(read({"time": 1, "meta": {"at": at}}, made(execution_time="/meta/at")), "runs")
    assert row["started"] == datetime(2026, 5, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("at", [None, "soon", 12.5, True, [], 10**400, -5])
def test_a_result_without_its_execution_time_is_refused(at: Any) -> None:
    outcome = read({"time": 1, "meta": {"at": at}}, made(execution_time="/meta/at")).outcome
    assert outcome.verdict == "rejected"
    assert [problem.where for problem in outcome.problems] == ["/meta/at"]


def test_what_is_no_measurement_is_kept_beside_the_first_and_persons_and_secrets_are_not() -> None:
    document = {"time": 1, "note": "n", "empty": "", "deep": {"Token": "t", "list": [1, {"user": "u"}]}}
    result = read(document, made())
    assert json.loads(rows_of(result, "measurements")[0]["extra"]) == {"note": "n", "deep": {"list": [1, {}]}}
    assert result.outcome.unread == {"/deep/Token": 1, "/deep/list/*/user": 1}


def test_too_much_to_be_kept_is_counted_by_name() -> None:
    result = read({"time": 1, "log": [{"line": "x" * 1000}] * 100}, made())
    assert rows_of(result, "measurements")[0]["extra"] is None
    assert result.outcome.unread == {"/log/*/line": 100}


@pytest.mark.parametrize("path", ["machine/cpu", "cpu", "machine", "specs"])
def test_the_machine_is_where_py_cpuinfo_was_put(path: str) -> None:
    document: Any = {"brand_raw": "Example CPU 9", "count": 24}
    for step in reversed(path.split("/")):
        document = {step: document}
    (row,) = rows_of(read({"time": 1} | document, made()), "runs")
    assert (row["cpu"], row["cores"]) == ("Example CPU 9", 24)
    assert json.loads(row["machine"])


@pytest.mark.parametrize(
    "machine", [3, [], {"cpu": {"brand_raw": 5, "count": "many"}}, {"cpu": {"brand_raw": "x", "count": 2**70}}]
)
def test_a_strange_machine_costs_nothing(machine: Any) -> None:
    assert len(measured({"time": 1, "machine": machine}, made())) == 1


def test_what_nests_too_deep_is_a_named_problem() -> None:
    for levels in (100, 300, 400, 500, 700, 900, 980, 5000):
        text = b'{"time": 1, "x": ' + b"[" * levels + b"]" * levels + b"}"
        outcome = transformed(text, benchmark=made()).outcome
        assert outcome.verdict == "accepted" or "nesting" in outcome.problems[0].expected


# --- EOSC-Perf ---


def corpus(pattern: str) -> list[Any]:
    if not CORPUS.is_dir():
        return [pytest.param(Path(), marks=pytest.mark.skip(reason=f"no corpus beside the project at {CORPUS}"))]
    return [pytest.param(path, id=path.name) for path in sorted((CORPUS / "eosc-perf").glob(pattern))]


def c_ray() -> Benchmark:
    schema = next((CORPUS / "eosc-perf").glob("026__*")).read_bytes()
    metric = parse_metric("/result/score=score,unit=s,better=lower,samples=/result/all_results")
    return make_benchmark("c-ray", schema, metrics=[metric], params=[parse_param("/arguments")], tag="1.2.0", now=NOW)


@pytest.mark.parametrize("path", [*corpus("0*__eosc-c-ray-*.json"), *corpus("0*__eosc-result-*.json")])
def test_real_results_of_eosc_perf_pass_with_all_their_samples(path: Path) -> None:
    result = transformed(path.read_bytes(), benchmark=c_ray())
    assert (result.outcome.verdict, result.outcome.problems, result.outcome.unread) == ("accepted", [], {})
    document = json.loads(path.read_bytes())
    (row,) = rows_of(result, "measurements")
    assert row["value"] == document["result"]["score"]
    assert ":".join(map(str, row["samples"])) == document["result"]["all_results"]
    (run,) = rows_of(result, "runs")
    cpu = document["machine"]["cpu"]
    assert (run["cpu"], run["cores"]) == (cpu["brand_raw"].strip(), cpu["count"])


@pytest.mark.parametrize("path", corpus("0*__eosc-hist-*-result*.json"))
def test_results_of_another_layout_are_rejected_with_every_field_that_is_missing(path: Path) -> None:
    outcome = transformed(path.read_bytes(), benchmark=c_ray()).outcome
    assert outcome.verdict == "rejected"
    assert "/: expected a field 'result', found none" in map(str, outcome.problems)
    assert "/: expected a field 'machine', found none" in map(str, outcome.problems)


@pytest.mark.parametrize("path", corpus("022__*.json"))
def test_a_broken_result_lists_all_its_violations(path: Path) -> None:
    document = json.loads(path.read_bytes())
    document["result"] = {"score": "fast"}
    document["arguments"] = 4
    del document["machine"]["cpu"]["count"]
    del document["test"]
    assert sorted(problems(document, c_ray())) == [
        "/: expected a field 'test', found none",
        "/arguments: expected 'Total Time - 4K, 16 Rays Per Pixel', found 4",
        "/machine/cpu: expected a field 'count', found none",
        "/result/score: expected number, found 'fast'",
        "/result: expected a field 'all_results', found none",
    ]  # fmt: skip


# --- anything ---

_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from([10**400, 2**70, 1e308, "1:2", "", "*"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["time", "runs", "machine", "cpu", "brand_raw", "count", "*", "a/b", "user"]), inner
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(_values)
def test_any_json_gives_tables_or_named_problems(document: Any) -> None:
    benchmark = made(
        {}, ("/time=time,samples=/runs", "/runs/*/time=runs", "/*/*=every"), ("/runs/*/count=count", "/machine=machine")
    )
    for one in (benchmark, benchmark_of("benchmark")):
        assert one is not None
        outcome = read(document, one).outcome
        msgspec.json.encode(outcome)
        assert outcome.verdict in ("accepted", "rejected")
        assert all(problem.where and problem.expected and problem.found for problem in outcome.problems)
        assert outcome.verdict == "accepted" or outcome.problems


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=5))
def test_a_pointer_survives_writing_and_reading(steps: list[str]) -> None:
    text = render_pointer(steps) if steps else ""
    assert list(parse_pointer(text, "")) == steps


def test_a_pointer_finds_every_element_in_order() -> None:
    document = {"a": [{"t": 1}, {"u": 2}, {"t": 3}], "b": {"x": 4}}
    assert list(found_at(document, ("a", "*", "t"))) == [(("a", "0", "t"), 1), (("a", "2", "t"), 3)]
    assert list(found_at(document, ("a", "*", "t"), ("2",))) == [(("a", "2", "t"), 3)]
    assert list(found_at(document, ("a", "01"))) == list(found_at(document, ("b", "x", "y"))) == []
