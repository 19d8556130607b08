"""What a push says of a file: by its bytes, by git, by the CI service, by the machine."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ingest.ci import PROVIDERS, ci_run, public_url
from ingest.git import Repository, parse_commit
from ingest.machine import parse_cpuinfo, parse_os_release, read_machine
from ingest.media import HEAD_BYTES, encoding, media_type
from ingest.pack import (
    Choices,
    files_of,
    find_origin,
    keep_stream,
    pack,
    parse_chunk,
    parse_submission_id,
    project_slug,
    with_machine,
)
from schemas.errors import Refused
from schemas.keys import PROJECT
from schemas.records import Chunk, Context, Machine

ENVIRON = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada Private",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada Private",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_COMMITTER_DATE": "1700000000 +0200",
}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=ENVIRON, check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "My Project"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "code.c").write_text("int main;")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "Make it fast\nand small, says <eve@example.org>\n\nThe body.")
    return folder


def merged(folder: Path) -> tuple[str, str]:
    """Leave `folder` as a CI service leaves it for a pull request: a detached merge commit. (head, merge)"""
    git(folder, "switch", "--quiet", "-c", "feature")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "The author's work")
    head = git(folder, "rev-parse", "HEAD")
    git(folder, "switch", "--quiet", "main")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "Meanwhile")
    git(folder, "switch", "--quiet", "--detach")
    git(folder, "merge", "--quiet", "--no-ff", "-m", "Merge for the service", "feature")
    return head, git(folder, "rev-parse", "HEAD")


def github(merge: str, **more: str) -> dict[str, str]:
    return {
        **ENVIRON,
        "GITHUB_ACTIONS": "true",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_RUN_ID": "99",
        "GITHUB_WORKFLOW": "bench",
        "GITHUB_JOB": "linux",
        "GITHUB_SHA": merge,
        "GITHUB_REF": "refs/pull/12/merge",
        "GITHUB_HEAD_REF": "main",
        **more,
    }


# --- bytes ---


@pytest.mark.parametrize(
    ("body", "name", "expected"),
    [
        (b'{"a": 1}', "x.txt", "application/json"),
        (b'\xef\xbb\xbf \n[{"a": 1}]', "x", "application/json"),
        (b'{"a": 1}\n{"a": 2}\n', "x.json", "application/x-ndjson"),
        (b'{"a":\n{"b": 2}}\n', "x.json", "application/json"),
        (b'{"a": 1}\n', "x.JSONL", "application/x-ndjson"),
        (b"<?xml version='1.0'?><testsuites/>", "x", "application/xml"),
        ("\ufeff<testsuites/>".encode("utf-16-le"), "x.xml", "application/xml"),
        (b"a,b\n1,2\n", "x.csv", "text/csv"),
        (b"ok 1 - works\n", "x.tap", "text/plain"),
        (b"\x00\x01\x02", "x.json", "application/octet-stream"),
        (b"\xff\xfe\xfd", "x.json", "application/octet-stream"),
        (b"PK\x03\x04rest", "x", "application/zip"),
        (b"a" * 257 + b"ustar", "x", "application/x-tar"),
    ],
)
def test_the_bytes_give_the_media_type_and_the_ending_only_settles_the_rest(
    body: bytes, name: str, expected: str
) -> None:
    assert media_type(body, name) == expected


@pytest.mark.parametrize(("compress", "name"), [(gzip.compress, "gzip"), (zstandard.ZstdCompressor().compress, "zstd")])
def test_a_compressed_file_is_called_by_what_is_inside(compress, name: str) -> None:
    body = compress(b'{"a": [' + b"1," * HEAD_BYTES + b"2]}")
    assert encoding(body) == name
    assert media_type(body[:100], "x.json.gz") == "application/json"


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b"{", b"<", b"\xff\xfe"])
)
def test_any_bytes_have_a_media_type(body: bytes, start: bytes) -> None:
    assert "/" in media_type(start + body, "x.xml")


def test_a_character_cut_in_two_by_the_look_at_the_beginning_is_still_text() -> None:
    assert media_type(b"{" + "é".encode() * 10 + b"\xc3", "x") == "application/json"


def test_packing_says_digest_and_size_of_exactly_the_bytes(tmp_path: Path) -> None:
    body = os.urandom(3 << 20)
    path = tmp_path / "big.bin"
    path.write_bytes(body)
    packed = pack(path, name="big.bin", project="p", format="auto", context=Context())
    assert (packed.sha256, packed.size_bytes) == (hashlib.sha256(body).hexdigest(), len(body))
    assert b"".join(packed.pieces()) == body


def test_an_empty_file_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "r.json").touch()
    with pytest.raises(Refused, match=r"r\.json: expected a result file, found 0 bytes"):
        pack(tmp_path / "r.json", name="r.json", project="p", format="auto", context=Context())


@pytest.mark.parametrize("now", [b'{"a": 1}2', b"{"])
def test_a_file_that_changes_size_after_packing_is_refused(tmp_path: Path, now: bytes) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(b'{"a": 1}')
    packed = pack(path, name="r.json", project="p", format="auto", context=Context())
    path.write_bytes(now)
    with pytest.raises(Refused, match="another size"):
        list(packed.pieces())


def test_a_folder_means_the_files_in_it_by_name_without_hidden_ones_and_links(tmp_path: Path) -> None:
    for name in ("b.xml", "a.xml", ".hidden"):
        (tmp_path / name).write_text("x")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "link.xml").symlink_to(tmp_path / "a.xml")
    assert [path.name for path in files_of(tmp_path)] == ["a.xml", "b.xml"]
    with pytest.raises(Refused, match="found none"):
        files_of(tmp_path / "deeper")
    with pytest.raises(FileNotFoundError):
        files_of(tmp_path / "absent")


def test_a_stream_is_kept_as_a_file(tmp_path: Path) -> None:
    assert keep_stream(io.BytesIO(b"abc"), tmp_path / "stdin").read_bytes() == b"abc"


# --- git ---


def test_a_commit_is_found_whole_and_names_nobody(repository: Path) -> None:
    origin = find_origin(repository, ENVIRON, Choices())
    commit = origin.context.commit
    assert commit is not None
    assert commit.id == git(repository, "rev-parse", "HEAD")
    assert (commit.parents, commit.branch, commit.dirty, commit.declared) == ([], "main", False, False)
    assert commit.subject == "Make it fast and small, says"
    assert commit.time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert origin.project == "my-project"
    said = msgspec.json.encode(origin.context).decode()
    assert "Ada" not in said
    assert "example.org" not in said


def test_dirty_means_changed_tracked_files_not_the_new_result_file(repository: Path) -> None:
    (repository / "results.json").write_text("{}")
    assert Repository(repository, ENVIRON).dirty() is False
    (repository / "code.c").write_text("changed")
    assert Repository(repository, ENVIRON).dirty() is True


def test_a_shallow_clone_still_knows_its_parents(repository: Path, tmp_path: Path) -> None:
    parent = git(repository, "rev-parse", "HEAD")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "Second")
    git(tmp_path, "clone", "--quiet", "--depth=1", repository.as_uri(), "shallow")
    assert git(tmp_path / "shallow", "log", "--format=%P") == ""
    commit = Repository(tmp_path / "shallow", ENVIRON).commit("HEAD")
    assert commit is not None
    assert commit.parents == [parent]


def test_a_linked_worktree_belongs_to_its_repositorys_project(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "--quiet", str(tmp_path / "elsewhere"), "-b", "other")
    origin = find_origin(tmp_path / "elsewhere", ENVIRON, Choices())
    assert origin.project == "my-project"
    assert origin.context.commit is not None
    assert origin.context.commit.branch == "other"


def test_without_a_repository_there_is_no_commit_and_the_reason_is_told(tmp_path: Path) -> None:
    origin = find_origin(tmp_path, {**ENVIRON, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}, Choices())
    assert origin.context.commit is None
    assert origin.project == ""
    assert "not a git repository" in origin.notes[0]


def test_without_git_there_is_no_commit_and_the_reason_is_told(repository: Path, tmp_path: Path) -> None:
    origin = find_origin(repository, {"PATH": str(tmp_path / "empty")}, Choices())
    assert origin.context.commit is None
    assert origin.notes == ("git is not installed",)


def test_a_repository_without_commits_or_with_a_lost_object_gives_none(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "--quiet")
    assert Repository(tmp_path / "new", ENVIRON).commit("HEAD") is None
    commit = git(repository, "rev-parse", "HEAD")
    (repository / ".git/objects" / commit[:2] / commit[2:]).unlink()
    origin = find_origin(repository, ENVIRON, Choices())
    assert origin.context.commit is None
    assert origin.notes


def test_git_that_hangs_is_given_up(repository: Path, tmp_path: Path) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    repo = Repository(repository, {"PATH": f"{slow.parent}:{ENVIRON['PATH']}"}, deadline=0.0)
    assert repo.commit("HEAD") is None
    assert repo.note == "git rev-parse took too long"


def test_a_commit_by_hand_is_resolved_marked_and_outranks(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "v1")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "Second")
    (repository / "code.c").write_text("changed")
    commit = find_origin(repository, ENVIRON, Choices(commit="v1", branch="release")).context.commit
    assert commit is not None
    assert (commit.id, commit.declared, commit.branch, commit.dirty) == (first, True, "release", None)
    head = find_origin(repository, ENVIRON, Choices(commit="HEAD")).context.commit
    assert head is not None
    assert (head.branch, head.dirty, head.declared) == ("main", True, True)


@pytest.mark.parametrize("name", ["r4711", "--output=x", "deadbeef"])
def test_a_commit_by_hand_that_git_does_not_know_is_taken_as_it_is(repository: Path, name: str) -> None:
    origin = find_origin(repository, ENVIRON, Choices(commit=name))
    assert origin.context.commit is not None
    assert (origin.context.commit.id, origin.context.commit.time) == (name, None)
    assert origin.notes


def test_what_is_not_wanted_is_not_looked_for(repository: Path) -> None:
    environ = github("0" * 40)
    assert find_origin(repository, environ, Choices(without=("commit", "machine", "ci"))).context == Context()


@given(st.binary(max_size=200))
def test_any_raw_commit_object_is_read_without_failing(raw: bytes) -> None:
    assert parse_commit("0" * 40, b"committer X <x@y.z> 99999999999 +0000\nencoding latin-1\n" + raw).id == "0" * 40


# --- CI ---


def test_a_pull_request_counts_for_the_authors_commit_and_not_for_our_main(repository: Path, tmp_path: Path) -> None:
    """GITHUB_SHA is a merge that exists nowhere else, and a fork's branch may be called main."""
    head, merge = merged(repository)
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"head": {"sha": head}}}))
    for environ in (github(merge), github(merge, GITHUB_EVENT_PATH=str(event))):
        context = find_origin(repository, environ, Choices()).context
        assert context.commit is not None
        assert (context.commit.id, context.commit.branch) == (head, "pull/12")
        assert context.commit.subject == "The author's work"
        assert context.ci == {
            "provider": "GitHub Actions",
            "run_url": "https://github.com/o/r/actions/runs/99",
            "job": "bench / linux",
            "pull_request": "12",
            "pull_branch": "main",
            "merge_commit": merge,
        }


