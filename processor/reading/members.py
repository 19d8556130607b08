"""What may stand in an archive: a member's place in its bytes, and which paths are taken. Pure.

Nothing of an archive is ever written to disk; still a path that could leave a folder is refused, so that nobody who
later unpacks a stored blob is harmed by what we have called good.
"""

import re
from dataclasses import dataclass

from processor.reading.decode import DecodeLimits, rejected

_MAX_PATH_CHARACTERS = 4096
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Member:
    """A regular file in an archive: `stored_bytes` from `start`, which become `size_bytes`."""

    name: str
    start: int
    stored_bytes: int
    size_bytes: int
    deflated: bool = False
    crc: int | None = None
    """CRC-32 of the decoded bytes, where the archive has one."""


class Members:
    """Collects an archive's members in its order. Raises Rejected for too many, a bad path, or one that comes twice.

    `kind` is `zip` or `tar`, for the problems.
    """

    def __init__(self, kind: str, limits: DecodeLimits) -> None:
        self.kind = kind
        self.of_path: dict[str, Member] = {}
        self._limits = limits
        self._count = 0

    @property
    def where(self) -> str:
        """The member being looked at."""
        return f"{self.kind} member {self._count}"

    def begin(self) -> None:
        """The next member, of whatever type: each counts."""
        self._count += 1
        if self._count > self._limits.max_members:
            raise rejected(self.kind, f"at most {self._limits.max_members:,} members", "more")

    def path(self, raw: str) -> str:
        """`raw` as `a/b/c`; empty for the archive's own folder, `./`. Raises Rejected if it is no safe path."""
        if "\0" in raw or "\\" in raw or raw.startswith("/") or _DRIVE.match(raw):
            raise rejected(self.where, "a relative path with forward slashes", repr(raw[:200]))
        if len(raw) > _MAX_PATH_CHARACTERS:
            raise rejected(self.where, f"a path of at most {_MAX_PATH_CHARACTERS:,} characters", f"{len(raw):,}")
        steps = raw.split("/")
        if ".." in steps:
            raise rejected(self.where, "a path that stays inside the archive", repr(raw[:200]))
        return "/".join(step for step in steps if step not in ("", "."))

    def add(self, member: Member) -> None:
        """A regular file. `member.name` is a result of `path`."""
        if not member.name:
            raise rejected(self.where, "a path", "an empty one")
        if member.name in self.of_path:
            raise rejected(self.where, "each path once", f"{member.name!r} a second time")
        self.of_path[member.name] = member
