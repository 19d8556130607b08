"""`python -m tests.faults`: a run, its report, and exit status 1 if anything was lost, doubled or otherwise wrong."""

import argparse
import secrets
import signal
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.faults.run import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--submissions", type=int, default=20_000, help="how many to push")
    parser.add_argument("--faults", type=int, default=200, help="how many faults meanwhile")
    parser.add_argument("--seed", type=int, help="decides files and faults; printed, so that a run can be repeated")
    parser.add_argument("--folder", type=Path, help="where to work; kept (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="where to write the report as JSON")
    chosen = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # whatever the shell says: what we started is ended
        signal.signal(number, signal.default_int_handler)
    seed = secrets.randbelow(1_000_000) if chosen.seed is None else chosen.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        report = run(
            chosen.folder or Path(name), submissions=chosen.submissions, faults=chosen.faults, seed=seed,
            say=lambda line: print(line, flush=True),
        )  # fmt: skip
    body = msgspec.json.format(msgspec.json.encode(report))
    if chosen.json:
        chosen.json.write_bytes(body + b"\n")
    print("\n".join(["", *report.lines()]))
    sys.exit(1 if report.breaches else 0)


if __name__ == "__main__":
    main()
