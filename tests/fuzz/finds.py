"""A failure that the fuzzer has found: what kind it is, as few bytes as still show it, and the files that keep it."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(str(ROOT / room) for room in ("processor", "schemas"))
_TARGETS = str(ROOT / "tests")
_SMALL_BYTES = 24  # pieces that are tried at every place, since JSON is cut at few


def kind_of(error: BaseException) -> str:
    """What tells a failure from others: its type and the innermost line of our code it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(_OURS)]
    checks = [frame for frame in frames if frame.filename.startswith(_TARGETS)]
    frame = (ours or checks or frames)[-1]
    if isinstance(error, AssertionError) and checks:
        frame = checks[-1]
    return f"{type(error).__name__}-{Path(frame.filename).stem}-{frame.lineno}"


@dataclass(frozen=True)
class Finds:
    """A folder with two files for each kind of failure: the input, and beside it what was raised."""

    folder: Path

    def has(self, kind: str) -> bool:
        """Whether there is a failure of this kind already."""
        return self._path(kind).exists()

    def keep(self, kind: str, data: bytes, report: str) -> None:
        """Keep a failure, in place of another of its kind."""
        path = self._path(kind)
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.with_name(path.name + ".txt").write_text(f"{report}\n{len(data)} bytes: {data[:2_000]!r}\n")

    def _path(self, kind: str) -> Path:
        return self.folder / f"find-{kind}"

    def paths(self) -> list[Path]:
        """The inputs that were kept, those that libFuzzer itself kept (`timeout-`, `oom-`, `crash-`) among them."""
        marks = ("find-", "timeout-", "oom-", "crash-")
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(path for path in found if path.name.startswith(marks) and path.suffix != ".txt")


def minimised(data: bytes, fails: Callable[[bytes], bool], *, seconds: float = 10) -> bytes:
    """`data` with pieces cut out as long as it still fails, larger pieces first; at most `seconds` are spent."""
    until = time.monotonic() + seconds
    size = len(data) // 2
    while size > 0:
        at = 0
        while at < len(data):
            if time.monotonic() > until:
                return data
            shorter = data[:at] + data[at + size :]
            if shorter and fails(shorter):
                data = shorter
            else:
                at += 1 if size <= _SMALL_BYTES else size
        size = size - 1 if size <= _SMALL_BYTES else size // 2
    return data
