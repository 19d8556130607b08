"""`runfeed withdraw`: the operator's command, on the buckets directly, also while everything runs."""

import os
import time
from datetime import UTC, datetime

import click
import msgspec
from rich.console import Console

from infra.bucket import Buckets
from infra.settings import read_settings
from infra.storage import open_buckets
from ingest.ci import printable
from ingest.withdraw import Found, Left, Sent, checked_reason, find, left_of, withdraw
from schemas import keys
from schemas.errors import Unavailable
from schemas.records import Withdrawal

_SHOWN = 20
_LOOK_SECONDS = 0.5


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints. `status` is `withdrawn`, or `known` if it had been withdrawn before."""

    sha256: str
    status: str
    reason: str
    withdrawal: str
    """The key of what says so."""
    submissions: list[Sent]
    nothing_left: bool | None
    """None if nobody waited."""


@click.command("withdraw")
@click.argument("id", metavar="ID")
@click.option("--reason", required=True, help="Why, in one line. Public: it stands in the feed and can never change.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", "wait_for", is_flag=True, help="Wait until nothing of it is left.")
@click.option("--timeout", type=click.FloatRange(0), default=600, show_default=True, help="Seconds to wait at most.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, on one line.")
@click.option("--data", type=click.Path(file_okay=False), help="Data folder.  [default: data]")
@click.option("--bucket", help="s3://name[/prefix] of the public bucket, if it is not a folder.")
@click.option("--private-bucket", help="s3://name[/prefix] of the private bucket.")
@click.pass_context
def withdraw_command(
    ctx: click.Context,
    *,
    id: str,
    reason: str,
    yes: bool,
    wait_for: bool,
    timeout: float,
    as_json: bool,
    data: str | None,
    bucket: str | None,
    private_bucket: str | None,
) -> None:
    """Take back a file that should never have been published, for good: every submission of its bytes, their rows, and
    whatever was made of them.

    ID is a submission's id, or the SHA-256 of the file. The feed keeps its entries and says that they are withdrawn;
    the same bytes are refused from now on. `runfeed announce` (or `up`) removes everything, also if it starts later.
    Copies that others have made are theirs to remove. Withdrawing again looks once more whether anything is left.

    \b
    Examples:
      runfeed withdraw 3f0c... --reason "a token was in the log" --wait
      runfeed withdraw 3f0c... --reason "sent by mistake" --yes --json

    \b
    Exit status:
      0  withdrawn; with --wait: nothing of it is left
      1  not withdrawn: you said no
      2  not withdrawn, or still something left after the time to wait
    """
    settings = read_settings(os.environ, {"data": data, "bucket": bucket, "private_bucket": private_bucket})
    buckets = open_buckets(settings, os.environ)
    console = Console(stderr=True)
    reason = checked_reason(reason)
    with console.status("looking") as status:
        found = find(buckets, id, lambda seq: status.update(f"looking: {seq:,} entries of the log"))
    if not as_json or not yes:
        _show(found)
    if found.withdrawal is None and not yes and not click.confirm("Withdraw it for good?", err=True):
        click.echo("Nothing has been changed.", err=True)
        ctx.exit(1)
    withdrawal = withdraw(buckets, found, reason, datetime.now(UTC))
    if not as_json:
        _tell(found, withdrawal)
    left = _waited(console, buckets, withdrawal, timeout) if wait_for else None
    if as_json:
        answer = Answer(
            sha256=found.sha256,
            status="known" if found.withdrawal else "withdrawn",
            reason=withdrawal.reason,
            withdrawal=keys.withdrawal(found.sha256),
            submissions=found.submissions,
            nothing_left=left.nothing if left else None,
        )
        click.echo(msgspec.json.encode(answer))
    if left and not left.nothing:
        raise Unavailable(f"after {timeout:g} s: {left}. Does `runfeed announce` or `up` run?")
    if left and not as_json:
        click.echo("Nothing of it is left.")


def _show(found: Found) -> None:
    click.echo(f"Blob {found.sha256}: {len(found.submissions):,} submissions", err=True)
    for one in found.submissions[:_SHOWN]:
        seq = f"entry {one.seq:,}" if one.seq else "not announced yet"
        click.echo(f"  {one.id}  {one.project}  {one.received:%Y-%m-%d %H:%M}  {seq}", err=True)
    if len(found.submissions) > _SHOWN:
        click.echo(f"  and {len(found.submissions) - _SHOWN:,} more", err=True)


def _tell(found: Found, withdrawal: Withdrawal) -> None:
    where = keys.withdrawal(found.sha256)
    if found.withdrawal:
        when = f"{withdrawal.withdrawn:%Y-%m-%d %H:%M}"
        click.echo(f"It was withdrawn on {when}: {printable(withdrawal.reason)} ({where}). What is left is looked for.")
    else:
        click.echo(f"Withdrawn: {where} says so. It is announced and removed by `runfeed announce`, or `up`.")


def _waited(console: Console, buckets: Buckets, withdrawal: Withdrawal, timeout_seconds: float) -> Left:
    """What is left when nothing is left, or when the time is up."""
    deadline = time.monotonic() + timeout_seconds
    with console.status("waiting") as status:
        while not (left := left_of(buckets, withdrawal)).nothing and time.monotonic() < deadline:
            status.update(str(left))
            time.sleep(_LOOK_SECONDS)
    return left