def test_the_authors_commit_is_known_by_its_id_alone_in_a_shallow_checkout(repository: Path, tmp_path: Path) -> None:
    head, merge = merged(repository)
    git(tmp_path, "init", "--quiet", "shallow")
    git(repository, "branch", "for-service", merge)
    git(tmp_path / "shallow", "fetch", "--quiet", "--depth=1", repository.as_uri(), "for-service")
    git(tmp_path / "shallow", "switch", "--quiet", "--detach", "FETCH_HEAD")
    commit = find_origin(tmp_path / "shallow", github(merge), Choices()).context.commit
    assert commit is not None
    assert (commit.id, commit.time, commit.branch) == (head, None, "pull/12")


def test_a_checkout_that_is_not_the_services_commit_speaks_for_itself(repository: Path) -> None:
    """As with pull_request_target and an explicit checkout: the service's branch would be a lie."""
    git(repository, "switch", "--quiet", "--detach")
    environ = github("0" * 40, GITHUB_REF="refs/heads/main", GITHUB_HEAD_REF="")
    commit = find_origin(repository, environ, Choices()).context.commit
    assert commit is not None
    assert (commit.id, commit.branch) == (git(repository, "rev-parse", "HEAD"), "")


def test_a_detached_head_takes_the_services_branch_if_it_is_its_commit(repository: Path) -> None:
    git(repository, "switch", "--quiet", "--detach")
    head = git(repository, "rev-parse", "HEAD")
    environ = github(head, GITHUB_REF="refs/heads/fix/it", GITHUB_HEAD_REF="")
    commit = find_origin(repository, environ, Choices()).context.commit
    assert commit is not None
    assert commit.branch == "fix/it"


