"""`runfeed verify`."""

import os
import re
from pathlib import Path
from typing import Any

import click
import msgspec

from feed.remote.address import from_feed_url
from feed.remote.asking import Asker
from feed.remote.bucket import RemoteBucket
from feed.screen import Screen, printable
from feed.verify.proof import Remembered
from feed.verify.remembered import memory_file, recall, remember
from feed.verify.verify import Verified, Wish, verify
from infra.bucket import Bucket
from schemas.errors import Refused

_SHOWN_NOTES = 20


@click.command()
@click.argument("address", metavar="URL|DIR|s3://…")
@click.option("--log", "logs", multiple=True, help="Log to verify; may be repeated.  [default: that of the address]")
@click.option("--no-blobs", is_flag=True, help="Look at the log's pages only, not at what its entries name.")
@click.option("--since", type=click.IntRange(1), default=1, metavar="SEQ", help="Begin with the page that holds SEQ.")
@click.option("--key", default="", metavar="HEX", help="The public key that must have signed.")
@click.option("--all", "every", is_flag=True, help="List every breach, not only the first.")
@click.option("--parallel", type=click.IntRange(1, 64), default=8, show_default=True, help="Requests at once.")
@click.option("--state", type=click.Path(dir_okay=False, path_type=Path),
              help="File that remembers what was proved.  [default: in the user's state folder]")  # fmt: skip
@click.option("--forget", is_flag=True, help="Forget first what is remembered of this address.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a log, on one line.")
@click.pass_context
def verify_command(
    ctx: click.Context,
    *,
    address: str,
    logs: tuple[str, ...],
    no_blobs: bool,
    since: int,
    key: str,
    every: bool,
    parallel: int,
    state: Path | None,
    forget: bool,
    as_json: bool,
) -> None:
    """Prove that a log is whole: nothing in it was changed, dropped or put in, and all that it names is there.

    Checks each page's digest, links, density, the chain digest and the checkpoint's signature, then the size and digest
    of each blob and the id of each submission. What was proved is remembered: from then on the log must go on from
    there, whoever signs another past. Names the first breach: where, what was expected, what was found.

    \b
    Examples:
      runfeed verify https://results.example.org
      runfeed verify https://results.example.org --no-blobs
      runfeed verify /srv/mirror --all
      runfeed verify s3://results --log submissions --log outcomes-v1
      runfeed verify https://results.example.org --key 5a0c…

    \b
    Exit status:
      0  proved
      1  a breach
      2  the log could not be read
    """
    if key and not re.fullmatch("[0-9a-f]{64}", key):
        raise click.UsageError("--key: expected 64 lower-case hexadecimal digits")
    screen = Screen()
    asker = Asker(on_retry=screen.retry)
    ctx.call_on_close(asker.close)
    bucket, named = from_feed_url(address, asker=asker, environ=os.environ)
    file, where = state or memory_file(os.environ), address_of(bucket)
    local = not isinstance(bucket, RemoteBucket)
    broken = False
    for log in logs or (named,):
        if forget:
            remember(file, where, log, None)
        wish = Wish(
            depth="pages" if no_blobs else "bytes",
            since=since,
            key=key,
            remembered=recall(file, where, log),
            every=every,
            parallel=parallel,
            looks_again=() if local else Wish.looks_again,
        )
        with screen.shown(f"verify {log}"):
            try:
                found = verify(bucket, log, wish, screen.progress)
            except FileNotFoundError as error:
                raise Refused(where, f"a log {log}", "none") from error
        if found.remembered and found.remembered.chain and found.compared:
            remember(file, where, log, found.remembered)
        broken = broken or bool(found.breaches)
        if as_json:
            click.echo(msgspec.json.encode(as_record(found, where)))
        else:
            _show(found, wish)
    if broken:
        ctx.exit(1)


def address_of(bucket: Bucket) -> str:
    """Where `bucket` is, the same however it was named."""
    for name in ("base_url", "url", "root"):
        if found := getattr(bucket, name, None):
            return str(found)
    return ""


def as_record(found: Verified, address: str) -> dict[str, Any]:
    """`found` for programs."""
    proved: Remembered | None = found.remembered
    return {
        "address": address,
        "log": found.log,
        "feed": found.feed,
        "proved": not found.breaches,
        "breaches": [{"where": one.where, "expected": one.expected, "found": one.found} for one in found.breaches],
        "notes": found.notes,
        "entries": found.entries,
        "pages": found.pages,
        "objects": found.objects,
        "size_bytes": found.size_bytes,
        "seq": proved.seq if proved else None,
        "chain": proved.chain if proved else None,
        "key": proved.key if proved else None,
        "checkpoint_time": proved.time if proved else None,
    }


def _show(found: Verified, wish: Wish) -> None:
    for note in found.notes[:_SHOWN_NOTES]:
        click.echo(printable(f"note: {note}"))
    if len(found.notes) > _SHOWN_NOTES:
        click.echo(f"note: and {len(found.notes) - _SHOWN_NOTES:,} more (--json shows all)")
    for breach in found.breaches:
        click.echo(printable(f"breach: {breach}"))
    if found.remembered:
        click.echo(printable(f"proved: {summary(found, wish)}"))
    elif not wish.every:
        click.echo("This is the first breach; --all lists every one.")


def summary(found: Verified, wish: Wish) -> str:
    """What was proved, in a line."""
    proved = found.remembered
    if proved is None:
        return ""
    first = proved.seq - found.entries + 1
    line = f"{found.feed} holds {first:,} to {proved.seq:,} in {found.pages:,} pages and the head"
    if wish.depth == "bytes":
        line += f"; {found.objects:,} objects, {found.size_bytes:,} bytes, each of the digest announced"
    line += f"; chain {proved.chain}"
    if proved.key and proved.time:
        line += f"; signed {proved.time:%Y-%m-%d %H:%M:%S} UTC by {proved.key}"
    return line
