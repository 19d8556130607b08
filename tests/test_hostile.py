"""Files made to hurt: each ends as a verdict with named problems, soon, in bounded memory, never as an exception.

The format is left to be found and also declared, since a declared format skips the look at the file's shape.
"""

import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from processor.formats.registry import FORMATS
from processor.reading.decode import DecodeLimits
from processor.reading.shape import shape_of
from processor.tables import MAX_PROBLEMS
from processor.transform import Transformed, transform
from schemas.records import SubmissionOutcome
from tests.golden import FOLDER, make_submission, pairs, rows_of, transformed

DECLARED = ("auto", *FORMATS)
SMALL = DecodeLimits(max_decoded_bytes=1 << 20, max_ratio=20, ratio_free_bytes=1 << 16)
PLAIN = b'{"test": "a", "status": "pass"}'
DEPTH = 100_000


def outcome_of(data: bytes, format: str = "auto", limits: DecodeLimits | None = None) -> SubmissionOutcome:
    result = transform(data, make_submission(format), 7, limits or DecodeLimits())
    assert isinstance(result, Transformed)
    assert (result.tables is not None) == (result.outcome.verdict == "accepted")
    return result.outcome


def rejected(data: bytes, format: str = "auto", limits: DecodeLimits | None = None) -> str:
    """The reason, as text, for which `data` is rejected; one at least is a refusal and says where."""
    outcome = outcome_of(data, format, limits)
    assert outcome.verdict == "rejected"
    assert any(problem.effect == "refused" for problem in outcome.problems)
    assert all(problem.where and problem.expected and problem.found for problem in outcome.problems)
    assert (outcome.runs, outcome.tests, outcome.measurements) == (0, 0, 0)
    return "; ".join(map(str, outcome.problems))


def wptreport_with(result: str) -> bytes:
    return ('{"run_info": {"product": "x"}, "results": [' + result + "]}").encode("utf-8", "surrogatepass")


# --- not a result at all ---


@pytest.mark.parametrize("format", DECLARED)
def test_an_empty_file_is_rejected(format: str) -> None:
    assert "0 bytes" in rejected(b"", format)
    assert "0 bytes" in rejected(gzip.compress(b""), format)
    assert "0 bytes" in rejected(zstandard.compress(b""), format)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"hello", "text that starts 'hello'"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "text that starts"),
        (b'{"some": "JSON", "of": "nobody"}', "JSON object with keys of, some"),
        (b'["results"]', "JSON array"),
        (b"[]", "JSON array"),
        (b"{}", "JSON object"),
        (b"5", "text that starts '5'"),
        (b"<html><body/></html>", "XML with root element 'html'"),
        (b"<!-- never closed", "XML with root element ''"),
        (b" \n\t ", "text that starts"),
        (b"\xef\xbb\xbf", "text that starts ''"),
    ],
)
def test_an_unknown_format_is_rejected_by_what_it_looks_like(data: bytes, found: str) -> None:
    reason = rejected(data)
    assert "one of the formats" in reason
    assert found in reason


def test_an_undeclared_format_id_is_rejected() -> None:
    assert "'../../etc'" in rejected(PLAIN, "../../etc")


@pytest.mark.parametrize(
    "data", [b'{"run_info": ', b'{"run_info": {}, "results": [}', b'{"a": 1,}', b"{'a': 1}", b'{"a": tru}', b"{]"]
)
def test_json_that_is_none_is_rejected_with_the_place(data: bytes) -> None:
    for format in ("auto", "wptreport"):
        assert "well-formed JSON" in rejected(data, format)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_bare_constants_are_rejected_where_the_format_has_none(constant: str) -> None:
    data = wptreport_with(f'{{"test": "/a", "status": "OK", "duration": {constant}}}')
    for format in ("auto", "wptreport"):
        assert "well-formed JSON" in rejected(data, format)
    native = f'{{"benchmark": "a", "metric": "time", "value": {constant}}}'.encode()
    assert "well-formed JSON" in rejected(native, "runfeed")


# --- compression ---