def test_an_own_merge_commit_on_a_pull_request_is_not_taken_for_the_services(repository: Path) -> None:
    """CircleCI builds the author's commit itself; that may well be a merge of main."""
    _, merge = merged(repository)
    environ = {
        **ENVIRON,
        "CIRCLECI": "true",
        "CIRCLE_SHA1": merge,
        "CIRCLE_BRANCH": "pull/3",
        "CIRCLE_PULL_REQUEST": "https://github.com/o/r/pull/3",
    }
    commit = find_origin(repository, environ, Choices()).context.commit
    assert commit is not None
    assert (commit.id, commit.branch) == (merge, "pull/3")


def test_without_a_repository_the_ci_service_names_the_commit(tmp_path: Path) -> None:
    environ = {
        **ENVIRON,
        "GIT_CEILING_DIRECTORIES": str(tmp_path.parent),
        "GITLAB_CI": "true",
        "CI_COMMIT_SHA": "a" * 40,
        "CI_COMMIT_BRANCH": "dev",
    }
    commit = find_origin(tmp_path, environ, Choices()).context.commit
    assert commit is not None
    assert (commit.id, commit.branch, commit.declared) == ("a" * 40, "dev", False)


SAMPLES = [
    (
        {
            "GITLAB_CI": "true",
            "CI_JOB_URL": "https://ci:secret@lab.org/j/1",
            "CI_JOB_NAME": "b",
            "CI_COMMIT_BRANCH": "x",
        },
        ("GitLab CI", "https://lab.org/j/1", "b", "x"),
    ),
    (
        {"GITLAB_CI": "true", "CI_MERGE_REQUEST_IID": "5", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "main"},
        ("GitLab CI", "", "", "pull/5"),
    ),
    (
        {"JENKINS_URL": "http://j/", "BUILD_URL": "http://j/job/a/1/", "JOB_NAME": "a", "GIT_BRANCH": "origin/main"},
        ("Jenkins", "http://j/job/a/1/", "a", "main"),
    ),
    (
        {
            "BUILDKITE": "true",
            "BUILDKITE_PULL_REQUEST": "false",
            "BUILDKITE_BRANCH": "main",
            "BUILDKITE_COMMIT": "HEAD",
        },
        ("Buildkite", "", "", "main"),
    ),
    (
        {
            "TF_BUILD": "True",
            "SYSTEM_COLLECTIONURI": "https://dev.azure.com/o/",
            "SYSTEM_TEAMPROJECT": "p",
            "BUILD_BUILDID": "8",
            "AGENT_JOBNAME": "j",
            "BUILD_SOURCEBRANCH": "refs/heads/main",
        },
        ("Azure Pipelines", "https://dev.azure.com/o/p/_build/results?buildId=8", "j", "main"),
    ),
    (
        {"TRAVIS": "true", "TRAVIS_PULL_REQUEST": "false", "TRAVIS_BRANCH": "v1", "TRAVIS_TAG": "v1"},
        ("Travis CI", "", "", ""),
    ),
    ({"CI": "woodpecker", "CI_COMMIT_BRANCH": "main"}, ("Woodpecker CI", "", "", "main")),
    ({"DRONE": "true", "DRONE_PULL_REQUEST": "4", "DRONE_COMMIT_BRANCH": "main"}, ("Drone", "", "", "pull/4")),
    ({"TEAMCITY_VERSION": "2025", "TEAMCITY_BUILDCONF_NAME": "c"}, ("TeamCity", "", "c", "")),
    ({"GITHUB_ACTIONS": "true", "FORGEJO_ACTIONS": "true"}, ("Forgejo Actions", "", "", "")),
    ({"GITHUB_ACTIONS": "true", "GITHUB_REF": "refs/heads/123"}, ("GitHub Actions", "", "", "123")),
    ({"GITHUB_ACTIONS": "true", "GITHUB_REF": "refs/tags/v1"}, ("GitHub Actions", "", "", "")),
]


