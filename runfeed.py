"""Runfeed's one command. Composes the rooms, each loaded only when its command runs; holds no logic of its own."""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from schemas.errors import RunfeedError

if TYPE_CHECKING:
    from infra.settings import Settings

COMMANDS = {
    "up": ("runfeed", "up"),
    "push": ("ingest.push_cli", "push"),
    "status": ("ingest.push_cli", "status"),
    "token": ("ingest.admin_cli", "token"),
    "project": ("ingest.admin_cli", "project"),
    "benchmark": ("ingest.benchmark_cli", "benchmark"),
    "export": ("dashboard_api.export_cli", "export"),
    "rebuild": ("processor.rebuild_cli", "rebuild"),
    "check": ("processor.check_cli", "check"),
    "formats": ("processor.formats_cli", "formats"),
}
"""Where each subcommand lives."""

REQUESTS_AT_ONCE = 8
"""Of an announcer to remote storage, to hide the network's latency; a folder has none."""

SWEEP_EVERY = 24 * 3600.0

PAUSE_SECONDS = 0.4
"""Between two commits to a log under load: long enough to fill a batch, short enough not to be seen."""


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


@click.command()
@click.option("--data", type=click.Path(file_okay=False), help="Data folder.  [default: data]")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port; 0 takes a free one.  [default: 8765]")
@click.option("--bucket", help="s3://name[/prefix] for the public bucket instead of a folder.")
@click.option("--private-bucket", help="s3://name[/prefix] for the private bucket; needed with --bucket.")
@click.option("--allow-anonymous", is_flag=True, default=None, help="Take uploads without a token beyond loopback.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[default: warning]")
def up(**given: Any) -> None:
    """Start everything in one process: ingest, feed, processor and dashboard. Ctrl-C ends it; a restart goes on.

    \b
    Examples:
      runfeed up
      runfeed up --data /srv/runfeed --port 9000
      AWS_ENDPOINT_URL=... runfeed up --bucket s3://results --private-bucket s3://results-private

    Every option is also an environment variable (RUNFEED_PORT) and a line in runfeed.toml in the data folder.
    """
    from infra.settings import read_settings

    run(read_settings(os.environ, given))


def run(settings: "Settings") -> None:
    """Compose all rooms and serve until interrupted."""
    from functools import partial

    from dashboard_api.api import api_routes, openapi_config
    from dashboard_api.dashboard import Dashboard
    from dashboard_api.message_page import message_page
    from dashboard_api.pages import page_routes
    from feed.announceable import describe_submission
    from feed.announcer import Announcer
    from feed.http import object_routes
    from feed.log import readers
    from infra.absent import stop_looking_for
    from infra.broker import embedded_broker, start_worker
    from infra.clock import now
    from infra.hints import Hints
    from infra.logs import configure_logs
    from infra.loops import Loop
    from infra.server import alone_with, serve
    from infra.storage import open_buckets
    from ingest.http import Intake, intake_routes
    from processor.actors import declare_actors
    from processor.batch import Processor
    from processor.children import Children
    from processor.current import CurrentLake
    from schemas import keys

    configure_logs(settings.log_level)
    stop_looking_for("pandas", "polars")
    with alone_with(settings.data), Children.of(settings) as workers:
        buckets = open_buckets(settings, os.environ)
        hints = Hints()

        reader_of = readers(buckets.public)
        submissions = reader_of(keys.SUBMISSIONS_LOG)
        threads = REQUESTS_AT_ONCE if settings.bucket else 1
        announcer = Announcer(buckets, submissions, describe_submission, clock=now, threads=threads)
        processor = Processor.of(settings, buckets, submissions, workers, now)
        broker = embedded_broker()
        lake = CurrentLake(buckets, reader_of, declare_actors(broker, processor, hints), clock=now, threads=threads)
        dashboard = Dashboard(
            buckets.public, reader_of, settings.data / "dashboard", memory_limit=settings.duckdb_memory
        )
        worker = start_worker(broker, settings.worker_threads)
        announcing = partial(Loop, hints=hints, signals="log", pause_seconds=PAUSE_SECONDS)
        loops = [
            announcing("announce submissions", announcer.commit, wakes_on="submitted"),
            Loop("dispatch", lake.dispatch, hints, wakes_on="log"),
            announcing("announce outcomes", lake.announce, wakes_on="processed"),
            Loop("load", dashboard.step, hints, wakes_on="log"),
            Loop("sweep", lambda: announcer.sweep(now()) + lake.sweep(), hints, wakes_on="", idle_seconds=SWEEP_EVERY),
        ]
        for loop in loops:
            loop.start()
        routes = [
            *object_routes(buckets.public),
            *api_routes(dashboard, lambda: {loop.name: "failing" if loop.last_error else "ok" for loop in loops}),
            *page_routes(dashboard),
            *intake_routes(Intake(buckets, settings, hints)),  # after the API, whose OPTIONS answers for both
        ]
        try:
            serve(routes, settings, openapi_config(), lambda url: click.echo(_greeting(url, settings)), message_page())
        finally:
            workers.stop()  # what children are doing is given up, and begun again at the next start
            worker.stop()
            for loop in loops:
                loop.stop()
            dashboard.close()


def _greeting(url: str, settings: "Settings") -> str:
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
