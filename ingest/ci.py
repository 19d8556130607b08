"""What a CI service says of the run we are in, from its environment variables. Pure.

Knowledge sits in `PROVIDERS`: a template per fact, `{VARIABLE}` for a variable's value; the first template of a list
whose variables are all set and not empty gives the fact. Only public facts are taken: provider, run URL, job, commit,
branch. Never a token, a user, a host.

**Pull requests.** What GitHub, GitLab and Azure check out for them is a merge commit that exists nowhere else. The
facts name both that (`commit`) and the author's own (`pull_commit`). The branch of a fork's pull request may well be
called `main`, and must never count as ours, so a pull request's branch is always `pull/<number>`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

_VARIABLE = re.compile(r"\{(\w+)\}")
_PULL_NUMBER = re.compile(r"(?:refs/pull/|https?://\S+/)?(\d{1,12})(?:/merge|/head)?")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True)
class Provider:
    """Where one CI service keeps its facts. `marker` is `VARIABLE` or `VARIABLE=value`."""

    name: str
    marker: str
    run_url: tuple[str, ...]
    job: tuple[str, ...]
    commit: tuple[str, ...]
    branch: tuple[str, ...]
    tag: tuple[str, ...] = ()
    """If one of these gives a value, it is a tag that is built and `branch` means nothing."""
    pull: tuple[str, ...] = ()
    pull_commit: tuple[str, ...] = ()
    pull_branch: tuple[str, ...] = ()


def _github(name: str, marker: str) -> Provider:
    return Provider(
        name=name,
        marker=marker,
        run_url=("{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",),
        job=("{GITHUB_WORKFLOW} / {GITHUB_JOB}", "{GITHUB_JOB}"),
        commit=("{GITHUB_SHA}",),
        branch=("{GITHUB_REF}",),
        pull=("{GITHUB_REF}",),
        pull_branch=("{GITHUB_HEAD_REF}",),
    )


PROVIDERS = (
    _github("Forgejo Actions", "FORGEJO_ACTIONS"),
    _github("Gitea Actions", "GITEA_ACTIONS"),
    _github("GitHub Actions", "GITHUB_ACTIONS"),
    Provider(
        name="GitLab CI",
        marker="GITLAB_CI",
        run_url=("{CI_JOB_URL}", "{CI_PIPELINE_URL}"),
        job=("{CI_JOB_NAME}",),
        commit=("{CI_COMMIT_SHA}",),
        branch=("{CI_COMMIT_BRANCH}",),
        pull=("{CI_MERGE_REQUEST_IID}",),
        pull_commit=("{CI_MERGE_REQUEST_SOURCE_BRANCH_SHA}",),
        pull_branch=("{CI_MERGE_REQUEST_SOURCE_BRANCH_NAME}",),
    ),
    Provider(
        name="Buildkite",
        marker="BUILDKITE",
        run_url=("{BUILDKITE_BUILD_URL}",),
        job=("{BUILDKITE_PIPELINE_SLUG} / {BUILDKITE_LABEL}", "{BUILDKITE_PIPELINE_SLUG}"),
        commit=("{BUILDKITE_COMMIT}",),
        branch=("{BUILDKITE_BRANCH}",),
        tag=("{BUILDKITE_TAG}",),
        pull=("{BUILDKITE_PULL_REQUEST}",),
        pull_branch=("{BUILDKITE_BRANCH}",),
    ),
    Provider(
        name="CircleCI",
        marker="CIRCLECI",
        run_url=("{CIRCLE_BUILD_URL}",),
        job=("{CIRCLE_JOB}",),
        commit=("{CIRCLE_SHA1}",),
        branch=("{CIRCLE_BRANCH}",),
        pull=("{CIRCLE_PULL_REQUEST}",),
        pull_branch=("{CIRCLE_BRANCH}",),
    ),
    Provider(
        name="Azure Pipelines",
        marker="TF_BUILD",
        run_url=("{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}",),
        job=(
            "{BUILD_DEFINITIONNAME} / {SYSTEM_JOBDISPLAYNAME}",
            "{BUILD_DEFINITIONNAME} / {AGENT_JOBNAME}",
            "{AGENT_JOBNAME}",
        ),
        commit=("{BUILD_SOURCEVERSION}",),
        branch=("{BUILD_SOURCEBRANCH}",),
        pull=("{SYSTEM_PULLREQUEST_PULLREQUESTNUMBER}", "{SYSTEM_PULLREQUEST_PULLREQUESTID}", "{BUILD_SOURCEBRANCH}"),
        pull_commit=("{SYSTEM_PULLREQUEST_SOURCECOMMITID}",),
        pull_branch=("{SYSTEM_PULLREQUEST_SOURCEBRANCH}",),
    ),
    Provider(
        name="Travis CI",
        marker="TRAVIS",
        run_url=("{TRAVIS_JOB_WEB_URL}", "{TRAVIS_BUILD_WEB_URL}"),
        job=("{TRAVIS_JOB_NAME}", "{TRAVIS_JOB_NUMBER}"),
        commit=("{TRAVIS_COMMIT}",),
        branch=("{TRAVIS_BRANCH}",),
        tag=("{TRAVIS_TAG}",),
        pull=("{TRAVIS_PULL_REQUEST}",),
        pull_commit=("{TRAVIS_PULL_REQUEST_SHA}",),
        pull_branch=("{TRAVIS_PULL_REQUEST_BRANCH}",),
    ),
    Provider(
        name="Woodpecker CI",
        marker="CI=woodpecker",
        run_url=("{CI_PIPELINE_URL}",),
        job=("{CI_WORKFLOW_NAME} / {CI_STEP_NAME}", "{CI_WORKFLOW_NAME}", "{CI_STEP_NAME}"),
        commit=("{CI_COMMIT_SHA}",),
        branch=("{CI_COMMIT_BRANCH}",),
        tag=("{CI_COMMIT_TAG}",),
        pull=("{CI_COMMIT_PULL_REQUEST}",),
        pull_branch=("{CI_COMMIT_SOURCE_BRANCH}",),
    ),
    Provider(
        name="Drone",
        marker="DRONE",
        run_url=("{DRONE_BUILD_LINK}",),
        job=("{DRONE_STAGE_NAME} / {DRONE_STEP_NAME}", "{DRONE_STAGE_NAME}"),
        commit=("{DRONE_COMMIT_SHA}",),
        branch=("{DRONE_COMMIT_BRANCH}", "{DRONE_BRANCH}"),
        tag=("{DRONE_TAG}",),
        pull=("{DRONE_PULL_REQUEST}",),
        pull_branch=("{DRONE_SOURCE_BRANCH}",),
    ),
    Provider(
        name="Bitbucket Pipelines",
        marker="BITBUCKET_BUILD_NUMBER",
        run_url=("{BITBUCKET_GIT_HTTP_ORIGIN}/pipelines/results/{BITBUCKET_BUILD_NUMBER}",),
        job=(),
        commit=("{BITBUCKET_COMMIT}",),
        branch=("{BITBUCKET_BRANCH}",),
        tag=("{BITBUCKET_TAG}",),
        pull=("{BITBUCKET_PR_ID}",),
        pull_branch=("{BITBUCKET_BRANCH}",),
    ),
    Provider(
        name="Cirrus CI",
        marker="CIRRUS_CI",
        run_url=("https://cirrus-ci.com/task/{CIRRUS_TASK_ID}",),
        job=("{CIRRUS_TASK_NAME}",),
        commit=("{CIRRUS_CHANGE_IN_REPO}",),
        branch=("{CIRRUS_BRANCH}",),
        tag=("{CIRRUS_TAG}",),
        pull=("{CIRRUS_PR}",),
    ),
    Provider(
        name="TeamCity",
        marker="TEAMCITY_VERSION",
        run_url=("{BUILD_URL}",),
        job=("{TEAMCITY_PROJECT_NAME} / {TEAMCITY_BUILDCONF_NAME}", "{TEAMCITY_BUILDCONF_NAME}"),
        commit=("{BUILD_VCS_NUMBER}",),
        branch=(),
    ),
    Provider(
        name="Jenkins",
        marker="JENKINS_URL",
        run_url=("{BUILD_URL}",),
        job=("{JOB_NAME}",),
        commit=("{GIT_COMMIT}",),
        branch=("{BRANCH_NAME}", "{GIT_LOCAL_BRANCH}", "{GIT_BRANCH}"),
        tag=("{TAG_NAME}",),
        pull=("{CHANGE_ID}",),
        pull_branch=("{CHANGE_BRANCH}",),
    ),
)


@dataclass(frozen=True)
class CiRun:
    """The run we are in. Unknown facts are empty."""

    provider: str
    run_url: str = ""
    job: str = ""
    commit: str = ""
    """What the service checked out; on a pull request perhaps a merge commit of its own."""
    branch: str = ""
    pull_request: str = ""
    pull_commit: str = ""
    pull_branch: str = ""
    is_merge: bool = False
    """Whether `commit` is surely the service's own merge of the pull request."""

    def facts(self) -> dict[str, str]:
        """For `schemas.records.Context.ci`."""
        found = {
            "provider": self.provider,
            "run_url": self.run_url,
            "job": self.job,
            "pull_request": self.pull_request,
            "pull_branch": self.pull_branch,
        }
        if self.pull_commit and self.commit not in ("", self.pull_commit):
            found["merge_commit"] = self.commit
        return {name: value for name, value in found.items() if value}


