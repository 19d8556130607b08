"""What git knows of the commit that was measured: id, parents, time, subject, branch, uncommitted changes.

Git is asked in the current folder, with a bounded time, and may be absent, ownerless, shallow or broken: then facts
are missing and `note` says why. Commits are read raw (`cat-file`), because only the raw object names its parents in a
shallow clone. Authors and remote URLs are never asked for.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ingest.ci import printable
from schemas.records import Commit

TIMEOUT_SECONDS = 5.0
"""For all questions together; a huge tree on a slow disk must not keep a result from being sent."""

_COMMITTER = re.compile(r"^committer .*> (\d{1,12}) [+-]\d{4}$", re.MULTILINE)
_PARENT = re.compile(r"^parent ([0-9a-f]{40,64})$", re.MULTILINE)
_CODEC = re.compile(rb"^encoding (\S+)$", re.MULTILINE)
_MAIL = re.compile(r"<?[\w.+-]+@[\w-]+(?:\.[\w-]+)+>?")


@dataclass
class Repository:
    """The repository around a folder. Every question may come back empty."""

    folder: Path
    environ: Mapping[str, str]
    deadline: float = field(default_factory=lambda: time.monotonic() + TIMEOUT_SECONDS)
    note: str = ""
    """Why the last question had no answer, in git's own words."""

    def name(self) -> str:
        """What the repository's folder is called; of a linked worktree, its main repository's. Empty outside of any."""
        common = self._text("rev-parse", "--git-common-dir")
        if not common:
            return ""
        path = (self.folder / common).resolve()
        return path.parent.name if path.name == ".git" else path.name.removesuffix(".git")

    def commit(self, revision: str) -> Commit | None:
        """The commit that `revision` means, or None if there is none or its object is missing."""
        if not revision or revision.startswith("-"):
            return None
        found = self._text("rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}")
        raw = self._ask("cat-file", "commit", found) if found else None
        return parse_commit(found, raw) if raw is not None else None

    def branch(self) -> str:
        """The branch that is checked out; empty on a detached HEAD."""
        return printable(self._text("symbolic-ref", "--quiet", "--short", "HEAD"), 250)

    def dirty(self) -> bool | None:
        """Whether tracked files differ from HEAD. Untracked ones do not count: the result itself is often one."""
        changed = self._ask("status", "--porcelain", "--untracked-files=no")
        return None if changed is None else bool(changed.strip())

    def _text(self, *arguments: str) -> str:
        return (self._ask(*arguments) or b"").decode(errors="replace").strip()

    def _ask(self, *arguments: str) -> bytes | None:
        git = shutil.which("git", path=self.environ.get("PATH"))
        if git is None:
            self.note = "git is not installed"
            return None
        try:
            done = subprocess.run(  # noqa: S603  git itself, with words of ours and a checked revision
                [git, "-c", "core.fsmonitor=false", "--no-replace-objects", *arguments],
                cwd=self.folder,
                env={**self.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=max(0.1, self.deadline - time.monotonic()),
                check=False,
            )
        except subprocess.TimeoutExpired:
            self.note = f"git {arguments[0]} took too long"
            return None
        except OSError as error:
            self.note = f"git {arguments[0]}: {error.strerror}"
            return None
        if done.returncode != 0:
            words = printable(done.stderr.decode(errors="replace").partition("\n")[0])
            self.note = words.removeprefix("fatal: ") or self.note
            return None
        return done.stdout


def parse_commit(commit_id: str, raw: bytes) -> Commit:
    """The facts in a raw commit object. The subject is the message's first paragraph on one line, without e-mail
    addresses."""
    header_bytes, _, message_bytes = raw.partition(b"\n\n")
    codec = _CODEC.search(header_bytes)
    try:
        message = message_bytes.decode(codec[1].decode("ascii", "replace") if codec else "utf-8", "replace")
    except LookupError:
        message = message_bytes.decode("utf-8", "replace")
    header = header_bytes.decode("utf-8", "replace")
    committed = _COMMITTER.search(header)
    paragraph = message.strip("\n").partition("\n\n")[0]
    return Commit(
        id=commit_id,
        parents=_PARENT.findall(header),
        time=_time(committed[1]) if committed else None,
        subject=printable(_MAIL.sub("", " ".join(paragraph.split()))),
    )


def _time(seconds: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return None  # beyond the year 9999
