"""The sample library as a git repository: one commit per step.

Everything here calls the real git, cut off from the user's and the machine's git settings, so that the same steps give
the same commit ids everywhere.
"""

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest.ci import PROVIDERS
from tests.demo.change import Tree
from tests.demo.history import Step

AUTHOR = "Demo Author"
EMAIL = "demo@example.org"


@dataclass(frozen=True)
class Committed:
    """A step that git knows under `id`."""

    id: str
    step: Step

    @property
    def title(self) -> str:
        return f"{self.id[:7]} {self.step.change.subject}"


def sample_environ() -> dict[str, str]:
    """This process's environment without what would make git, pytest or Python act differently in the sample.

    What tells that this is a CI job goes as well: the results belong to the sample's commits, not to the job's.
    """
    ci = {provider.marker.partition("=")[0] for provider in PROVIDERS}
    foreign = ("GIT_", "PYTEST_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if name not in ci and not name.startswith(foreign)}
    return kept | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}


def write_commits(repository: Path, steps: Iterable[Step]) -> Iterator[Committed]:
    """Commit `steps` in order in a new `repository`; each comes out while its files are the ones checked out."""
    _git(Path(), "init", "--quiet", "--initial-branch", "main", str(repository))
    before: Tree = {}
    for step in steps:
        for path, text in step.tree.items():
            if before.get(path) != text:
                file = repository / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8", newline="\n")
        before = step.tree
        _git(repository, "add", "--all")
        _git(repository, "commit", "--quiet", "--message", step.change.subject, at=step.committed.isoformat())
        yield Committed(_git(repository, "rev-parse", "HEAD"), step)


def _git(folder: Path, *arguments: str, at: str = "") -> str:
    who = {
        f"GIT_{role}_{fact}": value
        for role in ("AUTHOR", "COMMITTER")
        for fact, value in (("NAME", AUTHOR), ("EMAIL", EMAIL), ("DATE", at))
        if value
    }
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=sample_environ() | who, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()