@pytest.mark.parametrize(("environ", "expected"), SAMPLES)
def test_ci_services_are_known_by_their_variables(environ: dict[str, str], expected: tuple[str, ...]) -> None:
    run = ci_run(environ)
    assert run is not None
    assert (run.provider, run.run_url, run.job, run.branch) == expected


def test_outside_of_ci_there_is_no_run() -> None:
    assert ci_run({"CI": "true", "GITHUB_ACTIONS": "false"}) is None


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
def test_no_provider_reads_a_secret_or_a_person(provider) -> None:
    words = ("TOKEN", "SECRET", "PASSWORD", "ACTOR", "USER", "AUTHOR", "EMAIL", "HOSTNAME")
    assert not [word for word in words if word in repr(provider).upper()]


@pytest.mark.parametrize("event", [None, [], {"pull_request": None}, {"pull_request": {"head": {"sha": 7}}}, "x"])
def test_an_unexpected_event_file_is_as_good_as_none(event) -> None:
    run = ci_run(github("a" * 40), event)
    assert run is not None
    assert run.pull_commit == ""


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:pass@h.org:1/a?b=c#d", "https://h.org:1/a?b=c"),
        ("ssh://git@h.org/x", ""),
        ("http://[broken", ""),
        ("", ""),
    ],
)
def test_a_public_url_has_no_credentials(url: str, expected: str) -> None:
    assert public_url(url) == expected


