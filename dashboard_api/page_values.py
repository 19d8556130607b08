"""What each page shows: the values of its template, from one snapshot.

Lists hold at most a few hundred rows and page on by cursor. Addresses within the pages are made here too.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from dashboard_api import answers, chunks, display, drawing, export, queries, summaries, trends
from dashboard_api.database import Snapshot
from dashboard_api.feed_views import View, address
from dashboard_api.filters import RunFilter, SubmissionFilter
from dashboard_api.resources import Run, Series
from schemas import keys
from schemas.errors import Refused
from schemas.records import Project, SubmissionStatus
from schemas.tables import STATUSES

RUNS_SHOWN = 15
RUNS_LISTED = 100
SERIES_LISTED = 150
CHUNKS_LISTED = 100
ROWS_LISTED = 200
"""Measurements, tests, or values of a series on one page."""
LINES_SHOWN = 30
GRAPH_POINTS = 1000
"""In the drawing without JavaScript."""
OVERLAYS = 12
RUN_FIELDS = ("commit", "branch", "environment", "format", "since", "until", "series", "duplicates")
REFUSED = ("rejected", "quarantined")
FAILED = ("crash", "timeout", "error", "fail", "assert")

_DAY = len("2026-01-01")

Values = dict[str, Any]
"""What a template is filled with."""


class Missing(Exception):
    """The address names something that is not here; the text says what."""


# --- overview and projects ---


def overview(snapshot: Snapshot) -> Values:
    days = summaries.activity(snapshot)
    projects = queries.projects(snapshot)
    cards = [
        {
            "name": one.name,
            "runs": one.runs,
            "series": one.series,
            "last": one.last_received,
            "refused": one.rejected + one.quarantined,
            "spark": drawing.sparkline(days.get(one.name, [])),
        }
        for one in sorted(projects, key=lambda one: one.last_received or datetime.min.replace(tzinfo=UTC), reverse=True)
    ]
    return {
        "here": "projects",
        "projects": cards,
        "waiting": sum(one.announced for one in projects),
        "runs": queries.runs(snapshot, RunFilter(), RUNS_SHOWN).items,
        "refusals": summaries.refusals(snapshot, None, 8),
        "feeds": _feeds(RunFilter(), SubmissionFilter(states=REFUSED)),
    }


def silent(project: str) -> Project:
    """The record of a project that says nothing of itself."""
    return Project(name=project, created=datetime.fromtimestamp(0, UTC))


def project(snapshot: Snapshot, record: Project, *, text: str, environment: str, after: str | None) -> Values:
    project = record.name
    if queries.project(snapshot, project) is None and record == silent(project):
        raise Missing(f"No project is called “{display.cut(project, 64)}”.")
    found = queries.find_series(
        snapshot, project, text=text or None, environment=environment or None, limit=SERIES_LISTED, after=after
    )
    recent = summaries.recent(snapshot, [one.series for one in found.items])
    groups: dict[str, list[Values]] = {}
    for one in sorted(found.items, key=_in_group):
        values = recent[one.series].values if one.series in recent else []
        groups.setdefault(one.benchmark, []).append(
            {
                "series": one,
                "recent": recent.get(one.series),
                "spark": drawing.sparkline(values),
                "change": trends.change(values, one.better),
                "incomplete": _incomplete_before(recent.get(one.series)),
            }
        )
    suites = summaries.suites(snapshot, project)
    base = f"/projects/{project}"
    listing = _url("/api/v1/series", project=project, text=text, environment=environment)
    return {
        "here": "projects",
        "name": project,
        "record": record,
        "links": _formats(listing, "Series"),
        "q": text,
        "environment": environment,
        "environments": summaries.environments(snapshot, project),
        "filtered": bool(text or environment or after),
        "groups": list(groups.items()),
        "any_incomplete": any(line["incomplete"] for lines in groups.values() for line in lines),
        "shown": len(found.items),
        "next": found.next and _url(base, q=text, environment=environment, after=found.next),
        "suites": suites,
        "failing": summaries.failing(snapshot, suites, LINES_SHOWN),
        "fixed": summaries.fixed(snapshot, suites, LINES_SHOWN),
        "test_limit": LINES_SHOWN,
        "runs": queries.runs(snapshot, RunFilter(project=project), RUNS_SHOWN).items,
        "refusals": summaries.refusals(snapshot, project, 5),
        "feeds": _feeds(RunFilter(project=project), SubmissionFilter(project=project, states=REFUSED)),
    }


def _incomplete_before(recent: summaries.Recent | None) -> int:
    """How many of the values that the newest is compared with come from runs that are not complete."""
    levels = recent.completeness[-1 - trends.PREVIOUS : -1] if recent else []
    return sum(level != "complete" for level in levels)


def _in_group(one: Series) -> tuple[str, ...]:
    return one.benchmark, one.params, one.metric, one.unit, one.environment_title, one.series


# --- runs ---


def runs(snapshot: Snapshot, filter: RunFilter, before: str | None) -> Values:
    found = queries.runs(snapshot, filter, RUNS_LISTED, before)
    chosen = filter.query()
    return {
        "here": "runs",
        "project": filter.project,
        "filtered": bool(chosen),
        "chosen": dict.fromkeys(RUN_FIELDS, "") | dict(chosen),
        "labels": [value for name, value in chosen if name == "label"],
        "more": {name for name, _ in chosen} - {"project", "commit", "branch"},
        "runs": found.items,
        "started": before is not None,
        "first": address("/runs", chosen),
        "next": found.next and address("/runs", [*chosen, ("before", found.next)]),
        "json": address("/api/v1/runs", chosen),
        "feeds": _feeds(filter),
    }


def run(snapshot: Snapshot, run_id: str, *, status: str, text: str, after: dict[str, str | None]) -> Values:
    one = queries.run(snapshot, run_id)
    if one is None:
        raise Missing(f"No run has the id “{display.cut(run_id, 64)}”.")
    base = f"/runs/{run_id}"
    measurements = queries.run_measurements(snapshot, run_id, ROWS_LISTED, after["measurements"])
    counts = summaries.test_counts(snapshot, run_id)
    failed = sum(counts.get(one, 0) for one in FAILED)
    chosen = status or ("failed" if failed and not text else "all")
    wanted = {"failed": list(FAILED), "all": None}.get(chosen, [chosen])
    tests = queries.run_tests(snapshot, run_id, ROWS_LISTED, after["tests"], status=wanted, text=text or None)
    tabs = [("all", "All", sum(counts.values()))]
    if failed:
        tabs.insert(0, ("failed", "Failures", failed))
    tabs += [(one, one, counts[one]) for one in STATUSES if one in counts and len(counts) > 1]
    api = f"/api/v1/runs/{run_id}"
    return {
        "here": "runs",
        "run": one,
        "whole": chunks.completeness(snapshot, run_id) if one.chunks_expected else None,
        "chunks": chunks.chunks(snapshot, run_id, CHUNKS_LISTED) if one.chunks_expected else [],
        "measurements": measurements.items,
        "measurements_total": one.measurements,
        "measurements_next": measurements.next
        and _url(base, measurements=measurements.next, status=status, q=text) + "#measurements",
        "counts": counts,
        "tests_total": sum(counts.values()),
        "tabs": [
            {
                "label": label,
                "tests": count,
                "chosen": name == chosen,
                "url": _url(base, status=name, q=text) + "#tests",
            }
            for name, label, count in tabs
        ],
        "status": status,
        "q": text,
        "tests": tests.items,
        "tests_next": tests.next and _url(base, tests=tests.next, status=chosen, q=text) + "#tests",
        "feeds": _feeds(RunFilter(project=one.project)),
        "chunk_limit": CHUNKS_LISTED,
        "links": {name: _formats(f"{api}/{name}") for name in ("chunks", "measurements", "tests")},
        "exports": _exports(one, api),
    }


def _exports(run: Run, api: str) -> list[tuple[str, str]]:
    """Links to the run in other formats; where it has both tables, one for each that may be meant."""
    links: list[tuple[str, str]] = []
    for target in export.fitting(run):
        tables = export.held(run) if not target.table else []
        if len(tables) > 1:
            links += [
                (f"{target.title} ({one})", _url(f"{api}/export", **{"as": target.id, "table": one})) for one in tables
            ]
        else:
            links.append((target.title, _url(f"{api}/export", **{"as": target.id})))
    return links


# --- series ---


def series(snapshot: Snapshot, series_id: str, since: str, until: str, branch: str) -> Values:
    series = queries.series(snapshot, series_id)
    if series is None:
        raise Missing(f"No series has the id “{display.cut(series_id, 64)}”.")
    first, last = _moment(since, "from"), _moment(until, "to")
    if last is not None:
        last += timedelta(days=1) if len(until) == _DAY else timedelta(microseconds=1)
    points = queries.points(snapshot, series_id, branch=branch or None, since=first, until=last, limit=GRAPH_POINTS)
    values = [point.value for point in points]
    scale = display.scale(values or [series.last_value or 0.0], series.unit)
    return {
        "here": "projects",
        "series": series,
        "scale": scale,
        "from_day": since[:_DAY],
        "to_day": until[:_DAY],
        "branch": branch,
        "branches": summaries.branches(snapshot, series_id, 200),
        "graph": drawing.graph(values),
        "points": points[::-1],
        "row_limit": ROWS_LISTED,
        "elsewhere": summaries.elsewhere(snapshot, series_id, OVERLAYS),
        "links": _formats(_url(f"/api/v1/series/{series_id}/points", branch=branch)),
        "feeds": _feeds(RunFilter(series=series_id, branch=branch or None, duplicates=False)),
    }


def _moment(text: str, where: str) -> datetime | None:
    """A day or moment of the address, in UTC unless it says otherwise; Refused 400 if it is none."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Refused(where, "a day or a time, ISO 8601", repr(text)) from error