def test_a_truncated_gzip_is_rejected() -> None:
    whole = gzip.compress(PLAIN * 1000)
    for length in (3, 10, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        assert "a whole gzip stream" in rejected(whole[:length])


def test_a_truncated_zstd_is_rejected() -> None:
    whole = zstandard.compress(b"".join(bytes([n % 251]) * 7 for n in range(9999)))
    for length in (5, len(whole) // 2, len(whole) - 1):
        assert "a whole zstd stream" in rejected(whole[:length])


def test_a_damaged_stream_is_rejected() -> None:
    for compress, name in ((gzip.compress, "gzip"), (zstandard.compress, "zstd")):
        whole = compress(bytes(range(256)) * 64 + PLAIN)
        for at in (4, 12, len(whole) // 2, len(whole) - 6):
            damaged = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
            if outcome_of(damaged).verdict == "rejected":
                assert name in rejected(damaged) or "one of the formats" in rejected(damaged)
        assert f"a whole {name} stream" in rejected(whole[:4] + b"\xff" * 50)
        assert f"a whole {name} stream" in rejected(whole + b"garbage")


def zeros_gzip(size: int) -> bytes:
    """`size` zeros as gzip, made without holding them."""
    compressor = zlib.compressobj(6, wbits=31)
    piece = bytes(1 << 20)
    return b"".join([*(compressor.compress(piece) for _ in range(size >> 20)), compressor.flush()])


def zeros_zstd(size: int) -> bytes:
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    piece = bytes(1 << 20)
    return b"".join([*(compressor.compress(piece) for _ in range(size >> 20)), compressor.flush()])


@pytest.mark.parametrize("bomb", [zeros_gzip, zeros_zstd])
@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        (DecodeLimits(max_decoded_bytes=8 << 20, max_ratio=1_000_000), 8 << 20),
        (DecodeLimits(max_decoded_bytes=1 << 40, max_ratio=8, ratio_free_bytes=8 << 20), 8 << 20),
    ],
    ids=["size", "ratio"],
)
def test_a_bomb_stops_at_its_limit(bomb: Callable[[int], bytes], limits: DecodeLimits, allowed: int) -> None:
    """256 MiB of zeros are given up at 8 MiB: soon, and without holding much more than that."""
    data = bomb(1 << 28)
    tracemalloc.start()
    began = time.process_time()
    try:
        reason = rejected(data, limits=limits)
        took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert f"more than {allowed:,} bytes" in reason
    assert took < 2
    assert peak < 6 * allowed


def test_a_plain_file_above_the_limit_is_rejected() -> None:
    assert "at most 1,048,576 bytes" in rejected(b" " * (1 << 20) + PLAIN, limits=SMALL)


def test_small_files_may_compress_well() -> None:
    data = json.dumps([{"test": "a", "status": "pass"}] * 1000).encode()
    assert len(data) > SMALL.max_ratio * len(gzip.compress(data))
    for packed in (gzip.compress(data), zstandard.compress(data)):
        assert outcome_of(packed, limits=SMALL).tests == 1000


def test_compression_inside_compression_is_rejected() -> None:
    for outer in (gzip.compress, zstandard.compress):
        for inner, name in ((gzip.compress, "gzip"), (zstandard.compress, "zstd")):
            assert f"{name} inside" in rejected(outer(inner(PLAIN)))


def test_the_bytes_decide_what_is_compressed_not_the_name() -> None:
    """A submission has no file name to believe in; all that its media type says is ignored too."""
    submission = make_submission()
    for encoding in ("identity", "gzip", "zstd"):
        for data in (PLAIN, gzip.compress(PLAIN), zstandard.compress(PLAIN)):
            blob = type(submission.blob)(
                sha256="b" * 64, size_bytes=len(data), media_type="application/gzip", encoding=encoding
            )
            lying = type(submission)(id="a" * 64, nonce="0" * 32, project="p", blob=blob, received=submission.received)
            assert transform(data, lying, 7, DecodeLimits()).outcome.tests == 1


# --- JSON ---


@pytest.mark.parametrize("format", DECLARED)
@pytest.mark.parametrize(
    "data",
    [
        b"[" * DEPTH,
        b"[" * DEPTH + b"]" * DEPTH,
        b'{"a":' * DEPTH + b"1" + b"}" * DEPTH,
        b'{"run_info": {}, "results": ' + b"[" * DEPTH + b"]" * DEPTH + b"}",
        b'[{"test": "a", "status": "pass", "message": ' + b"[" * DEPTH + b"]" * DEPTH + b"}]",
        b"[NaN, " + b"[" * DEPTH + b"]" * DEPTH + b"]",
    ],
    ids=["open", "arrays", "objects", "results", "value", "after NaN"],
)
def test_json_nested_100_000_deep_is_rejected(data: bytes, format: str) -> None:
    rejected(data, format)


def test_deep_nesting_is_named() -> None:
    assert "nesting" in rejected(b"[" * DEPTH + b"]" * DEPTH)
    assert "nesting" in rejected(wptreport_with('{"test": ' + "[" * DEPTH + "]" * DEPTH + "}"), "wptreport")


@pytest.mark.parametrize("digits", [30, 400, 4_000, 5_000, 100_000])
def test_an_integer_of_any_length_is_no_crash(digits: int) -> None:
    number = "9" * digits
    duration = outcome_of(wptreport_with(f'{{"test": "/a", "status": "OK", "duration": {number}}}'))
    assert duration.verdict == ("accepted" if digits < 5_000 else "rejected")
    assert digits == 30 or duration.problems
    for value in (f'{{"run_info": {{"bits": {number}}}, "results": []}}', f'{{"run_info": {number}, "results": []}}'):
        outcome_of(value.encode())
    assert "out of range" in rejected(
        f'{{"benchmark": "a", "metric": "m", "value": {"9" * max(digits, 400)}}}'.encode(), "runfeed"
    )


@pytest.mark.parametrize("place", ["name", "status", "message"])
def test_bytes_that_are_no_utf_8_refuse_the_run(place: str) -> None:
    fields = {"name": '"s"', "status": '"PASS"', "message": '"m"'}
    fields[place] = '"a\udcff"'
    subtest = ", ".join(f'"{name}": {value}' for name, value in fields.items())
    data = wptreport_with(f'{{"test": "/a", "status": "OK", "subtests": [{{{subtest}}}]}}')
    data = data.replace("\udcff".encode("utf-8", "surrogatepass"), b"\xff")
    assert b"\xff" in data
    for format in ("auto", "wptreport"):
        reason = rejected(data, format)
        assert "/results/0: expected UTF-8, found byte 0xff" in reason


def test_half_a_character_is_mended_and_flagged() -> None:
    result = transformed(wptreport_with(r'{"test": "/\ud83d.html", "status": "OK", "message": "\\ud83d \ud83d\ude00"}'))
    (row,) = rows_of(result, "tests")
    assert (row["test"], row["message"]) == ("/\ufffd.html", "\\ud83d \N{GRINNING FACE}")
    (problem,) = result.outcome.problems
    assert (problem.effect, problem.expected) == ("kept", "whole characters")
    assert "lone surrogates, 1" in problem.found
    raw = '{"test": "/\ud83d", "status": "OK"}'
    assert "UTF-8" in rejected(wptreport_with(raw)), "as bytes, half a character is no UTF-8"


def test_half_a_character_and_nan_do_not_hide_the_format() -> None:
    for text in (r'{"some": ["\ud83d"], "test": 1, "status": 2}', '{"test": NaN, "status": 2}'):
        assert {"test", "status"} <= shape_of(text.encode()).keys.keys()
        assert shape_of(f"{text}\n{text}\n".encode()).kind == "lines"


@pytest.mark.parametrize(
    "test", ["/../../x", "../../../etc/passwd", "C:\\x", "/a\0b", "file:///etc/passwd", "a\nb", "."]
)
def test_a_path_like_id_is_just_an_id(test: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    native = transformed(json.dumps({"test": test, "status": "pass"}).encode())
    assert [row["test"] for row in rows_of(native, "tests")] == [test]
    wpt = transformed(wptreport_with(json.dumps({"test": test, "status": "PASS"})))
    (row,) = rows_of(wpt, "tests")
    assert row["test"].removeprefix(":") == test
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "data",
    [
        b'{"test": "a", "status": "brilliant"}',
        wptreport_with('{"test": "a", "status": "brilliant"}'),
        b'<testsuite><testcase name="a" status="brilliant"/></testsuite>',
    ],
    ids=["runfeed", "wptreport", "junit"],
)
def test_an_unknown_status_is_kept_and_flagged_and_never_a_pass(data: bytes) -> None:
    result = transformed(data)
    (row,) = rows_of(result, "tests")
    assert (row["status"], row["status_text"]) == ("unknown", "brilliant")
    assert [problem.effect for problem in result.outcome.problems] == ["kept"]
    assert "brilliant" in result.outcome.problems[0].found
    assert rows_of(result, "runs")[0]["passed"] == 0


def test_nul_and_control_characters_reach_parquet_and_duckdb_unchanged(tmp_path: Path) -> None:
    texts = ["a\0b", "\0", "\x1b[31mred\x1b[0m", "\u202e\ufeff\U0010ffff", "x" * 200_000, "'; DROP TABLE tests; --"]
    results = [
        {"test": text, "status": "FAIL", "message": text, "subtests": [{"name": text, "status": "PASS"}]}
        for text in texts
    ]
    result = transformed(json.dumps({"run_info": {"product": "a\0b"}, "results": results}).encode())
    assert result.tables is not None
    part = tmp_path / "tests.parquet"
    pq.write_table(pa.Table.from_batches(result.tables.batches["tests"]), part, compression="zstd")
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE tests AS FROM read_parquet(?)", [str(part)])
        rows = connection.execute("SELECT test, subtest, message FROM tests ORDER BY rowid").fetchall()
    assert rows == [row for text in texts for row in ((text, None, text), (text, text, None))]


def test_duplicate_keys_are_no_error() -> None:
    data = wptreport_with('{"test": "/a", "test": "/b", "status": "OK", "status": "PASS"}')
    assert [(row["test"], row["status"]) for row in rows_of(transformed(data), "tests")] == [("/b", "pass")]


def test_a_refusal_is_named_behind_any_number_of_flags() -> None:
    odd = ", ".join('{"test": "/a", "status": "odd"}' for _ in range(MAX_PROBLEMS + 50))
    outcome = outcome_of(wptreport_with(odd + ', {"status": "OK"}, {"status": "OK"}'))
    assert outcome.verdict == "rejected"
    assert (len(outcome.problems), outcome.problems_total) == (MAX_PROBLEMS, MAX_PROBLEMS + 52)
    assert sorted(problem.effect for problem in outcome.problems) == ["kept"] * (MAX_PROBLEMS - 2) + ["refused"] * 2
    many = b"<testsuite>" + b'<testcase name="a" status="odd"/>' * 200
    assert "well-formed XML" in rejected(many)


def test_many_refusals_are_listed_up_to_a_bound_and_counted() -> None:
    outcome = outcome_of(wptreport_with(", ".join(["{}"] * 10_000)))
    assert (outcome.verdict, len(outcome.problems), outcome.problems_total) == ("rejected", MAX_PROBLEMS, 10_000)


# --- XML ---

LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE testsuite [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True))
    + ']><testsuite name="&j;"><testcase name="&j;">&j;</testcase></testsuite>'
)


