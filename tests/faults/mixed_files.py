"""What the harness pushes: push number `n` of a seed is the same on every machine, so nobody has to keep the bytes.

Every format, whole and broken files, some that kill the process that reads them, parts of runs in chunks, big files
that are read in slices, compressed ones, the same file twice, the same bytes as another result.
"""

import gzip
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Literal

import msgspec
import zstandard

from processor.formats.registry import FORMATS
from schemas import keys
from schemas.records import Benchmark, Chunk, Commit, Context, Trust, submission_id
from tests import golden
from tests.bench.small_files import small_file

PROJECTS = ("alpha", "beta", "gamma", "delta")
RUNNER = "runner-of-the-harness"
Way = Literal["open", "token", "inbox"]
WAYS: tuple[Way, ...] = ("open", "token", "inbox")
"""How a push is sent: over HTTP without or with a token, or dropped into the inbox."""

TRUST: dict[Way, Trust] = {
    "open": Trust(kind="local"),
    "token": Trust(kind="token", name=RUNNER),
    "inbox": Trust(kind="runner", name=RUNNER),
}
CHUNKS = 4
BIG_BYTES = 17 << 20
"""Twice what a file is cut into, so that it is read in slices."""

_DECIMAL = re.compile(rb"(?<![\w.])\d+\.\d+(?![\w.])")
_OWN_FORMATS = ("benchmark",)
_HARMS = ("crash", "kill", "exit", "bug")


@dataclass(frozen=True)
class Push:
    """One file as a client pushes it."""

    body: bytes
    project: str
    format: str = "auto"
    context: Context = field(default_factory=Context)
    way: Way = "open"

    @property
    def sha256(self) -> str:
        return sha256(self.body).hexdigest()

    @property
    def id(self) -> str:
        """The id that its submission must get."""
        return submission_id(
            sha256=self.sha256, project=self.project, format=self.format, context=self.context, trust=self.trust
        )

    @property
    def trust(self) -> Trust:
        return TRUST[self.way]


def push_of(seed: int, n: int, big: frozenset[int] = frozenset()) -> Push:
    """Push number `n`. Those in `big` are of `BIG_BYTES`; now and then one is an earlier push once more."""
    chance = random.Random(f"{seed} {n}")
    project = chance.choice(PROJECTS)
    if n in big:
        return Push(_big(seed, n), project)
    if chance.random() < 0.03 and n > 50 and (earlier := n - chance.randint(1, 50)) not in big:
        return push_of(seed, earlier, big)
    commit = Commit(id=sha256(f"{seed} {n // 20}".encode()).hexdigest()[:40], branch="main")
    (way,) = chance.choices(WAYS, (80, 10, 10))
    if n % 100 < CHUNKS:  # neighbours make a run
        chunk = Chunk(group=f"run-{seed}-{n // 100}", index=n % 100 + 1, total=CHUNKS)
        return Push(_native(seed, n, chance), PROJECTS[n // 100 % len(PROJECTS)], context=Context(chunk=chunk))
    (kind,) = chance.choices(list(KINDS), [share for share, _ in KINDS.values()])
    body, format = KINDS[kind][1](seed, n, chance)
    if chance.random() < 0.15:
        body = gzip.compress(body, mtime=0) if chance.random() < 0.5 else zstandard.compress(body)
    context = Context(commit=commit, labels={"n": str(n)}) if chance.random() < 0.8 or kind == "golden" else Context()
    return Push(body, project, format, context, way)


def _native(seed: int, n: int, chance: random.Random) -> bytes:
    lines = [
        {"benchmark": f"b{k}", "metric": "time", "value": chance.random(), "unit": "s", "better": "lower"}
        if chance.random() < 0.7
        else {"test": f"t{k}", "status": chance.choice(["pass", "fail", "skip"])}
        for k in range(chance.randint(1, 30))
    ]
    return "".join(json.dumps(line) + "\n" for line in [*lines, {"test": f"{seed}-{n}", "status": "pass"}]).encode()


def _small(seed: int, n: int, _: random.Random) -> tuple[bytes, str]:
    return small_file(seed * 1_000_000 + n), "auto"


def _example(seed: int, n: int, chance: random.Random) -> tuple[bytes, str]:
    """A format's example, with a number of its own where it has one."""
    examples = [format.example for format in FORMATS.values() if format.id != keys.OWN_SCHEMA]
    example = chance.choice(examples).encode()
    *_, at = [0, *(found.end() for found in _DECIMAL.finditer(example))]
    return example[:at] + b"%d" % n + example[at:] if at else example, "auto"


def _golden(seed: int, n: int, chance: random.Random) -> tuple[bytes, str]:
    """A golden input as it is, so the same bytes come again as other results."""
    return chance.choice(golden_inputs())


def _broken(seed: int, n: int, chance: random.Random) -> tuple[bytes, str]:
    body = _native(seed, n, chance)
    return body[: chance.randint(1, len(body) - 3)] + chance.randbytes(3), chance.choice(["auto", "junit", "jmh"])


def _hostile(seed: int, n: int, chance: random.Random) -> tuple[bytes, str]:
    return json.dumps({"hostile": chance.choice(_HARMS), "n": f"{seed}-{n}"}).encode(), "auto"


KINDS: dict[str, tuple[float, Callable[[int, int, random.Random], tuple[bytes, str]]]] = {
    "native": (30, lambda seed, n, chance: (_native(seed, n, chance), "auto")),
    "small": (25, _small),
    "example": (25, _example),
    "golden": (15, _golden),
    "broken": (4, _broken),
    "hostile": (0.4, _hostile),
}
"""What there is, with its weight."""


@cache
def golden_inputs() -> list[tuple[bytes, str]]:
    """(bytes, declared format) of the golden inputs."""
    found = []
    for id, path, _ in golden.pairs():
        record = golden.benchmark_of(id)
        format = keys.benchmark_format(record.name, record.version) if record else "auto"
        found.append((path.read_bytes(), format))
    return found


def benchmarks() -> dict[str, bytes]:
    """What must be registered before anything is pushed: objects of the public bucket, by key."""
    found = {}
    for id in _OWN_FORMATS:
        record = golden.benchmark_of(id)
        assert isinstance(record, Benchmark)
        for project in PROJECTS:
            found[keys.benchmark(project, record.name, record.version)] = msgspec.json.encode(record)
    return found


def _big(seed: int, n: int) -> bytes:
    """A wptreport whose messages are long, so that it is big without many rows."""
    chance = random.Random(f"{seed} {n} big")
    results, size = [], 0
    while size < BIG_BYTES:
        subtests = [
            {"name": f"case {k}", "status": chance.choice(["PASS", "FAIL"]), "message": chance.randbytes(1500).hex()}
            for k in range(20)
        ]
        results.append(json.dumps({"test": f"/dom/{seed}/{len(results)}.html", "status": "OK", "subtests": subtests}))
        size += len(results[-1])
    return ('{"run_info": {"product": "example"}, "results": [' + ",".join(results) + "]}").encode()
