"""`python -m tests.fuzz`: fuzz all targets for a while, each in a process of its own, and say what came of it.

Ends with 1 if anything was found; each find is printed with its input's path and what was raised.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.finds import ROOT, Finds

CORPUS = ROOT.parent / "shared" / "corpus"
_STATISTIC = re.compile(r"^stat::(\w+):\s*(\d+)", re.MULTILINE)
_COVERAGE = re.compile(r"^#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Ended:
    """What a target's process has done. `coverage` are edges reached with the seeds alone and at the end."""

    target: str
    code: int
    cpu_seconds: float
    executions: int
    coverage: tuple[int, int]
    slowest_seconds: int
    peak_mib: int
    finds: tuple[Path, ...]
    log: Path

    @property
    def failed(self) -> bool:
        return bool(self.finds) or self.code != 0

    def __str__(self) -> str:
        before, after = self.coverage
        text = f"{self.target:24} {self.executions:>9,} executions in {self.cpu_seconds:5.0f} s of CPU, "
        text += f"edges {before:,} to {after:,}, "
        text += f"slowest {self.slowest_seconds} s, peak {self.peak_mib} MiB, {len(self.finds)} found"
        if self.code and not self.finds:
            text += f", ended with {self.code}: see {self.log}"
        return text


def fuzz(target: str, seconds: int, work: Path, corpus: Path | None) -> Ended:
    """Fuzz one target in a process of its own. `work` keeps its corpus and its finds for the next time."""
    folder = work / target
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    command = [sys.executable, "-m", "tests.fuzz.child", target, str(seconds), str(folder)]
    if corpus:
        command.append(str(corpus))
    with log.open("wb") as out:
        child = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "0"}, stdout=out, stderr=out)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace")
    told = {name: int(number) for name, number in _STATISTIC.findall(text)}
    seen = _COVERAGE.findall(text)
    start = next((int(cover) for _, event, cover, _ in seen if event == "INITED"), 0)
    return Ended(
        target=target,
        code=child.returncode,
        cpu_seconds=used.ru_utime + used.ru_stime,
        executions=told.get("number_of_executed_units", int(seen[-1][0]) if seen else 0),
        coverage=(start, int(seen[-1][2]) if seen else 0),
        slowest_seconds=told.get("slowest_unit_time_sec", 0),
        peak_mib=told.get("peak_rss_mb", 0),
        finds=tuple(Finds(folder).paths()),
        log=log,
    )


def fuzz_all(targets: Sequence[str], seconds: int, jobs: int, work: Path, corpus: Path | None) -> list[Ended]:
    """Spread `seconds` of each job over the targets; prints each as it ends."""
    each = max(1, seconds * jobs // len(targets))

    def one(target: str) -> Ended:
        ended = fuzz(target, each, work, corpus)
        print(ended, flush=True)
        return ended

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, targets))


def shown(path: Path) -> str:
    """A find: where its input is, what was raised, and its first bytes."""
    report = path.with_name(path.name + ".txt")
    lines = report.read_text().splitlines()[-12:] if report.exists() else [repr(path.read_bytes()[:2_000])]
    return "\n    ".join([str(path), *lines])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="in all, for each job (default: 600)")
    parser.add_argument("--format", nargs="+", metavar="ID", help="targets: format ids, or others (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    parser.add_argument("--corpus", type=Path, help="real files to start from besides (default: ../shared/corpus)")
    parser.add_argument("--work", type=Path, help="where inputs and finds are kept (default: a new folder)")
    options = parser.parse_args(arguments)
    if find_spec("atheris") is None:
        parser.error("atheris is not installed: it is for Python 3.11 on Linux, x86-64")
    from tests.fuzz.targets import TARGETS, TESTED  # not before: it reads all formats

    targets = options.format or list(TARGETS)
    if unknown := set(targets) - set(TESTED):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    corpus = options.corpus or (CORPUS if CORPUS.is_dir() else None)
    work = options.work or Path(tempfile.mkdtemp(prefix="runfeed-fuzz-"))
    ended = fuzz_all(targets, options.seconds, options.jobs, work, corpus)
    for path in [path for one in ended for path in one.finds]:
        print(shown(path))
    print(f"{sum(one.executions for one in ended):,} executions; inputs and finds are in {work}")
    return int(any(one.failed for one in ended))


if __name__ == "__main__":
    sys.exit(main())
