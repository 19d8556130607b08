"""What a feed's entries say: runs and submissions in words, for ordinary feed readers.

Come in: rows of a list, from one snapshot. Goes out: a FeedEntry per row. What strangers wrote is cut to a readable
length, escaped, and freed of the characters that XML forbids. Who sent a file stands in its submission, so these are
read too: no page that is stored for good names anybody.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import msgspec

from dashboard_api import display
from dashboard_api.database import Snapshot
from dashboard_api.feeds import FeedEntry, File
from dashboard_api.paging import rows_of
from dashboard_api.rendering import Fragments
from dashboard_api.resources import Row, Run, SubmissionRow
from feed.atom import feed_id, legal
from infra.bucket import Bucket
from schemas import keys
from schemas.records import Category, Problem, Submission

FILES_NAMED = 20
"""Of a run in chunks."""

LABELS_NAMED = 50
"""As categories."""

REQUESTS_AT_ONCE = 16
"""To storage, to hide its latency."""

PROBLEMS_TOLD = 10
UNREAD_TOLD = 10
_TITLE_LENGTH = 200
_TERM_LENGTH = 200

_STATUS = """
    s.id, s.seq, s.state, s.title, s.sha256, s.size_bytes, s.media_type, s.announced, s.problems,
    s.problems_total, s.unread, s.reason, s.withdrawn
"""
_OF_SUBMISSIONS = f"""
SELECT s.seq::VARCHAR AS of, {_STATUS}, s.finished FROM submission_states s WHERE s.seq IN (SELECT unnest($seqs))
"""
_OF_RUNS = f"""
SELECT r.run AS of, {_STATUS}, max(s.finished) OVER (PARTITION BY r.run) AS finished
FROM (SELECT DISTINCT run, seq FROM runs WHERE run IN (SELECT unnest($runs))) r JOIN submission_states s USING (seq)
QUALIFY row_number() OVER (PARTITION BY r.run ORDER BY s.seq) <= {FILES_NAMED} ORDER BY s.seq
"""


class Sent(Row, frozen=True, kw_only=True):
    """A file behind an entry: where it stands, and why."""

    of: str
    """The entry's run, or its seq."""
    id: str
    seq: int
    state: str
    title: str | None
    sha256: str
    size_bytes: int
    media_type: str
    announced: datetime
    finished: datetime | None
    """Of the newest file, where a run has several."""
    problems: list[Problem] | None
    problems_total: int
    unread: dict[str, int] | None
    reason: str | None
    withdrawn: datetime | None
    sender: str = ""
    """Public name of the token or runner it was sent with."""


def authority(snapshot: Snapshot) -> str:
    """What tells this installation's feeds from others'; "" of logs of earlier releases."""
    found = snapshot.rows("SELECT authority FROM authorities WHERE log = ?", [keys.SUBMISSIONS_LOG])
    return str(found[0]["authority"]) if found else ""


# --- runs ---


def run_entries(
    snapshot: Snapshot, public: Bucket, fragments: Fragments, runs: Sequence[Run], base: str
) -> list[FeedEntry]:
    """An entry per run. `base` is the server's address, without a slash at its end."""
    sent = _sent(snapshot, public, _OF_RUNS, {"runs": [run.run for run in runs]})
    return [_run_entry(fragments, run, sent.get(run.run, []), base) for run in runs]


def _run_entry(fragments: Fragments, run: Run, sent: list[Sent], base: str) -> FeedEntry:
    page = f"{base}/runs/{run.run}"
    facts = [
        ("Commit", run.commit and f"{run.commit} {run.commit_subject or ''}"),
        ("Branch", run.branch),
        ("Environment", run.environment_title),
        ("Machine", ", ".join(_machine(run))),
        ("Started", run.started),
        ("Finished", run.finished),
        ("Received", run.received),
        ("Tests", _tests(run)),
        ("Chunks", run.chunks_expected and f"{run.chunks_present} of {run.chunks_expected}, {run.completeness}"),
        ("Format", run.format),
        ("Labels", ", ".join(f"{key}={value}" for key, value in sorted(run.labels.items()))),
        ("Sent by", ", ".join(_authors("", sent))),
        ("Repeats", run.duplicate_of and "a run that was sent before; it counts nowhere"),
    ]
    categories = [
        ("project", run.project),
        ("format", run.format),
        ("branch", run.branch),
        ("environment", run.environment_title),
        *(("label", f"{key}={value}") for key, value in sorted(run.labels.items())[:LABELS_NAMED]),
    ]
    counts = _counts(run.measurements, run.tests) + (f" ({run.failed:,} failed)" if run.failed else "")
    of, at = run.title or run.format, f" at {display.short(run.commit)}" if run.commit else ""
    return FeedEntry(
        id=f"urn:x-runfeed:run:{run.run}",
        title=_line(f"{run.project}: {counts} of {of}{at} on {display.cut(run.environment_title, 60)}"),
        published=run.received,
        updated=max([run.received, *(one.finished for one in sent if one.finished)]),
        authors=_authors(run.project, sent),
        page=page,
        resources=(f"{base}/api/v1/runs/{run.run}", *(f"{base}/api/v1/submissions/{one.id}" for one in sent)),
        summary=_line(run.commit_subject or counts),
        html=_html(fragments, page, counts, facts, sent=sent, base=base),
        categories=_categories(categories),
        files=tuple(_file(one, base) for one in sent),
    )


