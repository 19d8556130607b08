"""A wptreport of a full browser run's size and shape, for measuring speed and memory.

    python -m tests.bench.make_wptreport OUT.json [TESTS] [SEED]

33,000 tests, the default, give about 1.6 million subtests in 250 MB. As in published summaries of such runs, half of
the tests are reftests without subtests, the others have a heavy-tailed number of them (most a handful, some many
thousands), 95 % of subtests pass, and what fails says why. The same arguments give the same bytes.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

_AREAS = ("css", "dom", "encoding", "fetch", "html", "svg", "wasm", "webrtc")
_MOST_SUBTESTS = 17_000
_START_MS = 1_700_000_000_000


def write_wptreport(path: str | Path, tests: int = 33_000, seed: int = 1) -> tuple[int, int]:
    """Write the report and return its numbers of tests and of subtests."""
    chance = random.Random(seed)
    folders = [f"/{area}/{number}" for area in _AREAS for number in range(40)]
    head = {
        "run_info": {
            "product": "chrome",
            "browser_version": "120.0.6099.5",
            "browser_channel": "dev",
            "os": "linux",
            "os_version": "22.04",
            "version": "Ubuntu 22.04",
            "revision": f"{chance.getrandbits(160):040x}",
            "processor": "x86_64",
            "debug": False,
        },
        "time_start": _START_MS,
        "time_end": _START_MS + 3_600_000,
    }
    subtests = 0
    with open(path, "w", encoding="utf-8") as out:
        out.write(json.dumps(head)[:-1] + ', "results": [')
        for number in range(tests):
            test = f"{chance.choice(folders)}/case-{number:06d}.html"
            result = _reftest(test, chance) if chance.random() < 0.5 else _testharness_test(test, number, chance)
            subtests += len(result["subtests"])
            out.write((", " if number else "") + json.dumps(result))
        out.write("]}\n")
    return tests, subtests


def _reftest(test: str, chance: random.Random) -> dict[str, Any]:
    status = chance.choices(["PASS", "FAIL", "TIMEOUT", "SKIP"], [80, 17, 1, 2])[0]
    message = None if status == "PASS" else "mismatch of 312 pixels"
    return _result(test, status, message, chance.randint(5, 4000), [])


def _testharness_test(test: str, number: int, chance: random.Random) -> dict[str, Any]:
    count = min(_MOST_SUBTESTS, int(chance.paretovariate(0.75) * 3))
    subtests = [_subtest(number, part, passed=chance.random() < 0.95, chance=chance) for part in range(count)]
    return _result(test, "OK", None, chance.randint(5, 9000), subtests)


def _subtest(number: int, part: int, *, passed: bool, chance: random.Random) -> dict[str, Any]:
    return {
        "name": f'case {number} checks part {part} of the interface with é and "quotes"',
        "status": "PASS" if passed else chance.choice(["FAIL", "TIMEOUT", "NOTRUN"]),
        "message": None if passed else f"assert_equals: expected {part} but got {part + 1}",
        "known_intermittent": [],
    }


def _result(
    test: str, status: str, message: str | None, duration: int, subtests: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "test": test,
        "subsuite": "",
        "status": status,
        "message": message,
        "duration": duration,
        "subtests": subtests,
        "known_intermittent": [],
    }


if __name__ == "__main__":
    made = write_wptreport(sys.argv[1], *map(int, sys.argv[2:]))
    print(f"{made[0]:,} tests, {made[1]:,} subtests, {Path(sys.argv[1]).stat().st_size:,} bytes")
