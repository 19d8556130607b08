"""The way of one result, from a runner's file to the answer, in a real `runfeed up`. Read this first."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import feedparser
import pytest

from tests.running import Running, running

RESULT = b'{"benchmark": "parse", "metric": "time", "value": 1.5, "unit": "ms", "better": "lower"}\n'


def test_a_result_travels_from_the_runner_to_the_graph(tmp_path: Path) -> None:
    """Push a file as a runner does; the feed announces it, the API answers with its value, the page shows it."""
    with running(tmp_path / "data") as server:
        result = tmp_path / "result.json"
        result.write_bytes(RESULT)
        push = ("push", str(result), "--project", "demo", "--environment", "ci", "--commit", "c" * 40, "--wait")
        pushed = server.runfeed(*push)
        assert pushed.returncode == 0, pushed.stderr
        assert "accepted" in pushed.stdout + pushed.stderr

        feed = feedparser.parse(server.client.get("/feeds/submissions/current.atom").content)
        assert not feed.bozo
        (entry,) = feed.entries
        (enclosure,) = entry.enclosures
        assert int(enclosure.length) == len(RESULT)
        blob = server.client.get(f"/blobs/{entry.rf_sha256[:2]}/{entry.rf_sha256}")
        assert blob.content == RESULT
        assert blob.headers["content-disposition"].startswith("attachment")
        assert blob.headers["content-security-policy"] == "sandbox"
        assert blob.headers["x-content-type-options"] == "nosniff"

        (series,) = server.get("/api/v1/series", project="demo")["items"]
        (point,) = server.get(f"/api/v1/series/{series['series']}/points")["items"]
        assert point["value"] == 1.5
        assert point["commit"] == "c" * 40
        page = server.client.get(f"/series/{series['series']}")
        assert page.status_code == 200
        assert "parse" in page.text

        again = server.runfeed(*push)
        assert again.returncode == 0
        assert "already submitted" in again.stdout + again.stderr
        assert len(server.get("/api/v1/submissions")["items"]) == 1


def test_a_refused_file_says_why_and_the_push_exits_with_1(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        bad = tmp_path / "bad.json"
        bad.write_text('{"benchmark": "parse", "metric": "time", "value": "fast"}')
        pushed = server.runfeed("push", str(bad), "--project", "demo", "--wait")
        assert pushed.returncode == 1, pushed.stderr
        assert "/value: expected float, found str" in pushed.stdout + pushed.stderr
        assert server.get("/api/v1/submissions", state="rejected")["items"][0]["project"] == "demo"


def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        ids = [server.push(RESULT, environment=f"e{n}")["id"] for n in range(5)]
        for one in ids:
            server.wait_for(one)
        before = server.get("/api/v1/runs")["items"]
        server.stop()
        server.start()
        assert server.get("/api/v1/runs")["items"] == before
        assert [server.push(RESULT, environment=f"e{n}")["status"] for n in range(5)] == ["known"] * 5


def test_two_servers_on_one_data_folder_are_refused(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        second = server.runfeed("up", "--data", str(server.data), "--port", "0")
        assert second.returncode == 2
        assert "in use by another" in second.stderr


def test_rebuild_while_up_gives_an_equal_lake_and_the_dashboard_changes_over(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        bodies = [json.dumps({"benchmark": "b", "metric": "t", "value": n}).encode() for n in range(20)]
        for one in [server.push(body)["id"] for body in [*bodies, b"not a result"]]:
            server.wait_for(one)
        rows = server.get("/api/v1/runs")["items"]
        rebuilt = server.runfeed("rebuild", "--data", str(server.data))
        assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
        assert "are equal, row for row" in rebuilt.stdout
        late = server.push(b'{"benchmark": "b", "metric": "t", "value": 99}')["id"]
        _wait_until_lake(server, 2)
        assert server.wait_for(late)["state"] == "accepted"
        assert [run for run in server.get("/api/v1/runs")["items"] if run["submission"] != late] == rows


def test_tokens_and_projects_beside_a_running_server(tmp_path: Path) -> None:
    """On an address that is not local, a token of the project is needed; it can be made and revoked while up runs."""
    data = tmp_path / "data"
    with running(data) as server:
        forwarded = {"X-Forwarded-For": "203.0.113.7"}  # a proxy in front: no longer a local sender

        def post(token: str = "", project: str = "p") -> int:
            headers = forwarded | ({"Authorization": f"Bearer {token}"} if token else {})
            answer = server.client.post(
                "/api/v1/submissions", content=RESULT, params={"project": project}, headers=headers
            )
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
                assert {"where", "expected", "found"} <= answer.json().keys()
            return answer.status_code

        assert post() == 401
        assert post("rf_wrong") == 401
        made = server.runfeed("token", "create", "--name", "ci", "--project", "p", "--data", str(data))
        token = made.stdout.strip()
        assert post(token) == 403  # the project does not exist, and only a local sender's push creates one
        assert server.runfeed("project", "add", "p", "--data", str(data)).returncode == 0
        assert post(token) == 201
        assert post(token) == 200
        assert post(token, "other") == 403
        listed = server.runfeed("token", "list", "--data", str(data)).stdout
        assert token not in listed
        assert token.encode() not in b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
        assert server.runfeed("token", "revoke", listed.split()[0], "--data", str(data)).returncode == 0
        assert post(token) == 401


@pytest.mark.parametrize(
    "headers",
    [{"Host": "rebound.example"}, {"Origin": "https://elsewhere.example"}, {"Forwarded": "for=203.0.113.7"}],
)
def test_a_web_page_or_proxy_is_not_a_local_sender(headers: dict[str, str], local_server: Running) -> None:
    answer = local_server.client.post("/api/v1/submissions", content=RESULT, headers=headers)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("status", "parameters", "headers", "where"),
    [
        (400, {"projekt": "p"}, {}, "query projekt"),
        (415, {}, {"Content-Encoding": "br"}, "Content-Encoding"),
        (422, {"project": "../p"}, {}, "project"),
        (422, {"context": '{"labels": 3}'}, {}, "context/labels"),
        (422, {"chunk": "3/2", "run_group": "g"}, {}, "context/chunk"),
        (422, {}, {"Runfeed-Digest": "sha256=" + "0" * 64}, "Runfeed-Digest"),
    ],
)
def test_a_bad_request_names_field_expected_and_found(
    status: int, parameters: dict[str, str], headers: dict[str, str], where: str, local_server: Running
) -> None:
    answer = local_server.client.post("/api/v1/submissions", content=RESULT, params=parameters, headers=headers)
    assert answer.status_code == status
    assert answer.json()["where"] == where
    assert answer.json()["expected"]
    assert answer.json()["found"]


def test_multipart_and_raw_uploads_are_the_same_submission(local_server: Running) -> None:
    raw = local_server.push(RESULT, environment="form")
    form = local_server.client.post(
        "/api/v1/submissions",
        files={
            "file": ("result.json", RESULT, "application/json"),
            "submission": (None, json.dumps({"project": "p", "context": {"environment": "form"}}), "application/json"),
        },
    )
    assert form.status_code == 200
    assert form.json()["id"] == raw["id"]


def test_an_upload_over_the_limit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "runfeed.toml").write_text("max_blob_bytes = 2000000\n")
    with running(tmp_path / "data") as server:
        announced = server.client.post("/api/v1/submissions", content=b" " * 2_000_001)
        assert announced.status_code == 413
        chunked = server.client.post("/api/v1/submissions", content=(b" " * 100_000 for _ in range(21)))
        assert chunked.status_code == 413
        assert list((tmp_path / "data" / "spool").iterdir()) == []
        assert server.get("/api/v1/submissions")["items"] == []


def test_other_engines_can_read_the_lake_as_it_lies(local_server: Running) -> None:
    """Invariant: nothing is locked in. The parts are plain Parquet under plain names."""
    local_server.wait_for(local_server.push(RESULT, environment="lake")["id"])
    parts = local_server.data / "public" / "lake" / "v1" / "measurements" / "*.parquet"
    row = duckdb.sql(f"SELECT count(*) FROM '{parts}' WHERE benchmark = 'parse' AND value = 1.5").fetchone()
    assert row is not None
    assert row[0] >= 1


@pytest.fixture(scope="module")
def local_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("journey") / "data") as server:
        yield server


def _wait_until_lake(server: Running, version: int) -> None:
    deadline = time.monotonic() + 20
    while server.get("/api/v1/status")["lake_version"] != version:
        assert time.monotonic() < deadline, "the dashboard did not change over"
        time.sleep(0.05)