# --- machine ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('NAME="Debian GNU/Linux"\nVERSION_ID="12"\n', "Debian 12"),
        ('NAME="Ubuntu"\nVERSION_ID="24.04"\n', "Ubuntu 24.04"),
        ("NAME='Alpine Linux'\nVERSION_ID=3.20.1\n", "Alpine Linux 3"),
        ('NAME="Arch Linux"\n', "Arch Linux"),
        ('NAME="openSUSE Tumbleweed"\nVERSION_ID="20261101"\n', "openSUSE Tumbleweed"),
        ("", ""),
    ],
)
def test_the_system_is_its_name_and_major_version(text: str, expected: str) -> None:
    assert parse_os_release(text) == expected


def test_the_cpu_is_its_model_and_never_its_clock() -> None:
    assert parse_cpuinfo("cpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Intel  Xeon\ncpu MHz\t: 2596\n") == "Intel Xeon"
    assert parse_cpuinfo("CPU part\t: 0xd0c\n") == ""


def test_this_machine_is_the_same_each_time_and_has_no_name() -> None:
    machine = read_machine()
    assert machine == read_machine()
    assert machine.cores
    assert machine.os
    assert machine.runtime == ""
    assert os.uname().nodename not in msgspec.json.encode(machine).decode()


def test_a_machine_without_the_usual_files_is_no_failure(tmp_path: Path) -> None:
    assert read_machine(tmp_path).cores == os.cpu_count()


def test_parts_of_the_machine_are_set_by_hand() -> None:
    given_by_hand = {"runtime": "CPython 3.12", "cores": "4", "ram_gib": ""}
    assert with_machine(Machine(cpu="x", cores=2, ram_gib=8), given_by_hand) == Machine(
        cpu="x", cores=4, runtime="CPython 3.12"
    )
    for wrong in ({"mhz": "1"}, {"cores": "many"}, {"cores": "0"}, {"cores": "²"}):
        with pytest.raises(Refused):
            with_machine(None, wrong)


# --- what is said by hand ---


def test_two_packings_of_one_result_say_the_same(repository: Path) -> None:
    choices = Choices(labels={"b": "2", "a": "1"}, environment="rack")
    assert find_origin(repository, ENVIRON, choices) == find_origin(repository, ENVIRON, choices)


def test_text_that_json_cannot_hold_is_cleaned() -> None:
    choices = Choices(labels={"k\udcff": "v\udc80\x1b[31m"}, environment="\udcffrack", without=("commit", "machine"))
    context = find_origin(Path("/"), {"PATH": "/nonexistent"}, choices).context
    assert msgspec.json.decode(msgspec.json.encode(context), type=Context) == context
    assert "\x1b" not in repr(context.labels["k"])


def test_chunks_are_numbered_from_one_and_want_a_group() -> None:
    assert parse_chunk("", "") is None
    assert parse_chunk("2/3", "g") == Chunk(group="g", index=2, total=3)
    for text, group in (("0/3", "g"), ("4/3", "g"), ("2", "g"), ("", "g"), ("1/2", "")):
        with pytest.raises(Refused):
            parse_chunk(text, group)


def test_a_submission_is_named_by_its_id_or_address() -> None:
    name = "0f" * 32
    for text in (name, f"http://h/api/v1/submissions/{name}", f"http://h/submissions/{name}/", f"/x/{name}?a=b"):
        assert parse_submission_id(text) == name
    for wrong in ("", "abc", f"{name}0"):
        with pytest.raises(Refused):
            parse_submission_id(wrong)


@given(st.text(max_size=100))
def test_a_slug_is_a_projects_name_or_nothing(name: str) -> None:
    slug = project_slug(name)
    assert slug == "" or PROJECT.fullmatch(slug)
    assert ".." not in slug
    assert project_slug(slug) == slug


def test_the_push_client_starts_without_server_storage_or_http() -> None:
    """`runfeed push --help` must not wait for libraries that only the server, or only the upload, needs."""
    heavy = "duckdb pyarrow litestar uvicorn obstore httpx rich zstandard"
    code = f"import sys, ingest.push_cli; sys.exit(' '.join(set('{heavy}'.split()) & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
