"""What was proved of logs before, kept in a file of the user: the one thing that a rewritten past cannot rewrite."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from feed.verify.proof import Remembered
from schemas.errors import Refused
from schemas.records import SCHEMA_VERSION, Record


class _Memory(Record, frozen=True, kw_only=True):
    """The file: by address and log, since an address may come to lead to another feed."""

    logs: dict[str, Remembered] = msgspec.field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


def memory_file(environ: Mapping[str, str]) -> Path:
    """`runfeed/verified.json` in the user's state folder (XDG Base Directory)."""
    state = environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return folder / "runfeed" / "verified.json"


def recall(file: Path, address: str, log: str) -> Remembered | None:
    """What is remembered of `log` at `address`; Refused if the file is none of ours."""
    return _read(file).logs.get(_name(address, log))


def remember(file: Path, address: str, log: str, proved: Remembered | None) -> None:
    """Remember this instead of what was, or, with None, nothing. Of two who write at once one may be forgotten."""
    logs = _read(file).logs
    logs.pop(_name(address, log), None)
    if proved:
        logs[_name(address, log)] = proved
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    with open(temporary, "wb") as out:
        out.write(msgspec.json.format(msgspec.json.encode(_Memory(logs=logs)), indent=1))
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, file)


def _read(file: Path) -> _Memory:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Memory)
    except FileNotFoundError:
        return _Memory()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(str(file), "what runfeed verify remembers", str(error)) from error


def _name(address: str, log: str) -> str:
    return f"{address} {log}"
