"""The error tree. It answers one question: does trying again help?

    RunfeedError
    ├── Refused        no: the request or the file is wrong; says where, what was expected, what was found
    │   └── Rejected   no: the content of one blob; carries every problem found in it
    └── Unavailable    yes, later: the world around us failed
        ├── StorageFull    when somebody has made room
        └── SwapLost       at once: somebody else wrote first; read again, decide again

Absent and present objects are FileNotFoundError and FileExistsError, as everywhere in Python.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.records import Problem


class RunfeedError(Exception):
    """Any error that Runfeed raises on purpose."""


class Refused(RunfeedError):
    """The request is wrong; the same request fails again.

    `status` is the HTTP status that says the same (400 malformed, 401, 403, 404, 408, 410, 413, 415, 422, 429).
    """

    def __init__(self, where: str, expected: str, found: str, *, status: int = 400) -> None:
        super().__init__(f"{where}: expected {expected}, found {found}")
        self.where = where
        self.expected = expected
        self.found = found
        self.status = status


class Rejected(RunfeedError):
    """A blob gives no rows; `problems` lists why, all that were found."""

    def __init__(self, problems: "Sequence[Problem]") -> None:
        super().__init__("; ".join(str(problem) for problem in problems[:3]) or "no reason given")
        self.problems = list(problems)


class Unavailable(RunfeedError):
    """Something outside failed (storage, network); the same call may work later."""


class StorageFull(Unavailable):
    """There is no room left for the object; nothing of it was kept."""


class SwapLost(Unavailable):
    """The object changed since it was read: read it again and decide again."""
