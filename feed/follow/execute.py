"""`runfeed follow --exec`: a program of the user's for each entry, the bytes on its standard input.

It is run without a shell. `RUNFEED_ENTRY` is the entry as JSON; the variables of `VARIABLES` say the same one by one.
"""

import io
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import BinaryIO

from feed.follow.follow import Followed
from feed.follow.waiting import failed_seconds
from schemas.errors import Refused, RunfeedError

ATTEMPTS = 5

VARIABLES = ("kind", "seq", "id", "project", "format", "sha256", "size_bytes", "media_type", "encoding", "title", "key")
"""Each is in the variable `RUNFEED_ENTRY_<NAME>`."""

_LONGEST = 2000  # characters of a text in the environment


class Failed(RunfeedError):
    """The program ended with another status than 0, each time."""


def run_for(
    entry: Followed,
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    sleep: Callable[[float], None],
    on_note: Callable[[str], None],
    attempts: int = ATTEMPTS,
) -> None:
    """Run `command` for `entry` until it succeeds; between attempts it waits longer and longer. Raises Failed after
    the last; Refused if there is no such program; what `entry.open` does."""
    told = {**environ, **entry_variables(entry)}
    for attempt in range(1, attempts + 1):
        with entry.open() as body:
            status = _run(command, told, body)
        if status == 0:
            return
        if attempt < attempts:
            pause = failed_seconds(attempt, None, 1.0)
            on_note(f"entry {entry.seq}: {command[0]} ended with status {status}; again in {pause:.1f} s")
            sleep(pause)
    raise Failed(f"entry {entry.seq}: {command[0]} ended with status {status}, {attempts} times")


def entry_variables(entry: Followed) -> dict[str, str]:
    """What the program finds in its environment, where no value can hold a NUL or be much longer than 100,000 bytes."""
    short = replace(entry, title=entry.title[:_LONGEST], summary=entry.summary[:_LONGEST])
    named = {f"RUNFEED_ENTRY_{name.upper()}": str(getattr(short, name)) for name in VARIABLES}
    variables = {"RUNFEED_ENTRY": short.to_json().decode(), **named}
    return {name: value.replace("\0", "\ufffd") for name, value in variables.items()}


def _run(command: Sequence[str], environ: Mapping[str, str], body: BinaryIO) -> int:
    """The program's exit status; minus the number of the signal that ended it."""
    stdin = {"input": body.read()} if isinstance(body, io.BytesIO) else {"stdin": body}
    try:
        return subprocess.run(command, **stdin, env=dict(environ), check=False).returncode  # noqa: S603  the user's own
    except OSError as error:
        raise Refused("--exec", "a program that can be run", f"{command[0]}: {error.strerror}") from error
