"""The HTTP API: one truth in three representations, 304 before any query, and nothing that a request can break."""

import csv
import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pytest
from litestar import Litestar, get
from litestar.testing import TestClient

from dashboard_api import answers, queries
from dashboard_api.answers import ARROW, CSV, JSON, Answer, AnswerCache
from dashboard_api.api import api_routes, openapi_config
from dashboard_api.database import Database
from infra.web import exception_handlers
from schemas import keys
from schemas.errors import Refused, StorageFull, Unavailable
from schemas.records import Blob, Submission
from tests.loaded import START, Source, add_submission, submission_id

Client = TestClient[Litestar]
HOSTILE = [
    "' OR 1=1 --",
    "\0",
    "a\0b",
    "%",
    "_",
    "\\",
    '"',
    "💥" * 50,
    "\x1b[2J",
    "x" * 5000,
    "=1+1",
    "NaN",
    "[]",
    "-1",
]
LISTS = [
    "projects",
    "runs",
    "runs/in-chunks/chunks",
    "runs/run-1-0/measurements",
    "runs/run-1-0/tests",
    "series",
    "submissions",
]
DOCUMENTED = {
    "runs/in-chunks/chunks": "runs/{run}/chunks",
    "runs/run-1-0/measurements": "runs/{run}/measurements",
    "runs/run-1-0/tests": "runs/{run}/tests",
}


def client_of(source: Any) -> Client:
    app = Litestar(
        api_routes(source, lambda: {"loop": "ok"}),
        openapi_config=openapi_config(),
        exception_handlers=exception_handlers,
        logging_config=None,
    )
    return TestClient(app)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    made = Source(tmp_path)
    add_submission(
        made.current,
        1,
        [
            {
                "commit": "abcdef0",
                "commit_parents": ["p1", "p2"],
                "commit_time": START,
                "commit_subject": 'fix "quotes", commas\r\nand lines',
                "dirty": False,
                "labels": {"os": "linux", "=cmd|' /C calc'!A0": "🎉"},
                "values": [
                    {"benchmark": "b", "value": 0.1, "samples": [0.1, 1e300], "n": 2},
                    {"benchmark": "c", "value": 2.0},
                ],
                "results": [
                    {"test": "t", "status": "fail", "message": "=1+1\0", "known_intermittent": ["PASS"]},
                    {"test": "t", "subtest": "s", "status": "pass", "duration_seconds": 0.25},
                ],
            }
        ],
    )
    for seq in range(2, 6):
        add_submission(made.current, seq, [{"values": {"b": float(seq)}}])
    for seq, chunk in ((-1, (2, 3)), (0, (1, 3))):  # before the others, so that these stay the last received
        add_submission(made.current, seq, [{"run": "in-chunks", "chunk": chunk}], project="chunked")
    add_submission(
        made.current,
        6,
        verdict="rejected",
        problems=[{"where": "/", "expected": "a", "found": "b", "effect": "refused"}],
    )
    yield made
    made.current.close()


@pytest.fixture
def client(source: Source) -> Iterator[Client]:
    with client_of(source) as made:
        yield made


def series_of(client: Client, benchmark: str = "b") -> str:
    [line] = client.get("/api/v1/series", params={"benchmark": benchmark}).json()["items"]
    return str(line["series"])


# --- representations ---


@pytest.mark.parametrize("path", [*LISTS, "runs/run-1-0", "series/{series}/points"])
def test_json_csv_and_arrow_are_the_same_rows(client: Client, path: str) -> None:
    url = "/api/v1/" + path.format(series=series_of(client))
    rows = client.get(url).json()["items"]
    assert rows
    written = client.get(url, headers={"Accept": "text/csv"})
    table = client.get(url, headers={"Accept": "application/vnd.apache.arrow.stream"})
    assert [_from_csv(row, rows[0]) for row in csv.DictReader(io.StringIO(written.text, newline=""))] == rows
    assert [_from_arrow(row) for row in pa.ipc.open_stream(table.content).read_all().to_pylist()] == rows
    assert written.text.count("\r\n") >= len(rows) + 1
    for answer in (written, table):
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"


