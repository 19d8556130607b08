"""Which rows a list shows: the filters of runs and of submissions, as addresses carry them. Pure.

A list's page, its JSON and its feeds take the same parameters, so that each leads to the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from schemas.errors import Refused

Query = list[tuple[str, str]]
"""Parameters of an address, in a fixed order."""


@dataclass(frozen=True)
class RunFilter:
    """Which runs; what is None does not matter. `since` (inclusive) and `until` are of `received`."""

    project: str | None = None
    commit: str | None = None
    """The commit id's first characters, at least 4."""
    branch: str | None = None
    environment: str | None = None
    """A fingerprint or a title."""
    labels: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None
    format: str | None = None
    series: str | None = None
    """Runs that measured it."""
    duplicates: bool = True
    """Whether to show runs that were sent before."""

    def query(self) -> Query:
        return _query(
            [
                ("project", self.project),
                ("commit", self.commit),
                ("branch", self.branch),
                ("environment", self.environment),
                *_labels(self.labels),
                ("since", _time(self.since)),
                ("until", _time(self.until)),
                ("format", self.format),
                ("series", self.series),
                ("duplicates", None if self.duplicates else "false"),
            ]
        )


@dataclass(frozen=True)
class SubmissionFilter:
    """Which submissions; what is None or empty does not matter."""

    project: str | None = None
    states: Sequence[str] = ()
    """Any of these."""
    format: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of at least one of its runs."""

    def query(self) -> Query:
        states = [("state", state) for state in sorted(set(self.states))]
        return _query([("project", self.project), *states, ("format", self.format), *_labels(self.labels)])


EVERY_SUBMISSION = SubmissionFilter()


def parsed_time(text: str | None, where: str) -> datetime | None:
    """A time in UTC, or Refused 400."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Refused(where, "an ISO 8601 time (with + written as %2B)", repr(text[:80])) from error


def parsed_labels(labels: Sequence[str] | None) -> dict[str, str]:
    """`key=value` texts as a dict, or Refused 400."""
    parsed: dict[str, str] = {}
    for label in labels or ():
        key, separator, value = label.partition("=")
        if not separator or not key:
            raise Refused("label", "key=value", repr(label[:80]))
        if parsed.setdefault(key, value) != value:
            raise Refused("label", f"one value of {key[:80]!r}", "two")
    return parsed


def _query(pairs: Sequence[tuple[str, str | None]]) -> Query:
    return [(name, value) for name, value in pairs if value is not None]


def _labels(labels: Mapping[str, str]) -> Query:
    return [("label", f"{key}={value}") for key, value in sorted(labels.items())]


def _time(time: datetime | None) -> str | None:
    """The day alone where that says the same."""
    text = time.isoformat().replace("+00:00", "Z") if time else None
    return text.removesuffix("T00:00:00Z") if text else None
