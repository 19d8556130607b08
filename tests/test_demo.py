"""The demo makes what it says: valid files of real tools, a slowdown and a broken test where its history has them."""

import itertools
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from ingest.ci import ci_run
from tests.demo.__main__ import main
from tests.demo.change import apply, change, replace
from tests.demo.history import BROKEN, CHANGES, SLOWED, SPED_UP, UNTOUCHED, make_history
from tests.demo.repository import sample_environ, write_commits
from tests.demo.runner import ENVIRONMENTS, make_results
from tests.demo.server import wait_for_outcomes

ROOT = Path(__file__).parents[1]
TODAY = date(2026, 3, 18)  # a Wednesday


@dataclass(frozen=True)
class Read:
    """What the two files of one commit say."""

    commit: str
    means: dict[str, float]
    failed: set[str]
    passed: set[str]


def read(folder: Path) -> Read:
    report = json.loads((folder / "benchmarks.json").read_bytes())
    cases = ElementTree.parse(folder / "junit.xml").getroot().iter("testcase")
    names = {f"{case.get('classname')}::{case.get('name')}": {child.tag for child in case} for case in cases}
    return Read(
        commit=report["commit_info"]["id"],
        means={benchmark["fullname"]: benchmark["stats"]["mean"] for benchmark in report["benchmarks"]},
        failed={name for name, tags in names.items() if "failure" in tags or "error" in tags},
        passed={name for name, tags in names.items() if not tags},
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Read]:
    """What the plain environment gives at the marked commits and just before them, by mark and `before <mark>`."""
    wanted = {
        at + name: number - bool(at)
        for number, change in enumerate(CHANGES)
        if (name := change.mark) and name != "faster"
        for at in ("", "before ")
    }
    work = tmp_path_factory.mktemp("demo")
    found = {}
    for number, commit in enumerate(write_commits(work / "prosekit", make_history(TODAY))):
        for name in (name for name, at in wanted.items() if at == number):
            make_results(work / "prosekit", commit, "plain", work / name)
            found[name] = read(work / name)
            assert found[name].commit == commit.id
    return found


def test_slowed_function_is_far_slower_exactly_between_slowdown_and_fix(results: dict[str, Read]) -> None:
    before, slower, still, fixed = (
        results[name].means[SLOWED] for name in ("before slower", "slower", "before fixed", "fixed")
    )
    assert min(slower, still) > 3 * max(before, fixed)


def test_sped_up_function_is_far_faster_after_its_change(results: dict[str, Read]) -> None:
    assert results["fixed"].means[SPED_UP] > 3 * results["broken"].means[SPED_UP]


def test_untouched_function_is_measured_at_every_commit(results: dict[str, Read]) -> None:
    assert all(UNTOUCHED in read.means for read in results.values())


def test_broken_test_fails_exactly_between_break_and_repair_and_no_other_ever_fails(results: dict[str, Read]) -> None:
    failed = {name: read.failed for name, read in results.items()}
    assert failed.pop("broken") == failed.pop("before repaired") == {BROKEN}
    assert not any(failed.values())
    assert all(BROKEN in results[name].passed for name in failed)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python -m tests.demo --only-make --commits 3` leaves."""
    folder = tmp_path_factory.mktemp("demo") / "kept"
    command = [sys.executable, "-m", "tests.demo", "--only-make", "--commits", "3", "--keep", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "6/6 dev-mode" in done.stdout
    return folder


def test_command_leaves_both_files_of_each_commit_in_each_environment(kept: Path) -> None:
    git = ["git", "-C", str(kept / "prosekit"), "rev-list", "--reverse", "main"]
    commits = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split()
    folders = sorted((kept / "results").iterdir())
    assert len(set(commits)) == len(folders) == 3
    for commit, folder in zip(commits, folders, strict=True):
        assert {environment.name for environment in folder.iterdir()} == set(ENVIRONMENTS)
        for environment in folder.iterdir():
            found = read(environment)
            assert found.commit == commit
            assert found.means
            assert found.passed


def test_files_name_a_clean_commit_of_main_with_its_own_time(kept: Path) -> None:
    for file in (kept / "results").glob("*/*/benchmarks.json"):
        commit = json.loads(file.read_bytes())["commit_info"]
        assert (commit["branch"], commit["dirty"], commit["project"]) == ("main", False, "prosekit")
        assert datetime.fromisoformat(commit["time"]) < datetime.now(UTC) - timedelta(days=30)


def test_every_file_of_every_commit_is_valid_python() -> None:
    for step in make_history(TODAY):
        for path, text in step.tree.items():
            if path.endswith(".py"):
                compile(text, f"{step.change.subject}: {path}", "exec")


def test_each_commit_changes_something_and_comes_later_but_before_today() -> None:
    steps = make_history(TODAY)
    for before, after in itertools.pairwise(steps):
        assert before.tree != after.tree
        assert before.committed < after.committed
    assert steps[-1].committed.date() < TODAY


def test_same_week_gives_the_same_commit_ids(tmp_path: Path) -> None:
    first, second = (
        [commit.id for commit in write_commits(tmp_path / day.isoformat(), make_history(day)[:3])]
        for day in (TODAY, TODAY + timedelta(days=4))
    )
    assert first == second


def test_edit_whose_passage_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 times, expected once"):
        apply({"a.py": "x = 1\n"}, change("Nothing to replace", replace("a.py", "y", "z")))


def test_ci_job_that_runs_the_demo_is_not_named_in_its_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_SHA", "a" * 40)
    assert ci_run(sample_environ()) is None


def test_without_a_server_the_command_says_how_to_start_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ended = CliRunner().invoke(main, ["--to", f"http://127.0.0.1:{port}"])
    assert ended.exit_code == 2
    assert "make up" in ended.stderr


def test_files_that_would_be_gone_at_once_are_not_made() -> None:
    assert CliRunner().invoke(main, ["--only-make", "--commits", "1"]).exit_code == 2


def test_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    assert CliRunner().invoke(main, ["--only-make", "--commits", "1", "--keep", str(tmp_path)]).exit_code == 2
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


class Answers(BaseHTTPRequestHandler):
    """A server to which a submission is announced at the first question and accepted at the second."""

    asked: dict[str, int]

    def do_GET(self) -> None:
        times = self.asked[self.path] = self.asked.get(self.path, 0) + 1
        body = json.dumps({"state": "announced" if times == 1 else "accepted"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def answering() -> Iterator[str]:
    Answers.asked = {}
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("timeout_seconds", "state"), [(30, "accepted"), (0, "announced")])
def test_outcomes_are_waited_for_until_the_time_is_up(answering: str, timeout_seconds: float, state: str) -> None:
    statuses = wait_for_outcomes(answering, ["a", "b", "a"], timeout_seconds)
    assert {id: status["state"] for id, status in statuses.items()} == {"a": state, "b": state}