# --- submissions ---


def submissions(snapshot: Snapshot, filter: SubmissionFilter, before: str | None) -> Values:
    found = queries.submissions(snapshot, filter, RUNS_LISTED, before)
    counts = queries.states(snapshot, filter)
    chosen = filter.query()
    others = [(name, value) for name, value in chosen if name != "state"]
    states = [("", "all", sum(counts.values())), *((one, one, counts.get(one, 0)) for one in queries.STATES)]
    return {
        "here": "submissions",
        "project": filter.project,
        "narrowed": bool(chosen),
        "besides": [f"{name} {value}" for name, value in others if name != "project"],
        "tabs": [
            {
                "label": label,
                "submissions": count,
                "chosen": list(filter.states) == ([name] if name else []),
                "url": address("/submissions", [*others, ("state", name)] if name else others),
            }
            for name, label, count in states
        ],
        "rows": found.items,
        "started": before is not None,
        "first": address("/submissions", chosen),
        "next": found.next and address("/submissions", [*chosen, ("before", found.next)]),
        "json": address("/api/v1/submissions", chosen),
        "feeds": _feeds(filter),
    }


def announced(snapshot: Snapshot, submission_id: str) -> Values:
    status = queries.submission(snapshot, submission_id)
    if status is None or status.seq is None:
        raise Missing(f"No submission has the id {submission_id}.")
    runs = summaries.runs_of_submission(snapshot, status.seq, RUNS_LISTED)
    return submission(status, summaries.progress(snapshot, status.seq), runs)


