"""Runfeed's one command. Composes the rooms, each loaded only when its command runs; holds no logic of its own.

Each role of a server is a function of its room; `runfeed up` is a process with all of them.
"""

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from schemas.errors import RunfeedError

if TYPE_CHECKING:
    from infra.settings import Settings

COMMANDS = {
    "up": ("runfeed", "up"),
    "ingest": ("runfeed", "ingest"),
    "announce": ("runfeed", "announce"),
    "work": ("runfeed", "work"),
    "dashboard": ("runfeed", "dashboard"),
    "hub": ("runfeed", "hub"),
    "push": ("ingest.push_cli", "push"),
    "status": ("ingest.push_cli", "status"),
    "follow": ("feed.follow.cli", "follow"),
    "token": ("ingest.admin_cli", "token"),
    "project": ("ingest.admin_cli", "project"),
    "runner": ("ingest.runner_cli", "runner"),
    "source": ("ingest.source.cli", "source"),
    "benchmark": ("ingest.benchmark_cli", "benchmark"),
    "withdraw": ("ingest.withdraw_cli", "withdraw_command"),
    "export": ("dashboard_api.export_cli", "export"),
    "rebuild": ("processor.rebuild_cli", "rebuild"),
    "lake": ("processor.lake_cli", "lake"),
    "compact": ("processor.lake_cli", "compact"),
    "sweep": ("processor.sweep_cli", "sweep_command"),
    "doctor": ("processor.doctor_cli", "doctor"),
    "check": ("processor.check_cli", "check"),
    "formats": ("processor.formats_cli", "formats"),
    "mirror": ("feed.mirror.cli", "mirror"),
    "verify": ("feed.verify.cli", "verify_command"),
    "policies": ("infra.policies_cli", "policies"),
    "settings": ("infra.settings_cli", "settings"),
}
"""Where each subcommand lives."""

ROLES = {
    "dashboard": "dashboard_api.role",
    "ingest": "ingest.role",  # after the API, whose OPTIONS answers for both
    "announce": "processor.roles",
    "work": "processor.roles",
    "hub": "feed.hub.role",
}
"""Where each role lives, in the order in which a process with all of them has them."""


PYTHON = {
    "follow": "feed.follow.follow",
    "follow_async": "feed.follow.follow",
    "Breach": "feed.follow.follow",
    "Listening": "feed.follow.follow",
    "Withdrawn": "feed.follow.follow",
}
"""What programs import from here, and where it lives."""


def __getattr__(name: str) -> Any:
    if name not in PYTHON:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(PYTHON[name]), name)


class Rooms(click.Group):
    """A group that imports a room only for its own commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=Rooms, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="runfeed")
def cli() -> None:
    """Push result files, announce them in a feed, ask questions of them.

    \b
    Try it:
      runfeed up                                  everything in one process, on 127.0.0.1
      runfeed push result.json --wait             send a result and see what comes of it
      runfeed status                              how far everything has come
    """


def _server_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all servers have."""
    for option in (
        click.option(
            "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[default: warning]"
        ),
        click.option("--redis", help="redis://[:password@]host:port of the queue that processes share."),
        click.option("--private-bucket", help="s3://name[/prefix] for the private bucket; needed with --bucket."),
        click.option("--bucket", help="s3://name[/prefix] for the public bucket instead of a folder."),
        click.option("--port", type=int, help="Port; 0 takes a free one.  [default: 8765]"),
        click.option("--host", help="Address to listen on.  [default: 127.0.0.1]"),
        click.option("--data", type=click.Path(file_okay=False), help="Data folder.  [default: data]"),
    ):
        command = option(command)
    return command


_anonymous = click.option(
    "--allow-anonymous", is_flag=True, default=None, help="Take uploads without a token beyond loopback."
)


@click.command()
@_server_options
@_anonymous
def up(**given: Any) -> None:
    """Start everything in one process: ingest, feed, processor, dashboard and hub. Ctrl-C ends it; a restart goes on.

    \b
    Examples:
      runfeed up
      runfeed up --data /srv/runfeed --port 9000
      AWS_ENDPOINT_URL=... runfeed up --bucket s3://results --private-bucket s3://results-private

    Every option is also an environment variable (RUNFEED_PORT) and a line in runfeed.toml in the data folder.
    """
    _run(given, *ROLES)


