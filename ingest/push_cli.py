"""The commands `runfeed push` and `runfeed status`: options in, exit status out.

The process's environment, folder and streams are read here and passed on; the rest of the client reads none of them.

Exit statuses of `push`: 0 delivered (with --wait: accepted), 1 rejected, 2 not delivered, 3 quarantined or not finished
in time. Of several files the worst counts, in the order 0, 1, 3, 2.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from ingest import push_text
from ingest.pack import (
    PARTS,
    Choices,
    Origin,
    Packed,
    files_of,
    find_origin,
    keep_stream,
    pack,
    parse_chunk,
    parse_submission_id,
)
from ingest.push import (
    DELIVERED,
    FINAL_STATES,
    NOT_DELIVERED,
    UNFINISHED,
    Delivery,
    Server,
    Target,
    checked_token,
    checked_url,
    deliver,
    exit_status,
    flush_spool,
    is_loopback,
    trusted,
    worst,
)
from ingest.push_drop import DropBox, is_drop_url
from ingest.push_screen import Screen
from ingest.push_text import plain
from ingest.spool import Spool, spool_folder
from schemas.errors import Refused, RunfeedError
from schemas.keys import OWN_SCHEMA, checked_project, parse_benchmark_format
from schemas.records import SubmissionStatus

DEFAULT_URL = "http://127.0.0.1:8765"

_STATUS_SECONDS = 10.0


@dataclass(frozen=True)
class Order:
    """What one `runfeed push` was asked to do, checked."""

    to: str
    box: DropBox | None
    """The inbox to drop into, if `to` is none of a server."""
    token: str
    ca: Path | None
    wait: bool
    timeout_seconds: float
    spool: Spool
    may_spool: bool
    flush: bool
    as_json: bool


class PairType(click.ParamType[tuple[str, str]]):
    """`KEY=VALUE`."""

    name = "KEY=VALUE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not name.strip() or not equals:
            self.fail(f"expected KEY=VALUE, found {value!r}", param, ctx)
        return name.strip(), text.strip()


_CA = click.option(
    "--ca",
    envvar="RUNFEED_CA",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file of the only authorities that may vouch for the server.  [default: the machine's]",
)


@click.command()
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option("--project", envvar="RUNFEED_PROJECT", help="Default: the git repository's name, else 'default'.")
@click.option("--format", "format_", default="auto", show_default=True, help="The file's format id.")
@click.option("--benchmark", default="", metavar="NAME", help="The file is a result of this benchmark of the project.")
@click.option("--commit", default="", help="What was measured: a git revision, or any id. Default: HEAD.")
@click.option("--branch", default="", help="Default: the branch that is checked out, or the CI run's.")
@click.option(
    "--environment", default="", metavar="NAME", help="Name of the environment; replaces the machine's facts."
)
@click.option("--machine", type=PairType(), multiple=True, help="Set cpu, cores, ram_gib, os or runtime by hand.")
@click.option("--label", type=PairType(), multiple=True, help="Free labels of the run; may be repeated.")
@click.option("--chunk", default="", metavar="I/N", help="The file is part I of N of one run; wants --run-group.")
@click.option("--run-group", default="", metavar="KEY", help="The key that all chunks of the run share.")
@click.option("--supersedes", default="", metavar="ID", help="The submission that this one replaces.")
@click.option("--without", type=click.Choice(PARTS), multiple=True, help="Do not look for this.")
@click.option("--to", envvar="RUNFEED_URL", default=DEFAULT_URL, show_default=True, metavar="URL",
              help="The server, or s3://BUCKET[/PREFIX] to drop files into its inbox.")  # fmt: skip
@click.option("--runner", envvar="RUNFEED_RUNNER", default="", metavar="NAME",
              help="With s3://: whose folder of the inbox.")  # fmt: skip
@_CA
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File that holds the token. Default: the variable RUNFEED_TOKEN.",
)
@click.option("--wait", is_flag=True, help="Wait until the results are accepted or rejected, and say why.")
@click.option("--timeout", default=60.0, show_default=True, metavar="SECONDS", type=click.FloatRange(min=0),
              help="How long to keep trying, and then how long to --wait.")  # fmt: skip
@click.option("--flush", is_flag=True, help="Also send what waits in the spool; FILE may be left out.")
@click.option("--no-spool", is_flag=True, help="Do not keep what cannot be delivered.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent and stop.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON per file on standard output.")
def push(
    *,
    files: tuple[str, ...],
    project: str | None,
    format_: str,
    benchmark: str,
    commit: str,
    branch: str,
    environment: str,
    machine: tuple[tuple[str, str], ...],
    label: tuple[tuple[str, str], ...],
    chunk: str,
    run_group: str,
    supersedes: str,
    without: tuple[str, ...],
    to: str,
    runner: str,
    ca: Path | None,
    token_file: Path | None,
    wait: bool,
    timeout: float,
    flush: bool,
    no_spool: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send result files and print a receipt for each.

    FILE is a result file, a folder of them, or - for standard input. What git, the CI service and this machine say of
    the run is found, shown and sent with it; every such fact can be set by hand.

    \b
    Examples:
      runfeed push results.json
      runfeed push --wait build/test-results
      pytest-benchmark ... | runfeed push - --format pytest-benchmark
      runfeed push result.json --project demo --benchmark c-ray
      runfeed push results.json --environment rack-3 --label build=release
      runfeed push part1.json --chunk 1/4 --run-group "$CI_PIPELINE_ID"
      runfeed push results.json --to s3://results-private --runner rack-3
      runfeed push --dry-run results.json
      runfeed push --flush

    What cannot be delivered is kept in the spool (RUNFEED_SPOOL, by default runfeed/spool in the user's state folder)
    and goes with the next push to the same server.

    \b
    Exit status, of several files the worst in this order:
      0  delivered; with --wait: accepted
      1  delivered and rejected, or withdrawn since
      3  delivered; quarantined, or not finished in time
      2  not delivered
    """
    screen = Screen()
    if wait and is_drop_url(to):
        raise click.UsageError("--wait: what is dropped into an inbox has no receipt to wait for")
    if not files and not flush:
        raise click.UsageError("give a FILE, or - for standard input, or --flush")
    if benchmark:
        if format_ != "auto":
            raise click.UsageError("give --format or --benchmark, not both")
        format_ = f"{OWN_SCHEMA}:{benchmark}"
    try:
        if benchmark and not parse_benchmark_format(format_):
            raise Refused("--benchmark", "a benchmark's name, or NAME@VERSION", repr(benchmark[:80]))
        trusted(ca)
        box = DropBox(to, runner, os.environ, ca=ca) if is_drop_url(to) else None
        order = Order(
            to=box.url if box else checked_url(to),
            box=box,
            token=_token(token_file),
            ca=ca,
            wait=wait,
            timeout_seconds=timeout,
            spool=Spool(spool_folder(os.environ)),
            may_spool=not no_spool,
            flush=flush,
            as_json=as_json,
        )
        choices = Choices(
            commit=commit,
            branch=branch,
            environment=environment,
            machine=dict(machine),
            labels=dict(label),
            chunk=parse_chunk(chunk, run_group),
            supersedes=parse_submission_id(supersedes) if supersedes else "",
            without=without,
        )
        origin = find_origin(Path.cwd(), os.environ, choices)
        project = checked_project(project or origin.project or "default", "--project")
    except Refused as error:
        raise click.UsageError(plain(error)) from error
    if order.token and order.to.startswith("http:") and not is_loopback(order.to):
        screen.note("warning: the token travels unencrypted; use https")
    try:
        with tempfile.TemporaryDirectory(prefix="runfeed-") as temporary:
            packing = _Packing(
                screen,
                project=project,
                format_=format_,
                origin=origin,
                temporary=Path(temporary),
                as_json=as_json,
            )
            packed = packing.pack_all(files)
            if packed:
                _show(screen, packed, origin, order.to)
            if not dry_run:
                sys.exit(worst([*packing.statuses, _send(screen, order, packed)]))
    except KeyboardInterrupt:
        screen.note("interrupted: only what has a receipt is delivered")
        sys.exit(NOT_DELIVERED)
    if as_json:
        for one in packed:
            screen.json(push_text.packed_json(one, order.to))
    sys.exit(worst(packing.statuses))


