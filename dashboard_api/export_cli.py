"""The command `runfeed export`: a run of a server as a file of another format, downloaded.

Whatever is said of the file (what is left out, which chunks are missing) goes to standard error, so that standard
output may be the file.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, urlsplit

import click
import msgspec

from schemas.errors import Refused, Unavailable
from schemas.records import ProblemDetails

if TYPE_CHECKING:
    import httpx

DEFAULT_URL = "http://127.0.0.1:8765"
FORMATS = ("pytest-benchmark", "bmf", "junit", "ctrf", "csv", "parquet")

_PAGE = re.compile(r"(https?://[^/\s]+(?:/[^\s?#]*)?)/runs/([^/?#\s]+)")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 600.0  # the server writes the whole file before it answers
_MOST_PROBLEM_BYTES = 1 << 16


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--as", "format_", type=click.Choice(FORMATS), required=True, help="The format to write.")
@click.option("--table", type=click.Choice(("measurements", "tests")),
              help="Which rows, for csv and parquet of a run that has both.")  # fmt: skip
@click.option("--from", "server", envvar="RUNFEED_URL", default=DEFAULT_URL, show_default=True, metavar="URL",
              help="The server.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Default: standard output.")  # fmt: skip
def export(run: str, format_: str, table: str | None, server: str, output: Path | None) -> None:
    """Write a run as a file of another format.

    RUN is a run's id or the address of its page. What the format cannot carry is told on standard error.

    \b
    Examples:
      runfeed export 208d4397627919656b54c0b0 --as junit -o results.xml
      runfeed export http://127.0.0.1:8765/runs/208d... --as pytest-benchmark > run.json
      runfeed export 208d... --as parquet --table tests -o tests.parquet

    \b
    Exit status:
      0  written
      2  not written: an unknown run, a format that fits nothing of it, or the server cannot be reached
    """
    if page := _PAGE.fullmatch(run):
        server, run = page[1], page[2]
    if format_ == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is no text: name a file with -o, or redirect standard output")
    query = {"as": format_, **({"table": table} if table else {})}
    with _asked(checked_url(server), f"/api/v1/runs/{quote(run, safe='')}/export", query) as answer:
        if output is None:
            _copy(answer, sys.stdout.buffer)
        else:
            _write_whole(answer, output)
        for header, said in (("X-Runfeed-Parts", "the run is"), ("X-Runfeed-Left-Out", "left out:")):
            text = answer.headers.get(header, "")
            if text and not text.startswith("complete"):
                click.echo(f"{said} {printable(text)}", err=True)


def checked_url(url: str) -> str:
    """The server's address without a trailing slash, or Refused."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises for a port that is no number
    except ValueError as error:
        raise Refused("--from", f"a URL like {DEFAULT_URL}", str(error)) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise Refused("--from", f"a URL like {DEFAULT_URL}", repr(url[:200]))
    return url.rstrip("/")


def printable(text: str, limit: int = 2500) -> str:
    """A server's words on one line, leaving a terminal nothing to obey."""
    return "".join(letter if letter.isprintable() else "�" for letter in text[:limit])


@contextmanager
def _asked(server: str, path: str, query: dict[str, str]) -> "Iterator[httpx.Response]":
    """The answer, its body not read yet. Refused with the server's reason, or Unavailable."""
    import httpx  # takes longer to import than everything else together, and `--help` does without

    client = httpx.Client(
        headers={"User-Agent": "runfeed-export"},
        timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        trust_env=urlsplit(server).hostname not in _LOOPBACK,  # a proxy cannot reach this machine's own server
        verify=server.startswith("https:"),  # loading the certificates takes a while, and http needs none
    )
    try:
        with client, client.stream("GET", server + path, params=query) as answer:
            if answer.status_code != 200:
                raise _refusal(answer)
            if "content-disposition" not in answer.headers:
                raise Refused(server, "a Runfeed server", "another answer")
            yield answer
    except httpx.HTTPError as error:
        raise Unavailable(f"{server}: {printable(str(error)) or type(error).__name__}") from error


def _refusal(answer: "httpx.Response") -> Refused | Unavailable:
    body = b""
    for piece in answer.iter_bytes():
        body += piece
        if len(body) > _MOST_PROBLEM_BYTES:
            break
    try:
        problem = msgspec.json.decode(body, type=ProblemDetails)
    except msgspec.DecodeError:
        return Refused(str(answer.url.copy_with(query=None)), "a Runfeed server", f"status {answer.status_code}")
    if answer.status_code >= 500:
        return Unavailable(printable(problem.detail))
    return Refused(*(printable(text) for text in (problem.where, problem.expected, problem.found or problem.detail)))


def _copy(answer: "httpx.Response", sink: IO[bytes]) -> None:
    for piece in answer.iter_bytes():
        sink.write(piece)
    sink.flush()


def _write_whole(answer: "httpx.Response", output: Path) -> None:
    """Into `output` only once all of it is here."""
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with open(part, "xb") as file:
            _copy(answer, file)
        os.replace(part, output)
    except OSError as error:
        raise Refused("-o", "a file that can be written", f"{output}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