def test_a_billion_laughs_are_rejected_at_once() -> None:
    began = time.process_time()
    for format in ("auto", "junit"):
        assert "without a document type" in rejected(LAUGHS.encode(), format)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE testsuite [<!ENTITY x SYSTEM "{url}">]>',
        '<!DOCTYPE testsuite [<!ENTITY % p SYSTEM "{url}"> %p;]>',
        '<!DOCTYPE testsuite SYSTEM "{url}">',
        '<!DOCTYPE testsuite PUBLIC "x" "{url}" [<!ENTITY x SYSTEM "{url}">]>',
        "<!DOCTYPE testsuite>",
    ],
)
def test_no_file_is_read_through_xml(doctype: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("s3cret")
    xml = doctype.replace("{url}", secret.as_uri()) + '<testsuite><testcase name="&x;">&x;</testcase></testsuite>'
    for data in (xml.encode(), ('<?xml version="1.0" encoding="utf-16"?>' + xml).encode("utf-16")):
        for format in ("auto", "junit"):
            reason = rejected(data, format)
            assert "without a document type" in reason
            assert "s3cret" not in reason


def test_an_entity_that_nobody_declared_is_rejected() -> None:
    assert "Entity 'x' not defined" in rejected(b"<testsuite>&x;</testsuite>")


def test_xinclude_is_only_an_element() -> None:
    data = (
        b'<testsuite xmlns:xi="http://www.w3.org/2001/XInclude"><testcase name="a"><failure>'
        b'<xi:include href="file:///etc/passwd" parse="text"/></failure></testcase></testsuite>'
    )
    assert [row["message"] for row in rows_of(transformed(data), "tests")] == [None]


@pytest.mark.parametrize("tag", ["testsuite", "testcase", "failure", "x"])
def test_xml_nested_100_000_deep_is_rejected(tag: str) -> None:
    inside = f"<{tag}>" * DEPTH
    for xml in (f"<testsuites>{inside}", f"<testsuites>{inside}{f'</{tag}>' * DEPTH}</testsuites>"):
        assert "at most 100 nested elements" in rejected(xml.encode())


@pytest.mark.parametrize(
    "data",
    [
        b"<testsuite>\xff</testsuite>",
        b'<testsuite name="\xff"/>',
        b"<testsuite>&#0;</testsuite>",
        b"<testsuite>\x1b[31m</testsuite>",
        b"<testsuite",
        b"<testsuite/><testsuite/>",
        b"<testsuite/>{}",
        b'<?xml version="1.0" encoding="no-such"?><testsuite/>',
        b'<testsuite name="a" name="b"/>',
        b"<testsuite><testcase></testsuite>",
        "<testsuite name='".encode("utf-16"),
    ],
)
def test_xml_that_is_not_well_formed_is_rejected_with_line_and_column(data: bytes) -> None:
    reason = rejected(data, "junit")
    assert "well-formed XML" in reason
    assert reason.startswith("line ")


@pytest.mark.parametrize("opening", ["<!--", "<?x ", "<!DOCTYPE a [", "<!DOCTYPE ", "<", "<a:", "<!-- --><?x ?>"])
def test_the_look_for_the_root_element_takes_no_time(opening: str) -> None:
    began = time.process_time()
    rejected(("<!-- a -->" + opening * 200_000).encode())
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("prolog", "root"),
    [
        ("", "testsuite"),
        ('<?xml version="1.0"?>\n<!-- <html> -->\n', "testsuite"),
        ("<!DOCTYPE html>", "testsuite"),
        ('<!DOCTYPE html [<!ENTITY a "<b>">]>', "testsuite"),
    ],
)
def test_the_root_element_is_found_behind_what_may_precede_it(prolog: str, root: str) -> None:
    for name in (root, f"ns:{root}"):
        assert shape_of(f"{prolog}<{name} a='1'/>".encode()).root == root
        assert shape_of(f"{prolog}<{name}>".encode("utf-16")).root == root