def _machine(run: Run) -> list[str]:
    cores = f"{run.cores} cores" if run.cores else None
    ram = f"{run.ram_gib} GiB RAM" if run.ram_gib else None
    return [part for part in (run.cpu, cores, ram, run.os, run.runtime) if part]


def _tests(run: Run) -> str:
    return f"{run.passed:,} of {run.tests:,} passed, {run.failed:,} failed" if run.tests else ""


# --- submissions ---


def submission_entries(
    snapshot: Snapshot, public: Bucket, fragments: Fragments, rows: Sequence[SubmissionRow], base: str
) -> list[FeedEntry]:
    """An entry per submission, of the same id as in the stored log, so that readers of both show it once."""
    sent = _sent(snapshot, public, _OF_SUBMISSIONS, {"seqs": [row.seq for row in rows]})
    log = feed_id(keys.SUBMISSIONS_LOG, authority(snapshot))
    return [_submission_entry(fragments, row, sent[str(row.seq)][0], base, log) for row in rows]


def _submission_entry(fragments: Fragments, row: SubmissionRow, sent: Sent, base: str, log: str) -> FeedEntry:
    page = f"{base}/submissions/{row.id}"
    gone = row.state == "withdrawn"
    counts = _counts(row.measurements, row.tests)
    facts = [
        ("Reason", sent.reason),
        ("Withdrawn", sent.withdrawn),
        ("Received", row.received),
        ("Announced", row.announced),
        ("Finished", row.finished),
        ("Rows", f"{_counted(row.runs, 'run')}, {counts}" if row.runs else ""),
        ("Format", row.format),
        ("File", f"{display.size(row.size_bytes)} of {row.media_type}"),
        ("Number", f"{row.seq:,}"),
        ("Sent by", sent.sender),
    ]
    first = sent.problems[0] if sent.problems else None
    summaries = {
        "accepted": counts,
        "announced": "waits for its outcome",
        "withdrawn": sent.reason or "the file and its rows are gone",
    }
    return FeedEntry(
        id=f"{log}:{row.id}",
        title=_line(f"{row.state}: {sent.title or f'{row.project}: submission {row.id[:10]}'}"),
        published=row.received,
        updated=max(time for time in (row.announced, row.finished, sent.withdrawn) if time),
        authors=_authors(row.project, [sent]),
        page=page,
        resources=(f"{base}/api/v1/submissions/{row.id}",),
        summary=_line(summaries.get(row.state) or str(first or "no reason recorded")),
        html=_html(fragments, page, f"{row.state}: {row.project}", facts, sent=[sent], base=base),
        categories=_categories([("project", row.project), ("format", row.format), ("state", row.state)]),
        files=() if gone else (_file(sent, base),),
    )


# --- both ---


def _sent(snapshot: Snapshot, public: Bucket, sql: str, parameters: dict[str, Any]) -> dict[str, list[Sent]]:
    files = rows_of(snapshot.arrow(sql, parameters), Sent)
    with ThreadPoolExecutor(REQUESTS_AT_ONCE, "feed") as pool:
        senders = list(pool.map(lambda one: "" if one.state == "withdrawn" else _sender(public, one.id), files))
    found: dict[str, list[Sent]] = {}
    for one, sender in zip(files, senders, strict=True):
        problems = msgspec.convert(one.problems or [], list[Problem])
        found.setdefault(one.of, []).append(msgspec.structs.replace(one, problems=problems, sender=sender))
    return found


def _sender(public: Bucket, submission_id: str) -> str:
    try:
        trust = msgspec.json.decode(public.read(keys.submission(submission_id)), type=Submission).trust
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return trust.name if trust.kind in ("token", "runner") else ""


def _authors(project: str, sent: Sequence[Sent]) -> tuple[str, ...]:
    """The project, and who sent its files."""
    return tuple(dict.fromkeys(legal(name) for name in (project, *(one.sender for one in sent)) if name))


def _html(
    fragments: Fragments, page: str, heading: str, facts: list[tuple[str, Any]], *, sent: list[Sent], base: str
) -> str:
    problems = [problem for one in sent for problem in one.problems or ()]
    unread = [pair for one in sent for pair in (one.unread or {}).items()]
    return legal(
        fragments.render(
            {
                "page": page,
                "heading": heading,
                "facts": [(name, value) for name, value in facts if value],
                "sent": sent,
                "base": base,
                "blob": keys.blob,
                "withdrawal": keys.withdrawal,
                "problems": problems[:PROBLEMS_TOLD],
                "problems_total": sum(one.problems_total for one in sent),
                "unread": unread[:UNREAD_TOLD],
                "unread_total": len(unread),
            }
        )
    )


def _counts(measurements: int, tests: int) -> str:
    parts = [_counted(count, noun) for count, noun in ((measurements, "measurement"), (tests, "test")) if count]
    return " and ".join(parts) or "no rows"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _line(text: str) -> str:
    return display.cut(" ".join(legal(text).split()), _TITLE_LENGTH)


def _categories(pairs: Sequence[tuple[str, str | None]]) -> tuple[Category, ...]:
    return tuple(Category(scheme=scheme, term=display.cut(legal(term), _TERM_LENGTH)) for scheme, term in pairs if term)


def _file(sent: Sent, base: str) -> File:
    return File(f"{base}/{keys.blob(sent.sha256)}", legal(sent.media_type), sent.size_bytes)