@click.command()
@click.argument("submission", metavar="[ID]", default="")
@click.option("--to", envvar="RUNFEED_URL", default=DEFAULT_URL, show_default=True, metavar="URL", help="The server.")
@_CA
@click.option("--json", "as_json", is_flag=True, help="Print the server's JSON.")
def status(submission: str, to: str, ca: Path | None, as_json: bool) -> None:
    """Say where a submission stands, or how the whole system does.

    ID is a submission's id or the address of its page, both on its receipt.

    \b
    Examples:
      runfeed status
      runfeed status http://127.0.0.1:8765/submissions/3f0c...

    \b
    Exit status with an ID:
      0  accepted
      1  rejected, or withdrawn
      3  quarantined, or not finished
      2  unknown, or the server cannot be reached
    """
    screen = Screen()
    try:
        url = checked_url(_server_of(submission) or to)
        submission_id = parse_submission_id(submission) if submission else ""
    except Refused as error:
        raise click.UsageError(plain(error)) from error
    try:
        with Server(url, ca=ca) as server:
            if submission_id:
                found = server.status(submission_id, server.deadline(_STATUS_SECONDS))
                _show_status(screen, found, as_json)
                sys.exit(exit_status(found.state))
            system = server.system(server.deadline(_STATUS_SECONDS))
    except RunfeedError as error:
        screen.note(plain(error))
        sys.exit(NOT_DELIVERED)
    if as_json:
        screen.json(msgspec.json.encode(system))
    else:
        screen.result([url, *push_text.tree_lines(system, "  "), *_spool_lines(Spool(spool_folder(os.environ)), url)])


