"""All settings, read once at the program's entry and passed from there. Nobody else reads the environment.

Order: command line, then `RUNFEED_<NAME>` in the environment, then `runfeed.toml` in the data folder, then the default.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from schemas.errors import Refused

DEFAULT_PORT = 8765
LOG_LEVELS = ("debug", "info", "warning", "error")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_MEMORY = re.compile(r"\d+(\.\d+)? ?[KMGT]i?B", re.IGNORECASE)


@dataclass(frozen=True)
class Settings:
    """What a running Runfeed needs to know. Defaults run everything locally."""

    data: Path = field(
        default=Path("data"), metadata={"help": "folder of the buckets, the dashboard's file and the spool"}
    )
    bucket: str = field(
        default="", metadata={"help": "s3://name[/prefix] to keep the public bucket there; empty: a folder"}
    )
    private_bucket: str = field(
        default="", metadata={"help": "s3://name[/prefix] of the private bucket, if bucket is set"}
    )
    host: str = field(default="127.0.0.1", metadata={"help": "address to listen on"})
    port: int = field(default=DEFAULT_PORT, metadata={"help": "port to listen on; 0 takes a free one"})
    allow_anonymous: bool = field(
        default=False, metadata={"help": "take uploads without a token on addresses other than loopback"}
    )
    max_blob_bytes: int = field(default=1 << 30, metadata={"help": "largest upload, as sent"})
    max_decoded_bytes: int = field(default=1 << 30, metadata={"help": "largest file after decompression"})
    max_uploads: int = field(default=64, metadata={"help": "uploads at once; more get 429"})
    worker_threads: int = field(
        default=1,
        metadata={"help": "batches transformed at once; more than one pays only where storage is slow"},
    )
    worker_processes: int = field(
        default=0, metadata={"help": "processes that transform files; 0: one per core, at most 8"}
    )
    transform_memory_mib: int = field(
        default=2048, metadata={"help": "memory of such a process; a file that needs more is quarantined"}
    )
    transform_seconds: int = field(
        default=300, metadata={"help": "computing time for one file, however large; one that needs more is quarantined"}
    )
    redis: str = field(
        default="", metadata={"help": "redis://host:port of the queue that roles share; empty: a queue in this process"}
    )
    heartbeat_seconds: int = field(
        default=60, metadata={"help": "after which a worker that gives no sign loses its batch to another"}
    )
    redeliver_seconds: int = field(
        default=600, metadata={"help": "after which a batch without outcome is put on the queue again"}
    )
    lease_seconds: int = field(
        default=6, metadata={"help": "after which an announcer that gives no sign loses its place to another"}
    )
    inbox_queue: str = field(
        default="",
        metadata={"help": "URL of the SQS queue that tells of objects in the inbox; empty: listing finds them"},
    )
    inbox_seconds: int = field(default=10, metadata={"help": "between two listings of the inbox"})
    upload_endpoint: str = field(
        default="",
        metadata={"help": "address at which runners reach the object storage; empty: all uploads pass through ingest"},
    )
    snapshot_seconds: int = field(
        default=0, metadata={"help": "between two published snapshots of a dashboard's database; 0: none"}
    )
    public_url: str = field(
        default="",
        metadata={"help": "address at which people reach this server; empty: logs name neither it nor a hub"},
    )
    hubs: str = field(
        default="", metadata={"help": "WebSub hubs to tell of new entries beside our own, separated by spaces"}
    )
    private_addresses: bool = field(
        default=False, metadata={"help": "let sources and callbacks be at loopback and private addresses"}
    )
    source_seconds: int = field(default=300, metadata={"help": "between two looks at a source that names no time"})
    tls_certificate: str = field(
        default="", metadata={"help": "PEM file of the server's certificate chain; empty: HTTP"}
    )
    tls_key: str = field(default="", metadata={"help": "PEM file of the certificate's key"})
    duckdb_memory: str = field(default="400MB", metadata={"help": "DuckDB's memory limit"})
    log_level: str = field(default="warning", metadata={"help": "debug, info, warning or error"})

    @property
    def on_loopback(self) -> bool:
        return self.host in LOOPBACK


def read_settings(environ: Mapping[str, str], given: Mapping[str, Any]) -> Settings:
    """Settings from what the command line gave (None: nothing), the environment and the data folder's file.

    Raises Refused 422 for an unknown name in the file or a value of the wrong type.
    """
    return Settings(**{name: value for name, (value, _) in settle(environ, given).items()})


def settle(environ: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Each setting's value, in order, and where it is from: the command line, a variable, the file, or `default`."""
    given = {name: value for name, value in given.items() if value is not None}
    data, data_from = Settings.data, "default"
    if given.get("data"):
        data, data_from = Path(given["data"]), "command line data"
    elif environ.get("RUNFEED_DATA"):
        data, data_from = Path(environ["RUNFEED_DATA"]), "RUNFEED_DATA"
    file = data / "runfeed.toml"
    try:
        written = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(str(file), "TOML in UTF-8", str(error), status=422) from error
    known = {one.name: one for one in fields(Settings)}
    for name in written:
        if name not in known or name == "data":
            raise Refused(
                f"{file} {name}", "one of " + ", ".join(sorted(set(known) - {"data"})), repr(name), status=422
            )
    settled: dict[str, tuple[Any, str]] = {}
    for name, one in known.items():
        settled[name] = (data, data_from) if name == "data" else (one.default, "default")
        if name == "data":
            continue
        variable = f"RUNFEED_{name.upper()}"
        for where, found, source in (
            (f"command line {name}", name, given),
            (variable, variable, environ),
            (f"{file} {name}", name, written),
        ):
            if found in source:
                settled[name] = _checked(where, name, _parsed(where, source[found], type(one.default))), where
                break
    return settled


def _checked(where: str, name: str, value: Any) -> Any:
    """`value` if the setting `name` may have it: nothing may be switched off by a slip."""
    if name == "port":
        fits, expected = 0 <= value <= 65535, "0 to 65535"
    elif name == "worker_processes":
        fits, expected = 0 <= value <= 256, "0 to 256"
    elif name == "transform_memory_mib":
        fits, expected = 256 <= value <= 1 << 24, "256 to 16777216"
    elif name == "snapshot_seconds":
        fits, expected = value >= 0, "at least 0"
    elif name == "log_level":
        fits, expected = value in LOG_LEVELS, "one of " + ", ".join(LOG_LEVELS)
    elif name == "duckdb_memory":
        fits, expected = _MEMORY.fullmatch(value) is not None, "an amount of memory, as in 400MB or 2GiB"
    else:
        fits, expected = not isinstance(value, int) or isinstance(value, bool) or value >= 1, "at least 1"
    if not fits:
        raise Refused(where, expected, repr(value)[:80], status=422)
    return value


def _parsed(where: str, value: Any, wanted: type) -> Any:
    if wanted is bool and isinstance(value, str):
        if value.lower() in ("1", "true", "yes", "on"):
            return True
        if value.lower() in ("0", "false", "no", "off", ""):
            return False
        raise Refused(where, "true or false", repr(value), status=422)
    if wanted is int and isinstance(value, str):
        try:
            return int(value)
        except ValueError as error:
            raise Refused(where, "a whole number", repr(value), status=422) from error
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise Refused(where, wanted.__name__, repr(value), status=422)
    return value
