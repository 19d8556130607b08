"""A runner: what it does at a commit in an environment: test, measure, push."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.demo.repository import Committed, sample_environ

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "dev-mode": ("-X", "dev"),
}
"""Declared name to the interpreter's options. Development mode checks memory and warnings, so it is really slower."""

PYTEST_OPTIONS = (
    "-p",
    "pytest_benchmark.plugin",
    "-p",
    "no:cacheprovider",
    "--quiet",
    "--benchmark-disable-gc",
    "--benchmark-warmup=off",
    # Short rounds and few of them: forty commits in two environments shall take a minute or two.
    "--benchmark-max-time=0.04",
    "--benchmark-min-time=0.001",
    "--benchmark-min-rounds=5",
)

SAMPLE_ENVIRON = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    # One folder sees many commits within a second, too fast for the time stamps that bytecode is checked by.
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
}


@dataclass(frozen=True)
class Results:
    """What one commit gave in one environment."""

    commit: Committed
    environment: str
    junit: Path
    benchmarks: Path


def make_results(repository: Path, commit: Committed, environment: str, folder: Path) -> Results:
    """Run the sample's tests and benchmarks as of `commit`, the one checked out; RuntimeError if pytest could not."""
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(commit, environment, folder / "junit.xml", folder / "benchmarks.json")
    command = [
        *(sys.executable, *ENVIRONMENTS[environment], "-m", "pytest", *PYTEST_OPTIONS),
        *(f"--junitxml={results.junit}", f"--benchmark-json={results.benchmarks}", "tests", "benchmarks"),
    ]
    environ = sample_environ() | SAMPLE_ENVIRON
    done = subprocess.run(command, cwd=repository, env=environ, capture_output=True, text=True, check=False)
    # pytest ends with 1 when tests failed, which is a result like any other.
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest at {commit.title}: {done.stdout}{done.stderr}")
    return results


def push(repository: Path, results: Results, *, project: str, url: str) -> list[str]:
    """Push both files with the installed command, from the repository so that it finds the commit; submission ids."""
    command = [
        *(runfeed_command(), "push", str(results.junit), str(results.benchmarks)),
        *("--project", project, "--environment", results.environment, "--to", url, "--json", "--no-spool"),
    ]
    # A spool of its own, so that results of the user's that wait in theirs are not taken for the demo's.
    environ = sample_environ() | {"RUNFEED_SPOOL": str(results.junit.parent / "spool")}
    done = subprocess.run(command, cwd=repository, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"runfeed push at {results.commit.title}: {done.stderr.strip() or done.stdout.strip()}")
    return [json.loads(line)["receipt"]["id"] for line in done.stdout.splitlines() if line.strip()]


def runfeed_command() -> str:
    """The command beside this interpreter, where `make install` put it; FileNotFoundError if it is not there."""
    beside = Path(sys.executable).parent
    if (found := shutil.which("runfeed", path=str(beside))) is None:
        raise FileNotFoundError(f"no runfeed command in {beside}: run `make install`")
    return found