# --- push, step by step ---


class _Packing:
    """Packs the files that were named; a file that cannot be packed is told and does not stop the others."""

    def __init__(
        self, screen: Screen, *, project: str, format_: str, origin: Origin, temporary: Path, as_json: bool
    ) -> None:
        self._screen = screen
        self._project = project
        self._format = format_
        self._origin = origin
        self._temporary = temporary
        self._as_json = as_json
        self.statuses: list[int] = []

    def pack_all(self, names: Sequence[str]) -> list[Packed]:
        packed: list[Packed] = []
        for name in names:
            for shown, path in self._paths(name):
                with self._told(shown):
                    packed.append(
                        pack(
                            path,
                            name=shown,
                            project=self._project,
                            format=self._format,
                            context=self._origin.context,
                        )
                    )
        if self._origin.context.chunk and len(packed) > 1:
            raise click.UsageError(f"--chunk: expected one FILE, found {len(packed)}")
        return packed

    def _paths(self, name: str) -> Iterator[tuple[str, Path]]:
        """The files that `name` means, each with what to call it."""
        with self._told(name):
            if name == "-":
                yield "stdin", keep_stream(sys.stdin.buffer, self._temporary / "stdin")
                return
            for path in files_of(Path(name)):
                if path.is_file():
                    yield str(path), path
                else:  # a pipe, as of <(command)
                    with open(path, "rb") as stream:
                        yield str(path), keep_stream(stream, self._temporary / f"pipe-{path.name}")

    @contextlib.contextmanager
    def _told(self, name: str) -> Iterator[None]:
        try:
            yield
        except Refused as error:
            self._tell(name, str(error))
        except OSError as error:
            self._tell(name, f"{name}: {error.strerror or error}")

    def _tell(self, name: str, message: str) -> None:
        self._screen.note(f"not delivered: {plain(message)}")
        self.statuses.append(NOT_DELIVERED)
        if self._as_json:
            self._screen.json(
                msgspec.json.encode(
                    {"file": name, "status": "failed", "exit_status": NOT_DELIVERED, "error": plain(message)}
                )
            )


def _show(screen: Screen, packed: Sequence[Packed], origin: Origin, to: str) -> None:
    """What is about to be published, before it is."""
    for one in packed:
        screen.note(push_text.packed_line(one))
    format_ = packed[0].format
    screen.note(f"  project      {packed[0].project} at {to}{'' if format_ == 'auto' else f', format {format_}'}")
    for line in push_text.context_lines(origin.context):
        screen.note(line)
    for note in origin.notes:
        screen.note(f"  no facts of the commit: {plain(note)}")


def _send(screen: Screen, order: Order, packed: Sequence[Packed]) -> int:
    """Deliver the files, then what waits in the spool, then wait: the exit status."""
    if order.box:
        return worst([_conclude(screen, order, order.box, one, {}) for one in _sent(screen, order, order.box, packed)])
    with Server(order.to, token=order.token, ca=order.ca) as server:
        deliveries = _sent(screen, order, server, packed)
        states: dict[str, SubmissionStatus] = {}
        if order.wait:
            try:
                ids = [delivery.receipt.id for delivery in deliveries if delivery.receipt]
                states = server.wait(ids, order.timeout_seconds)
            except KeyboardInterrupt:
                screen.note("interrupted: everything is delivered that has a receipt")
        return worst([_conclude(screen, order, server, delivery, states) for delivery in deliveries])


def _sent(screen: Screen, order: Order, target: Target, packed: Sequence[Packed]) -> list[Delivery]:
    """What came of the files, and with --flush of what waited."""
    deliveries = _deliver(screen, order, target, packed)
    delivered = any(delivery.receipt or delivery.dropped for delivery in deliveries)
    flushed = _flush(screen, order, target) if order.flush or delivered else []
    return deliveries + flushed if order.flush else deliveries


