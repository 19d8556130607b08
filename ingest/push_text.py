"""What `runfeed push` and `runfeed status` print, as plain lines. Pure.

Much of it comes from strangers (a file's problems, a server's words, a commit's subject), so everything passes
`plain`, which leaves a terminal nothing to obey.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ingest.ci import printable
from ingest.pack import Packed
from ingest.push import Delivery
from schemas.identity import environment_title
from schemas.records import Commit, Context, Machine, SubmissionStatus

_INDENT = "  "


def plain(text: object, limit: int = 1000) -> str:
    """`text` on one line without control characters."""
    return printable(str(text), limit)


def size_text(size_bytes: int) -> str:
    """`1,234 bytes`, `1.2 MiB`."""
    if size_bytes < 100_000:
        return f"{size_bytes:,} bytes"
    if size_bytes < 1 << 30:
        return f"{size_bytes / (1 << 20):,.1f} MiB"
    return f"{size_bytes / (1 << 30):,.1f} GiB"


def packed_line(packed: Packed) -> str:
    """One file in one line."""
    how = "" if packed.encoding == "identity" else f", {packed.encoding}"
    return (
        f"{plain(packed.name)}: {size_text(packed.size_bytes)}, {packed.media_type}{how}, sha256 {packed.sha256[:16]}"
    )


def context_lines(context: Context) -> Iterator[str]:
    """What would be published of where the files came from, one fact a line."""
    if context.commit:
        yield f"{_INDENT}commit       {_commit_text(context.commit)}"
    title = environment_title(context.environment, context.machine or Machine())
    yield f"{_INDENT}environment  {plain(title)}"
    if context.environment and context.machine:
        yield f"{_INDENT}machine      {plain(environment_title('', context.machine))}"
    if context.ci:
        yield f"{_INDENT}ci           {plain(', '.join(f'{name} {value}' for name, value in context.ci.items()))}"
    if context.labels:
        yield f"{_INDENT}labels       {plain(', '.join(f'{name}={value}' for name, value in context.labels.items()))}"
    if chunk := context.chunk:
        yield f"{_INDENT}chunk        {chunk.index} of {chunk.total} of run {plain(chunk.group)}"
    if context.supersedes:
        yield f"{_INDENT}supersedes   {context.supersedes}"


def _commit_text(commit: Commit) -> str:
    parts = [
        plain(commit.id)[:12],
        f"on {commit.branch}" if commit.branch else "",
        f"{commit.time:%Y-%m-%d %H:%M} UTC" if commit.time else "",
        f'"{commit.subject[:60]}"' if commit.subject else "",
        "with uncommitted changes" if commit.dirty else "",
        "(given by hand)" if commit.declared else "",
    ]
    return plain("  ".join(part for part in parts if part))


def delivery_lines(delivery: Delivery, page: str) -> Iterator[str]:
    """What came of sending one file. `page` is the absolute address of the submission's page."""
    name = plain(delivery.packed.name)
    if receipt := delivery.receipt:
        yield f"{name}: {'already submitted' if receipt.status == 'known' else 'submitted'}"
        yield f"{_INDENT}page  {plain(page)}"
        yield f"{_INDENT}id    {plain(receipt.id)}"
        return
    if delivery.dropped:
        yield f"{name}: dropped into the inbox"
        yield f"{_INDENT}at    {plain(delivery.dropped.url)}"
        return
    yield f"{name}: not delivered: {plain(delivery.error)}"
    if delivery.spooled:
        yield f"{_INDENT}It is kept in the spool and goes with the next push, or with: runfeed push --flush"
    if delivery.refused:
        yield f"{_INDENT}It will not be sent again and is kept in {plain(delivery.refused)}"


def status_lines(status: SubmissionStatus) -> Iterator[str]:
    """Where a submission stands: its state, why it was withdrawn, and every problem that is known."""
    counts = [
        f"{number:,} {noun}{'' if number == 1 else 's'}"
        for number, noun in ((len(status.runs), "run"), (status.measurements, "measurement"), (status.tests, "test"))
        if number
    ]
    yield f"{status.state}{': ' if counts else ''}{', '.join(counts)}"
    if status.reason:
        yield f"{_INDENT}{plain(status.reason)}"
    for problem in status.problems:
        yield f"{_INDENT}{plain(problem)}{' (kept)' if problem.effect == 'kept' else ''}"
    if (more := status.problems_total - len(status.problems)) > 0:
        yield f"{_INDENT}and {more:,} more problem{'' if more == 1 else 's'}"


def tree_lines(value: Any, indent: str = "") -> Iterator[str]:
    """Any JSON value, one fact a line, nested by indentation."""
    if not isinstance(value, dict):
        value = dict(enumerate(value)) if isinstance(value, list) else {"": value}
    width = max((len(plain(name)) for name, inner in value.items() if not isinstance(inner, dict | list)), default=0)
    for name, inner in value.items():
        if isinstance(inner, dict | list):
            yield f"{indent}{plain(name)}{'' if inner else '  none'}"
            yield from tree_lines(inner, indent + _INDENT)
        else:
            shown = f"{inner:,}" if isinstance(inner, int) and not isinstance(inner, bool) else plain(inner)
            yield f"{indent}{plain(name):<{width}}  {shown}"


def packed_json(packed: Packed, to: str) -> bytes:
    """What would be sent, as one line of JSON."""
    return msgspec.json.encode(
        {
            "file": packed.name,
            "to": to,
            "project": packed.project,
            "format": packed.format,
            "sha256": packed.sha256,
            "size_bytes": packed.size_bytes,
            "media_type": packed.media_type,
            "encoding": packed.encoding,
            "context": packed.context,
        }
    )


def delivery_json(
    delivery: Delivery, *, to: str, page: str, status: SubmissionStatus | None, exit_status: int, spool_folder: Path
) -> bytes:
    """What came of one file, as one line of JSON: `status` is created, known, dropped, spooled, refused or failed."""
    spooled = delivery.spooled
    outcome = "dropped" if delivery.dropped else "spooled" if spooled else "refused" if delivery.refused else "failed"
    return msgspec.json.encode(
        {
            "file": delivery.packed.name,
            "to": to,
            "project": delivery.packed.project,
            "sha256": delivery.packed.sha256,
            "status": delivery.receipt.status if delivery.receipt else outcome,
            "exit_status": exit_status,
            "receipt": delivery.receipt,
            "page": page,
            "dropped": delivery.dropped.url if delivery.dropped else "",
            "submission": status,
            "error": plain(delivery.error) if delivery.error else "",
            "kept": str(spool_folder / spooled.key if spooled else delivery.refused or ""),
        }
    )
