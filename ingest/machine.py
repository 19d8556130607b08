"""The machine that we run on: the parts of an environment that make its identity, and nothing that names its owner.

Only what stays the same from run to run is read: model, cores, memory, system. The runtime of what was measured is
unknown here (it is not this Python), so it stays empty unless the sender gives it.
"""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from schemas.records import Machine

_MODEL_NAME = re.compile(r"^(?:model name|cpu model|cpu|Model)\s*:\s*(.+)$", re.MULTILINE)
_OS_RELEASE = re.compile(r"""^(NAME|VERSION_ID)=["']?([^"'\n]*)""", re.MULTILINE)
_WHOLE_VERSION = ("Ubuntu",)  # releases 24.04 and 24.10 are as far apart as two majors elsewhere


def read_machine(root: Path = Path("/")) -> Machine:
    """This machine; parts that cannot be found are left out. `root` is where /proc and /etc are looked for."""
    return Machine(cpu=_cpu(root), cores=os.cpu_count(), ram_gib=_ram_gib(), os=_system(root))


def parse_cpuinfo(text: str) -> str:
    """The CPU model in /proc/cpuinfo, or empty (ARM kernels do not say)."""
    match = _MODEL_NAME.search(text)
    return " ".join(match[1].split()) if match else ""


def parse_os_release(text: str) -> str:
    """`Debian 12` from /etc/os-release (freedesktop.org/software/systemd/man/os-release.html)."""
    found = dict(_OS_RELEASE.findall(text))
    name = found.get("NAME", "").removesuffix(" GNU/Linux")
    version = found.get("VERSION_ID", "")
    if re.fullmatch(r"\d{8}", version):
        version = ""  # rolling releases put the day there
    if name not in _WHOLE_VERSION:
        version = version.partition(".")[0]
    return f"{name} {version}".strip()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _cpu(root: Path) -> str:
    if sys.platform == "darwin":
        return _output("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string")
    if sys.platform == "win32":
        return " ".join(platform.processor().split())
    return (
        parse_cpuinfo(_read_text(root / "proc/cpuinfo"))
        or _read_text(root / "sys/firmware/devicetree/base/model").strip("\0\n ")
        or platform.machine()
    )


def _ram_gib() -> int | None:
    if sys.platform == "win32":
        return None
    try:
        ram_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
    return max(1, round(ram_bytes / (1 << 30))) if ram_bytes > 0 else None


def _system(root: Path) -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0].partition('.')[0]}".strip()
    if sys.platform == "win32":
        return "Windows 11" if sys.getwindowsversion().build >= 22000 else f"Windows {platform.release()}"
    return parse_os_release(_read_text(root / "etc/os-release")) or platform.system()


def _output(*command: str) -> str:
    """What a system tool prints on one line, or empty if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603  fixed words
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