def _from_csv(row: dict[str, str], like: dict[str, Any]) -> dict[str, Any]:
    """CSV knows text only, and writes null as empty: read each cell as JSON where the JSON answer has no text."""
    return {name: _from_cell(text, like, name) for name, text in row.items()}


def _from_cell(text: str, like: dict[str, Any], name: str) -> Any:
    always_text = {"params", "benchmark_version", "unit", "better"}
    if text == "":
        return "" if name in always_text else None
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(like[name], str) else value


def _from_arrow(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value, name) for name, value in row.items()}


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return dict(value) if name == "labels" else value


def test_a_suffix_asks_for_a_representation_whatever_the_accept_header(client: Client) -> None:
    for suffix, media_type in (("json", JSON), ("csv", CSV), ("arrow", ARROW)):
        answer = client.get(f"/api/v1/runs.{suffix}", headers={"Accept": "text/html"})
        assert answer.headers["content-type"].split(";")[0] == media_type.media_type
    assert client.get("/api/v1/runs/run-1-0/tests.csv").text.startswith("run,seq,test,")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("", JSON),
        ("text/html,application/xhtml+xml,*/*;q=0.8", JSON),
        ("text/*", CSV),
        ("text/csv;q=0.5, application/json;q=0.4", CSV),
        ("application/json;q=0, */*", CSV),
        ("application/vnd.apache.arrow.stream, */*;q=0.1", ARROW),
        ("TEXT/CSV", CSV),
        ("*/*;q=bogus", JSON),
        ("text/html", None),
        ("*/*;q=0", None),
    ],
)
def test_the_accept_header_chooses(accept: str | None, expected: answers.Representation | None) -> None:
    if expected is None:
        with pytest.raises(Refused) as refused:
            answers.chosen(accept, answers.ALL)
        assert refused.value.status == 406
    else:
        assert answers.chosen(accept, answers.ALL) is expected


# --- versions and caches ---


