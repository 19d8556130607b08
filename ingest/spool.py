"""The spool: submissions that could not be delivered yet, kept on the runner until the server gives a receipt.

    <folder>/<when>-<id16>/blob        the bytes
    <folder>/<when>-<id16>/item.json   where they go and what is said of them (never a token)
    <folder>/refused/<when>-<id16>/    refused for good by the server; `reason.txt` says why
    <folder>/.new-<chance>/            being written or removed; swept after a day

An item appears whole by a rename, after its files are on disk. `when` comes first, so the oldest lists first; `id16`
covers target and content, so the same push that fails twice is kept once. No locks: two pushes that send the same item
at once get the same receipt, and whoever removes it second finds nothing left to do.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ingest.pack import Packed
from schemas.errors import Refused, StorageFull
from schemas.records import SCHEMA_VERSION, Context, Encoding, Record

MAX_BYTES = 4 << 30
"""What the spool may hold; a runner whose server is gone for good must not fill its disk."""

_ITEM = re.compile(r"\d{8}T\d{6}\d{6}Z-([0-9a-f]{16})")
_SWEEP_AFTER_SECONDS = 24 * 3600.0

OnDamaged = Callable[[Path, str], None]
"""Told where a damaged item has been moved, and what is wrong with it."""


class Spooled(Record, frozen=True, kw_only=True):
    """`item.json`."""

    to: str
    name: str
    project: str
    format: str
    sha256: str
    size_bytes: int
    media_type: str
    encoding: Encoding
    context: Context
    when: datetime
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Item:
    """A submission in the spool: where it should go, and the file as it was packed."""

    key: str
    to: str
    packed: Packed


def spool_folder(environ: Mapping[str, str]) -> Path:
    """RUNFEED_SPOOL, else `runfeed/spool` in the user's state folder (XDG Base Directory)."""
    if given := environ.get("RUNFEED_SPOOL"):
        return Path(given)
    state = environ.get("XDG_STATE_HOME", "")
    return (Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state") / "runfeed" / "spool"


class Spool:
    """The spool in `folder`, which is created with the first item, for its owner only."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder.absolute()
        self.refused_folder = self.folder / "refused"
        self._max_bytes = max_bytes

    def keep(self, packed: Packed, to: str, now: datetime) -> Item:
        """Put `packed` into the spool, on disk when this returns; if it is there already, that item.

        Raises StorageFull beyond the spool's size, Refused if the file has changed since it was packed, OSError if
        the disk fails.
        """
        item_id = _item_id(packed, to)
        if present := next((key for key in self._keys() if key.endswith(item_id)), None):
            return Item(present, to, packed)
        if self.size_bytes() + packed.size_bytes > self._max_bytes:
            raise StorageFull(f"the spool {self.folder} would exceed {self._max_bytes:,} bytes")
        key = f"{now.astimezone(UTC):%Y%m%dT%H%M%S%fZ}-{item_id}"
        spooled = Spooled(
            to=to,
            name=packed.name,
            project=packed.project,
            format=packed.format,
            sha256=packed.sha256,
            size_bytes=packed.size_bytes,
            media_type=packed.media_type,
            encoding=packed.encoding,
            context=packed.context,
            when=now,
        )
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self.folder / f".new-{secrets.token_hex(8)}"
        new.mkdir(mode=0o700)
        try:
            _write_blob(new / "blob", packed)
            _write(new / "item.json", msgspec.json.encode(spooled))
            _sync_folder(new)
            new.rename(self.folder / key)
            _sync_folder(self.folder)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        return Item(key, to, packed)

    def items(self, on_damaged: OnDamaged = lambda place, reason: None) -> list[Item]:
        """What waits, oldest first. A damaged item is moved to `refused/` and told to `on_damaged`."""
        self._sweep()
        found = []
        for key in self._keys():
            folder = self.folder / key
            try:
                spooled = msgspec.json.decode((folder / "item.json").read_bytes(), type=Spooled)
                if (size_bytes := (folder / "blob").stat().st_size) != spooled.size_bytes:
                    raise ValueError(f"blob: expected {spooled.size_bytes:,} bytes, found {size_bytes:,}")
            except (ValueError, OSError) as error:  # msgspec's and Unicode's errors are ValueErrors
                # If another push has just delivered it, there is nothing to move.
                if place := self.refuse(key, f"damaged: {error}"):
                    on_damaged(place, str(error))
                continue
            packed = Packed(
                name=spooled.name,
                path=folder / "blob",
                sha256=spooled.sha256,
                size_bytes=spooled.size_bytes,
                media_type=spooled.media_type,
                encoding=spooled.encoding,
                project=spooled.project,
                format=spooled.format,
                context=spooled.context,
            )
            found.append(Item(key, spooled.to, packed))
        return found

    def remove(self, key: str) -> None:
        """Forget an item that has its receipt; one that is gone already is fine."""
        gone = self.folder / f".new-{secrets.token_hex(8)}"
        with contextlib.suppress(FileNotFoundError):
            (self.folder / key).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def refuse(self, key: str, reason: str) -> Path | None:
        """Move an item that can never be delivered to `refused/`, with the reason; None if it is gone already."""
        self.refused_folder.mkdir(exist_ok=True, mode=0o700)
        moved = self.refused_folder / key
        try:
            (self.folder / key).rename(moved)
        except FileNotFoundError:
            return None
        _write(moved / "reason.txt", f"{reason}\n".encode("utf-8", "replace"))
        _sync_folder(self.refused_folder)
        return moved

    def refused(self) -> list[str]:
        """The keys in `refused/`, oldest first."""
        return sorted(os.listdir(self.refused_folder)) if self.refused_folder.is_dir() else []

    def size_bytes(self) -> int:
        """What lies in the spool, refused items included."""
        total = 0
        for folder, _, names in os.walk(self.folder):  # which passes over what another push removes meanwhile
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    total += os.stat(os.path.join(folder, name)).st_size
        return total

    def _keys(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(name for name in os.listdir(self.folder) if _ITEM.fullmatch(name))

    def _sweep(self) -> None:
        """Remove what a push left behind that died while it wrote or removed."""
        for left in self.folder.glob(".new-*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _SWEEP_AFTER_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)


def _item_id(packed: Packed, to: str) -> str:
    covered = [to, packed.project, packed.format, packed.sha256, packed.context]
    return hashlib.sha256(msgspec.json.encode(covered, order="sorted")).hexdigest()[:16]


def _write_blob(path: Path, packed: Packed) -> None:
    digest = hashlib.sha256()
    with open(path, "xb") as file:
        for piece in packed.pieces():
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != packed.sha256:
        raise Refused(packed.name, f"sha256 {packed.sha256}, as when it was first read", digest.hexdigest())


def _write(path: Path, body: bytes) -> None:
    with open(path, "xb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # elsewhere a folder cannot be opened, and a rename is as durable as it gets
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