@click.command()
@_server_options
@_anonymous
def ingest(**given: Any) -> None:
    """Take uploads: one role of many machines. Any number may run, each with a data folder of its own for its spool.

    \b
    Examples:
      runfeed ingest --bucket s3://results --private-bucket s3://results-private --host 0.0.0.0
      RUNFEED_BUCKET=... RUNFEED_PRIVATE_BUCKET=... runfeed ingest --data /var/lib/runfeed --port 8765
    """
    _run(given, "ingest")


@click.command()
@_server_options
def announce(**given: Any) -> None:
    """Keep the feed and give batches to workers: one role of many machines. One does it, others stand by.

    \b
    Examples:
      runfeed announce --bucket s3://results --private-bucket s3://results-private --redis redis://queue:6379
      RUNFEED_REDIS=redis://:password@queue:6379 RUNFEED_BUCKET=... RUNFEED_PRIVATE_BUCKET=... runfeed announce
    """
    _run(given, "announce")


@click.command()
@_server_options
def work(**given: Any) -> None:
    """Process batches from the queue: one role of many machines. Any number may run; nothing local is kept.

    \b
    Examples:
      runfeed work --bucket s3://results --private-bucket s3://results-private --redis redis://queue:6379
      RUNFEED_WORKER_PROCESSES=4 RUNFEED_REDIS=... RUNFEED_BUCKET=... RUNFEED_PRIVATE_BUCKET=... runfeed work
    """
    _run(given, "work")


@click.command()
@_server_options
def dashboard(**given: Any) -> None:
    """Serve API, pages and feeds: one role of many machines. Any number may run, each with a data folder of its own.

    \b
    Examples:
      runfeed dashboard --bucket s3://results --private-bucket s3://results-private --port 8080
      RUNFEED_BUCKET=... RUNFEED_PRIVATE_BUCKET=... runfeed dashboard --data /var/lib/runfeed --host 0.0.0.0
    """
    _run(given, "dashboard")


@click.command()
@_server_options
def hub(**given: Any) -> None:
    """Push new entries of the feeds to subscribers (WebSub): one role of many machines. One delivers, any number take
    subscriptions.

    \b
    Examples:
      RUNFEED_PUBLIC_URL=https://results.example runfeed hub --bucket s3://results --private-bucket s3://results-private
      RUNFEED_PUBLIC_URL=... RUNFEED_REDIS=... RUNFEED_BUCKET=... RUNFEED_PRIVATE_BUCKET=... runfeed hub --port 8770
    """
    _run(given, "hub")


def _run(given: dict[str, Any], *names: str) -> None:
    """Compose these roles in one process and serve until interrupted."""
    from feed.log import readers
    from infra.absent import stop_looking_for
    from infra.logs import configure_logs
    from infra.process import Process, check_shared
    from infra.settings import read_settings

    settings = read_settings(os.environ, given)
    together = len(names) == len(ROLES)
    if not together:
        check_shared(settings, needs_queue=bool({"announce", "work"} & {*names}))
    configure_logs(settings.log_level)
    stop_looking_for("pandas", "polars")
    with ExitStack() as ending:
        alone = together and not settings.redis
        process = Process(settings, ending, alone=alone, writes=names != ("dashboard",))
        reader_of = readers(process.public)
        for name in names:
            module = importlib.import_module(ROLES[name])
            getattr(module, name)(process, reader_of)
        process.serve(lambda url: click.echo(_greeting(settings, url) if together else f"Runfeed {name} is up: {url}"))


def _greeting(settings: "Settings", url: str) -> str:
    where = settings.bucket or settings.data.absolute()
    return (
        f"Runfeed is up. Data: {where}\n"
        f"  pages  {url}/\n"
        f"  feed   {url}/feeds/submissions/current.atom\n"
        f"  API    {url}/api/v1/docs\n"
        f"  push   runfeed push result.json --to {url}\n"
        "Ctrl-C ends it; everything is kept."
    )


def main() -> None:
    """The entry point: our own errors become one clear line and exit status 2."""
    try:
        cli()
    except RunfeedError as error:
        click.echo(f"runfeed: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