def test_a_known_version_is_answered_without_a_query(
    client: Client, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.get("/api/v1/runs")
    assert first.headers["etag"] == '"v1-6-json"'
    assert first.headers["cache-control"] == "no-cache"
    monkeypatch.setattr(queries, "list_runs", lambda *_: pytest.fail("asked the database"))
    for known in ('"v1-6-json"', 'W/"v1-6-json"', '"old", "v1-6-json"'):
        again = client.get("/api/v1/runs", params={"branch": "main"}, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    monkeypatch.undo()
    assert client.get("/api/v1/runs.csv", headers={"If-None-Match": '"v1-6-json"'}).status_code == 200
    add_submission(source.current, 7, [{}])
    newer = client.get("/api/v1/runs", headers={"If-None-Match": '"v1-6-json"'})
    assert (newer.status_code, newer.headers["etag"]) == (200, '"v1-7-json"')
    assert len(newer.json()["items"]) == len(first.json()["items"]) + 1


def test_only_answers_about_submissions_change_when_one_is_announced(client: Client, source: Source) -> None:
    paths = [*LISTS, "submissions/" + submission_id(1)]
    tags = {path: client.get(f"/api/v1/{path}").headers["etag"] for path in paths}
    add_submission(source.current, 7, verdict=None)
    changed = {path for path in paths if client.get(f"/api/v1/{path}").headers["etag"] != tags[path]}
    assert changed == {"projects", "submissions", "submissions/" + submission_id(1)}


def test_the_same_question_is_asked_once_per_version(
    client: Client, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = queries.list_runs
    monkeypatch.setattr(queries, "list_runs", lambda *given: asked.append(given) or real(*given))
    bodies = [client.get("/api/v1/runs", params={"limit": 2, "branch": "x"}).content for _ in range(3)]
    client.get("/api/v1/runs", params={"branch": "x", "limit": 2})
    assert (len(set(bodies)), len(asked)) == (1, 1)
    client.get("/api/v1/runs", params={"limit": 3})
    add_submission(source.current, 7, [{}])
    client.get("/api/v1/runs", params={"limit": 2, "branch": "x"})
    assert len(asked) == 3


def test_the_cache_stays_within_its_bytes_and_drops_what_was_not_used() -> None:
    cache = AnswerCache(100_000)
    cache.put("huge", Answer(bytes(30_000)))
    assert cache.get("huge") is None, "one answer may not drive out the others"
    for number in range(20):
        cache.put(number, Answer(bytes(9_500)))
        cache.get(0)
        assert cache.size_bytes <= cache.max_bytes
    assert [number for number in range(20) if cache.get(number)] == [0, *range(11, 20)]


def test_every_answer_is_one_version_while_a_writer_commits(client: Client, source: Source) -> None:
    """Each submission brings one run with one measurement; no answer may show a submission without its run."""
    stop = threading.Event()

    def write() -> None:
        seq = 7
        while not stop.is_set():
            add_submission(source.current, seq, [{"values": {"growing": 1.0}}], project="busy")
            seq += 1

    writer = threading.Thread(target=write)
    writer.start()
    versions: set[int] = set()
    try:
        while len(versions) < 6:
            answer = client.get("/api/v1/projects/busy")
            if answer.status_code == 404:
                continue
            project = answer.json()
            seq = int(answer.headers["etag"].split("-")[1])
            versions.add(seq)
            assert project["runs"] == project["measurements"] == project["accepted"] == seq - 6
    finally:
        stop.set()
        writer.join()


# --- paging ---


def test_links_lead_through_the_whole_list_though_it_grows(client: Client, source: Source) -> None:
    url, seqs = "/api/v1/runs?limit=2&duplicates=true", []
    while url:
        answer = client.get(url)
        seqs += [run["seq"] for run in answer.json()["items"]]
        link = answer.headers.get("link", "")
        assert (answer.json()["next"] is None) == (link == "")
        url = link.removeprefix("<").removesuffix('>; rel="next"')
        add_submission(source.current, 100 + len(seqs), [{}])
    assert seqs == [5, 4, 3, 2, 1, -1]


def test_points_lead_from_the_newest_back_to_the_oldest(client: Client) -> None:
    path = f"/api/v1/series/{series_of(client)}/points"
    newest = client.get(path, params={"limit": 2}).json()
    assert [point["seq"] for point in newest["items"]] == [4, 5]
    older = client.get(path, params={"limit": 9, "before": newest["next"]}).json()
    assert ([point["seq"] for point in older["items"]], older["next"]) == ([1, 2, 3], None)


# --- requests that are wrong ---


@pytest.mark.parametrize("path", [*LISTS, "runs/run-1-0", "status", "submissions/" + submission_id(1), "openapi.json"])
def test_an_unknown_parameter_is_refused_by_name(client: Client, path: str) -> None:
    answer = client.get(f"/api/v1/{path}", params={"brnach": "main"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert "'brnach'" in answer.json()["where"]


@pytest.mark.parametrize("limit", ["-1", "0", "1001", "9" * 400, "1.5", "", "ten", "1&limit=2", "\0"])
def test_a_limit_out_of_bounds_is_refused(client: Client, limit: str) -> None:
    answer = client.get(f"/api/v1/runs?limit={quote(limit, safe='&=')}")
    assert answer.status_code == 400
    assert "limit" in answer.json()["where"]


@pytest.mark.parametrize("path", LISTS)
def test_a_cursor_of_nobody_is_refused(client: Client, path: str) -> None:
    name = "before" if path in ("runs", "submissions") else "after"
    deep = "W1tb" * 400
    for cursor in ["", "x", "!!!", "bnVsbA", "W10", "WzFd" * 600, deep, "eyJhIjoxfQ", "WzFlOTksMWU5OV0", *HOSTILE]:
        answer = client.get(f"/api/v1/{path}", params={name: cursor})
        assert answer.status_code == 400, cursor
        assert answer.json()["where"] == name


@pytest.mark.parametrize("path", [*LISTS, "series/{series}/points"])
def test_no_value_of_any_parameter_breaks_a_list(client: Client, path: str) -> None:
    """Each either is refused or only narrows what there is."""
    schema = client.get("/api/v1/openapi.json").json()
    parameters = schema["paths"]["/api/v1/" + DOCUMENTED.get(path, path)]["get"].get("parameters", [])
    url = "/api/v1/" + path.format(series=series_of(client))
    everything = client.get(url).json()["items"]
    for name in [one["name"] for one in parameters if one["in"] == "query"]:
        for value in HOSTILE:
            answer = client.get(url, params={name: value})
            assert answer.status_code in (200, 400), (name, value)
            if answer.status_code == 200:
                assert all(item in everything for item in answer.json()["items"]), (name, value)


@pytest.mark.parametrize("path", ["projects", "runs", "series", "submissions"])
def test_no_name_in_a_path_breaks_anything(client: Client, path: str) -> None:
    for name in [*HOSTILE, "../../etc/passwd", "..", "run-1-0.csv"]:
        for rest in ("", "/measurements", "/points"):
            answer = client.get(f"/api/v1/{path}/{quote(name, safe='')}{rest}")
            assert answer.status_code in (400, 404, 405), (name, rest)
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "since", ["yesterday", "2026-13-01", "2026-01-01T00:00:00 01:00", "0001-01-01T00:00+23:59", "10000-01-01"]
)
def test_a_time_that_is_none_is_refused(client: Client, since: str) -> None:
    for path in ("runs", f"series/{series_of(client)}/points"):
        answer = client.get(f"/api/v1/{path}", params={"since": since})
        assert (answer.status_code, answer.json()["where"]) == (400, "since")


def test_times_may_be_days_and_carry_zones(client: Client) -> None:
    def seqs(**params: str) -> list[int]:
        return [run["seq"] for run in client.get("/api/v1/runs", params=params).json()["items"]]

    assert seqs(since="2026-03-01") == [5, 4, 3, 2, 1]
    assert seqs(since="2026-03-02") == []
    assert seqs(since="2026-03-01T01:04+01:00", until="2026-03-01T00:05:00Z") == [4]


def test_labels_must_all_hold_and_be_pairs(client: Client) -> None:
    def answer(query: str) -> Any:
        return client.get(f"/api/v1/runs?{query}")

    assert len(answer("label=os=linux").json()["items"]) == 1
    assert answer("label=os=linux&label=cc=gcc").json()["items"] == []
    assert [answer(query).status_code for query in ("label=os", "label==x", "label=os=a&label=os=b")] == [400] * 3


def test_absent_things_are_404_in_every_representation(client: Client) -> None:
    for path in (
        "projects/nobody",
        "runs/nobody",
        "runs/nobody/tests",
        "runs/nobody/measurements.csv",
        "series/nobody/points.arrow",
    ):
        answer = client.get(f"/api/v1/{path}")
        assert (answer.status_code, answer.json()["title"]) == (404, "Not Found")
    assert client.get("/api/v1/series/nobody").json()["expected"] == "a known series"


def test_no_representation_is_406_and_no_method_405(client: Client) -> None:
    assert client.get("/api/v1/runs", headers={"Accept": "image/png"}).status_code == 406
    assert client.get("/api/v1/status", headers={"Accept": "text/csv"}).status_code == 406
    refused = client.post("/api/v1/runs")
    assert (refused.status_code, set(refused.headers["allow"].split(", "))) == (405, {"GET", "OPTIONS"})


# --- submissions on their way, status, databases that go away ---


def test_a_stored_submission_is_received_before_the_log_has_it(client: Client, source: Source) -> None:
    stored = Submission(
        id="c" * 64,
        nonce="0" * 32,
        project="engine",
        format="junit",
        blob=Blob(sha256="d" * 64, size_bytes=7),
        received=START,
    )
    path = f"/api/v1/submissions/{stored.id}"
    assert client.get(path).status_code == 404
    source.public.create(keys.submission(stored.id), msgspec.json.encode(stored))
    answer = client.get(path)
    status = answer.json()
    assert (status["state"], status["format"], status["size_bytes"], status["seq"]) == ("received", "junit", 7, None)
    assert status["blob_url"] == "/" + keys.blob("d" * 64)
    assert "etag" not in answer.headers, "nothing tells when this changes"
    announced = client.get(f"/api/v1/submissions/{submission_id(6)}").json()
    assert (announced["state"], announced["problems"][0]["where"]) == ("rejected", "/")


def test_status_counts_states_and_carries_the_servers_facts(client: Client) -> None:
    status = client.get("/api/v1/status").json()
    assert status["states"] == {"announced": 0, "accepted": 7, "rejected": 1, "quarantined": 0, "withdrawn": 0}
    assert (status["submissions_seq"], status["outcomes_seq"], status["facts"]) == (6, 6, {"loop": "ok"})


def test_a_database_swapped_meanwhile_is_asked_again_and_a_closed_one_is_503(tmp_path: Path, source: Source) -> None:
    closed = Database(tmp_path / "closed.duckdb", 2)
    closed.close()

    class Swapping:
        public = source.public
        asked = [closed, source.current, closed, closed]  # noqa: RUF012

        def database(self) -> Database:
            return self.asked.pop(0)

    with client_of(Swapping()) as client:
        assert client.get("/api/v1/runs").status_code == 200
        gone = client.get("/api/v1/runs")
    assert gone.status_code == 503
    assert int(gone.headers["retry-after"]) > 0


# --- what browsers and tools need ---


def test_web_pages_from_elsewhere_may_read_answers_and_errors(client: Client) -> None:
    for path in ("runs", "runs?limit=0", "runs/nobody"):
        assert client.get(f"/api/v1/{path}").headers["access-control-allow-origin"] == "*"
    preflight = client.options(
        "/api/v1/runs", headers={"Origin": "https://e.org", "Access-Control-Request-Method": "GET"}
    )
    assert preflight.headers["access-control-allow-methods"] == "GET"
    assert "If-None-Match" in preflight.headers["access-control-allow-headers"]


def test_the_description_names_every_field_that_is_answered(client: Client) -> None:
    schema = client.get("/api/v1/openapi.json").json()
    documented = {f"/api/v1/{DOCUMENTED.get(path, path)}": f"/api/v1/{path}" for path in LISTS}
    components = schema["components"]["schemas"]
    for path, url in documented.items():
        content = schema["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        page = components[content["$ref"].rsplit("/", 1)[1]]
        item = components[page["properties"]["items"]["items"]["$ref"].rsplit("/", 1)[1]]
        assert list(item["properties"]) == list(client.get(url).json()["items"][0]), path
    operations = [one["operationId"] for methods in schema["paths"].values() for one in methods.values()]
    assert len(operations) == len(set(operations))


def test_the_page_for_people_asks_no_other_server(client: Client) -> None:
    page = client.get("/api/v1/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "/api/v1/series/{series}/points" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "<script" not in page.text
    assert client.get("/api/v1/docs.css").headers["content-type"] == "text/css; charset=utf-8"


# --- infra.web ---


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("here", "this", "that", status=422), 422),
        (Refused("token", "one", "none", status=401), 401),
        (FileNotFoundError("/secret/path"), 404),
        (StorageFull("/secret/disk"), 507),
        (Unavailable("/secret/host"), 503),
        (KeyError("secret"), 500),
    ],
)
def test_each_error_has_its_status_and_keeps_its_secrets(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    @get("/", sync_to_thread=False)
    def broken() -> None:
        raise error

    with TestClient(Litestar([broken], exception_handlers=exception_handlers, logging_config=None)) as client:
        answer = client.get("/")
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    if status == 500:
        assert "secret" in capsys.readouterr().out, "our own errors are logged"
    if status == 422:
        assert (problem["where"], problem["expected"], problem["found"]) == ("here", "this", "that")
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert ("retry-after" in answer.headers) == (status == 503)