def _deliver(screen: Screen, order: Order, target: Target, packed: Sequence[Packed]) -> list[Delivery]:
    spool = order.spool if order.may_spool else None
    coming = deliver(
        target,
        packed,
        order.timeout_seconds,
        spool=spool,
        now=lambda: datetime.now(UTC),
        on_bytes=screen.sent,
        on_retry=screen.retry,
    )
    return list(_printed(screen, order, target, coming))


def _flush(screen: Screen, order: Order, target: Target) -> list[Delivery]:
    """What waited in the spool. Without --flush it costs this push no patience, and its fate is told but not counted:
    it is another push's result."""
    coming = flush_spool(
        target,
        order.spool,
        order.timeout_seconds if order.flush else 0.0,
        on_bytes=screen.sent,
        on_retry=screen.retry,
        on_damaged=lambda place, reason: screen.note(f"damaged in the spool, now in {place}: {plain(reason)}"),
    )
    flushed = list(_printed(screen, order, target, coming, "from the spool: "))
    elsewhere = sum(item.to != target.url for item in order.spool.items())
    if elsewhere and order.flush:
        screen.note(f"{elsewhere} more in the spool for other servers; --to URL chooses one")
    if order.flush and not flushed:
        screen.note(f"nothing waits in the spool for {target.url}")
    return flushed


def _printed(
    screen: Screen, order: Order, target: Target, coming: Iterator[Delivery], prefix: str = ""
) -> Iterator[Delivery]:
    """Each delivery as it comes: to people at once, to programs (--json) at the end, with its state."""
    while True:
        with screen.sending():
            delivery = next(coming, None)
        if delivery is None:
            return
        lines = push_text.delivery_lines(delivery, _page(target, delivery))
        first, *rest = (f"{prefix}{line}" if number == 0 else line for number, line in enumerate(lines))
        if (delivery.receipt or delivery.dropped) and not order.as_json and (order.flush or not prefix):
            screen.result([first, *rest])
        else:
            for line in (first, *rest):
                screen.note(line)
        yield delivery


def _conclude(
    screen: Screen, order: Order, target: Target, delivery: Delivery, states: dict[str, SubmissionStatus]
) -> int:
    """The exit status of one delivery, after printing its state if there was to be one."""
    receipt = delivery.receipt
    status = states.get(receipt.id) if receipt else None
    if not receipt and not delivery.dropped:
        result = NOT_DELIVERED
    elif not order.wait:
        result = DELIVERED
    else:
        result = exit_status(status.state) if status else UNFINISHED
    if order.as_json:
        page = _page(target, delivery)
        screen.json(
            push_text.delivery_json(
                delivery, to=order.to, page=page, status=status, exit_status=result, spool_folder=order.spool.folder
            )
        )
    elif receipt and order.wait:
        lines = push_text.status_lines(status) if status else iter(["received, and no more is known yet"])
        screen.result([f"{plain(delivery.packed.name)}: {next(lines)}", *lines])
        if not status or status.state not in FINAL_STATES:
            screen.note(f"  not finished in {order.timeout_seconds:g} s; see: runfeed status {receipt.id}")
    return result


def _page(target: Target, delivery: Delivery) -> str:
    return target.absolute(delivery.receipt.page) if delivery.receipt and isinstance(target, Server) else ""


def _token(token_file: Path | None) -> str:
    """The token, from a file or the environment; never from the command line, which every user of a machine sees."""
    try:
        text = token_file.read_text() if token_file else os.environ.get("RUNFEED_TOKEN", "")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused("--token-file", "a readable text file", type(error).__name__) from error
    return checked_token(text)


# --- status ---


def _server_of(address: str) -> str:
    """The server that a receipt's address belongs to; empty if it is no address."""
    if "://" not in address:
        return ""
    for path in ("/api/v1/submissions/", "/submissions/"):
        server, found, _ = address.partition(path)
        if found:
            return server
    return "/".join(address.split("/")[:3])


def _show_status(screen: Screen, status: SubmissionStatus, as_json: bool) -> None:
    if as_json:
        screen.json(msgspec.json.encode(status))
        return
    facts = {
        "id": status.id,
        "project": status.project,
        "format": status.format,
        "size_bytes": status.size_bytes,
        "received": status.received.isoformat(),
        "seq": status.seq if status.seq is not None else "not announced yet",
    }
    screen.result([*push_text.status_lines(status), *push_text.tree_lines(facts, "  ")])


def _spool_lines(spool: Spool, url: str) -> Iterator[str]:
    """What waits on this machine, if anything does."""
    waiting = sum(item.to == url for item in spool.items())
    if waiting:
        yield f"{waiting} not delivered yet, in the spool {spool.folder}; to send: runfeed push --flush"
    if refused := len(spool.refused()):
        yield f"{refused} refused by servers, in {spool.refused_folder}"
