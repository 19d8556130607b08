"""Why submissions are refused, in a few classes: what metrics and the quality page count by.

A class follows from the first problem of a submission that was rejected or quarantined. The rules are data, so that
Python and SQL read the same ones: each is a regular expression that both understand, at the start of one field.
"""

import re
from dataclasses import dataclass
from typing import Literal

from schemas.records import Problem


@dataclass(frozen=True)
class Reason:
    """One class. `pattern` decides, if the problem's `field` begins so; the first rule of a verdict that fits wins."""

    id: str
    verdict: Literal["rejected", "quarantined"]
    title: str
    field: Literal["expected", "found"]
    pattern: str


REASONS = (
    Reason(
        "unknown_format",
        "rejected",
        "not one of the known formats, or not clear which",
        "expected",
        r"one of (the formats|auto)|content that one format claims|a benchmark (of|that)|benchmark:NAME",
    ),
    Reason(
        "too_large",
        "rejected",
        "beyond a limit of size, ratio, depth or number",
        "expected",
        r"(extended headers of |a path of |names and params that make )?at most |nesting of at most "
        r"|an archive within the limits|a result small enough",
    ),
    Reason(
        "malformed",
        "rejected",
        "damaged or cut off: not well-formed",
        "expected",
        r"well-formed |UTF-8|a whole |a result file|[\d,]+ bytes with the checksum",
    ),
    Reason("content", "rejected", "well-formed, but not what its format says", "expected", ""),
    Reason("memory", "quarantined", "needed more memory than a transform may have", "found", r"it needs more memory"),
    Reason("time", "quarantined", "took longer than a transform may", "found", r"it (computes for|takes) longer"),
    Reason("crash", "quarantined", "ended the process that read it", "found", r"the process (that read it )?ended|the "
           r"process that read it was ended"),
    Reason("gone", "quarantined", "its file is gone from the bucket", "found", r"an object is gone"),
    Reason("bug", "quarantined", "met an error of ours", "found", ""),
)  # fmt: skip
"""The last rule of each verdict fits everything."""


def reason_of(verdict: str, problem: Problem | None) -> str:
    """The id of the class that a refused submission with this first problem is in."""
    for reason in REASONS:
        text = getattr(problem, reason.field) if problem else ""
        if reason.verdict == verdict and re.match(reason.pattern, text):
            return reason.id
    raise ValueError(f"expected a verdict of a refused submission, found {verdict!r}")


def quarantine_reason(text: str) -> str:
    """The same for what went wrong with a transform."""
    return reason_of("quarantined", Problem(where="", expected="", found=text))