def ci_run(environ: Mapping[str, str], event: Any = None) -> CiRun | None:
    """The CI run that `environ` describes, or None outside of any that we know.

    `event` is the decoded file that GITHUB_EVENT_PATH names, if there is one: on a pull request it alone tells the
    author's commit when there is no checkout to ask.
    """
    provider = next((provider for provider in PROVIDERS if _is_present(provider.marker, environ)), None)
    if provider is None:
        return None
    pull = _fact(provider.pull, environ)
    number = _PULL_NUMBER.fullmatch(pull)
    run = CiRun(
        provider=provider.name,
        run_url=public_url(_fact(provider.run_url, environ)),
        job=_fact(provider.job, environ),
        commit=_commit(_fact(provider.commit, environ)),
    )
    if number:
        return replace(
            run,
            branch=f"pull/{number[1]}",
            pull_request=number[1],
            pull_commit=_commit(_fact(provider.pull_commit, environ)) or _event_head(event),
            pull_branch=_branch(_fact(provider.pull_branch, environ)),
            is_merge=pull.endswith("/merge"),
        )
    branch = "" if _fact(provider.tag, environ) else _branch(_fact(provider.branch, environ))
    return replace(run, branch=branch)


def public_url(url: str) -> str:
    """`url` without user, password and fragment; empty if it is no http(s) URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return ""
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def printable(text: str, limit: int = 200) -> str:
    """`text` on one line, without control characters and lone surrogates, at most `limit` characters."""
    return _UNPRINTABLE.sub(" ", text).strip()[:limit]


def _is_present(marker: str, environ: Mapping[str, str]) -> bool:
    variable, _, value = marker.partition("=")
    found = environ.get(variable, "")
    return found == value if value else found.lower() not in ("", "false", "0")


def _fact(templates: tuple[str, ...], environ: Mapping[str, str]) -> str:
    for template in templates:
        if all(environ.get(variable) for variable in _VARIABLE.findall(template)):
            return printable(_VARIABLE.sub(lambda match: environ[match[1]], template), 500)
    return ""


def _branch(name: str) -> str:
    """A branch's own name; empty for tags and other refs."""
    name = name.removeprefix("refs/heads/").removeprefix("origin/")
    return "" if name.startswith("refs/") or name == "HEAD" else name[:250]


def _commit(text: str) -> str:
    """`text` if it can be a commit id; Buildkite says `HEAD` where it does not know yet."""
    return text if _COMMIT.fullmatch(text) else ""


def _event_head(event: Any) -> str:
    try:
        return _commit(event["pull_request"]["head"]["sha"])
    except (KeyError, TypeError):
        return ""
