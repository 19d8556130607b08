"""What a measurement gives."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One line of the table: what was measured, what was found, what was asked for (empty: for comparison)."""

    what: str
    found: str
    asked: str = ""


def peak_memory_mb(pid: int) -> float:
    """The process's peak resident memory so far, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = int(status.split("VmHWM:")[1].split()[0])
    return kib * 1024 / 1e6