def submission(status: SubmissionStatus, progress: summaries.Progress | None, runs: list[summaries.RunLine]) -> Values:
    return {
        "here": "submissions",
        "one": status,
        "final": status.state in ("accepted", "rejected", "quarantined", "withdrawn"),
        "announced": progress and progress.announced,
        "finished": progress and progress.finished,
        "runs": runs,
        "feeds": _feeds(SubmissionFilter(project=status.project)),
        "record": "/" + keys.submission(status.id),
    }


# --- addresses ---


def _url(path: str, **parameters: str) -> str:
    """`path` with those parameters that are not empty."""
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f"{path}?{query}" if query else path


def _feeds(*filters: RunFilter | SubmissionFilter) -> list[tuple[str, str, str]]:
    """Title, and addresses as Atom and as JSON Feed, of the lists that a page shows."""
    views = [View.of(filter) for filter in filters]
    return [(view.title, view.address(answers.ATOM), view.address(answers.JSON_FEED)) for view in views]


def _formats(url: str, what: str = "") -> list[tuple[str, str]]:
    """Links to the same rows as JSON, CSV and Arrow."""
    path, mark, query = url.partition("?")
    kinds = (("JSON", ""), ("CSV", ".csv"), ("Arrow", ".arrow"))
    return [(f"{what} as {name}" if what else name, f"{path}{suffix}{mark}{query}") for name, suffix in kinds]
