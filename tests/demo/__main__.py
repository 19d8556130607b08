"""`make demo`: make real results in a sample repository and push them to the running server."""

import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.demo.change import Mark
from tests.demo.history import BROKEN, CHANGES, SLOWED, SPED_UP, make_history
from tests.demo.repository import Committed, write_commits
from tests.demo.runner import ENVIRONMENTS, Results, make_results, push, runfeed_command
from tests.demo.server import UNFINISHED, answers, wait_for_outcomes

PROJECT = "demo"
OUTCOMES_TIMEOUT_SECONDS = 60

SIGHTS: dict[Mark, str] = {
    "slower": f"made {SLOWED} more than ten times slower",
    "fixed": "made it fast again",
    "faster": f"made {SPED_UP} more than ten times faster",
    "broken": f"broke {BROKEN}",
    "repaired": "repaired it",
}


@click.command()
@click.option(
    "--to",
    "url",
    envvar="RUNFEED_URL",
    default="http://127.0.0.1:8765",
    show_default=True,
    show_envvar=True,
    help="Server to push to.",
)
@click.option(
    "--commits",
    "count",
    type=click.IntRange(1, len(CHANGES)),
    default=len(CHANGES),
    show_default=True,
    help="Only the first N commits of the sample's history.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Work in DIR and leave everything there: the repository and the result files.",
)
@click.option("--only-make", is_flag=True, help="Make the result files and push nothing; needs --keep.")
def main(url: str, count: int, keep: Path | None, only_make: bool) -> None:
    """Make real results in a sample repository and push them to the running server."""
    url = url.rstrip("/")
    if only_make and keep is None:
        raise click.UsageError("--only-make needs --keep DIR, or the files would be gone at once.")
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise click.UsageError(f"--keep: {keep} is not empty.")
    if not only_make and not answers(url):
        click.echo(f"No Runfeed server answers at {url}. Start it with `make up`, in another terminal.", err=True)
        sys.exit(2)
    try:
        if not only_make:
            runfeed_command()
        started = time.monotonic()
        with _work_folder(keep) as work:
            commits, ids = _walk(work, count, None if only_make else url)
        click.echo(f"{len(commits)} commits tested and measured: {time.monotonic() - started:.0f} s.")
        if keep is not None:
            click.echo(f"Everything is kept in {keep}.")
        if not only_make:
            all_accepted = _tell_outcomes(url, ids)
            _tell_sights(url, commits)
            sys.exit(0 if all_accepted else 1)
    except (RuntimeError, FileNotFoundError, httpx.HTTPError) as error:
        raise click.ClickException(str(error)) from error


def _walk(work: Path, count: int, url: str | None) -> tuple[list[Committed], list[str]]:
    """Make the first `count` commits and the results of each, and push them to `url` if there is one.

    Returns the commits and the ids of the submissions. Environments take turns, because two runners that measure at
    once on one machine would measure each other.
    """
    repository = work / "prosekit"
    commits: list[Committed] = []
    ids: list[str] = []
    with _progress(count * len(ENVIRONMENTS)) as report:
        for commit in write_commits(repository, make_history(datetime.now(UTC).date())[:count]):
            commits.append(commit)
            for environment in ENVIRONMENTS:
                folder = work / "results" / f"{len(commits):02}-{commit.id[:7]}" / environment
                results = make_results(repository, commit, environment, folder)
                if url is not None:
                    ids += push(repository, results, project=PROJECT, url=url)
                report(results)
    return commits, ids


@contextlib.contextmanager
def _work_folder(keep: Path | None) -> Iterator[Path]:
    """An absolute folder to work in; a temporary one is removed at the end, whatever happened."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="runfeed-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[Results], None]]:
    """A bar in a terminal, a line per commit and environment elsewhere."""
    console = Console()
    if not console.is_terminal:
        done = 0

        def print_line(results: Results) -> None:
            nonlocal done
            done += 1
            click.echo(f"{done:3}/{total} {results.environment:8} {results.commit.title}")

        yield print_line
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total)

        def move_bar(results: Results) -> None:
            progress.update(task, advance=1, description=f"{results.environment}: {results.commit.title}")

        yield move_bar


def _tell_outcomes(url: str, ids: Sequence[str]) -> bool:
    """Wait for all outcomes and say them; whether everything was accepted."""
    statuses = wait_for_outcomes(url, ids, OUTCOMES_TIMEOUT_SECONDS)
    states = Counter(status["state"] for status in statuses.values())
    click.echo(f"{len(ids)} files pushed: " + ", ".join(f"{number} {state}" for state, number in states.items()) + ".")
    for id, status in statuses.items():
        for problem in status["problems"]:
            where, expected, found = (problem[fact] for fact in ("where", "expected", "found"))
            click.echo(f"{id[:12]} {status['state']}: {where}: expected {expected}, found {found}", err=True)
    if any(state in UNFINISHED for state in states):
        click.echo(f"Some had no outcome after {OUTCOMES_TIMEOUT_SECONDS} s; the server may still be busy.", err=True)
    return set(states) <= {"accepted"}


def _tell_sights(url: str, commits: Sequence[Committed]) -> None:
    click.echo(f"\nLook at {url}/projects/{PROJECT}")
    for commit in commits:
        if mark := commit.step.change.mark:
            click.echo(f"  {commit.title}\n          {SIGHTS[mark]}")


if __name__ == "__main__":
    main(prog_name="python -m tests.demo")