# --- anything ---

INPUTS = [source.read_bytes() for _, source, _ in pairs()]


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(DECLARED))
@example(b"\x1f\x8b", "auto")
@example(b"\x28\xb5\x2f\xfd", "auto")
@example(b"\xff\xfe", "auto")
def test_any_bytes_give_a_verdict_and_nothing_else(data: bytes, format: str) -> None:
    outcome = outcome_of(data, format)
    assert outcome.verdict == "accepted" or outcome.problems


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_any_damage_to_a_good_file_gives_a_verdict_and_nothing_else(data: st.DataObject) -> None:
    """Bytes of a golden input are cut out, doubled or replaced, by what has meaning in JSON and XML among others."""
    content = data.draw(st.sampled_from(INPUTS))
    at = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, 30))
    put = data.draw(
        st.one_of(
            st.sampled_from(
                [b"", b"null", b"[]", b"{}", b"-1", b"1e999", b'""', b"true", b"NaN", b'"\\ud800"', b"<a>"]
            ),
            st.binary(max_size=8),
            st.just(content[at : at + length] * 2),
        )
    )
    format = data.draw(st.sampled_from(["auto", "auto", *FORMATS]))
    outcome = outcome_of(content[:at] + put + content[at + length :], format)
    assert outcome.verdict == "accepted" or outcome.problems


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_any_value_in_any_place_of_json_gives_a_verdict_and_nothing_else(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(FOLDER.glob("*/*.json"), key=str)))
    if path.name.endswith(".expected.json"):
        return
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        return
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        for key in holder if isinstance(holder, dict) else range(len(holder)):
            places.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    if places:
        holder, key = data.draw(st.sampled_from(places))
        holder[key] = data.draw(JSON_VALUES)
    for format in ("auto", path.parent.name):
        outcome = outcome_of(json.dumps(value).encode(), format)
        assert outcome.verdict == "accepted" or outcome.problems
