"""One target under Atheris for some seconds: `python -m tests.fuzz.child TARGET SECONDS FOLDER [SEEDS]`.

FOLDER keeps what is found: `corpus/` of inputs that reach new code, and the failures. SEEDS is a folder of real files
to start from besides. A failure is kept and the search goes on; only what ends the process ends it: an endless loop,
memory. Started by `__main__`, which reads the statistics that libFuzzer prints.
"""

import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["feed", "ingest", "processor", "schemas"]):
    from tests.fuzz import seeds
    from tests.fuzz.finds import Finds, kind_of, minimised
    from tests.fuzz.material import Material
    from tests.fuzz.targets import TESTED

MAX_BYTES = 1 << 16

MEMORY_BYTES = 1 << 30
"""Of data, in all: what one input of 64 KiB may take besides what the process has anyway."""

CPU_SECONDS = 10
"""For one input; the code is slower here than elsewhere, since it is watched."""

_HANGS_AFTER_SECONDS = 300  # by the clock, and machines stall


class Slow(Exception):
    """An input took too long."""


def run(check: Callable[[bytes], None], data: bytes) -> tuple[str, str] | None:
    """(kind, report) of the failure that `data` shows, or None."""
    began = time.process_time()
    try:
        check(data)
        if (took := time.process_time() - began) > CPU_SECONDS:
            raise Slow(f"{took:.1f} s for {len(data)} bytes")
    except Exception as error:  # noqa: BLE001 - the outermost loop: any exception is what we look for
        return kind_of(error), "".join(traceback.format_exception(error))
    return None


def main(name: str, seconds: int, folder: Path, extra: Path | None) -> None:
    target = TESTED[name]
    check = atheris.instrument_func(target.check)
    finds = Finds(folder)
    started_from = target.seeds()
    if extra and target.format:
        started_from += seeds.real(extra, target.format)
    words = seeds.words_of(*target.modules)
    material = Material(words, seeds.values_of(started_from))

    def test_one(data: bytes) -> None:
        failure = run(check, data)
        if failure is None or finds.has(kind := failure[0]):
            return
        finds.keep(kind, data, failure[1])
        shorter = minimised(data, lambda one: (run(check, one) or ("",))[0] == kind)
        finds.keep(kind, shorter, failure[1])
        print(f"FOUND {kind} in {len(shorter)} bytes", file=sys.stderr, flush=True)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        return target.changed(bytes(data), most, Random(seed), material, atheris.Mutate)

    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    (folder / "seeds").mkdir(exist_ok=True)
    for number, data in enumerate(started_from):
        (folder / "seeds" / str(number)).write_bytes(data)
    (folder / "dictionary").write_text(seeds.dictionary(words))
    options = {
        "max_total_time": seconds,
        "max_len": MAX_BYTES,
        "timeout": _HANGS_AFTER_SECONDS,
        "rss_limit_mb": 2 * MEMORY_BYTES >> 20,
        "artifact_prefix": f"{folder}/",
        "dict": folder / "dictionary",
        "print_final_stats": 1,
        "report_slow_units": _HANGS_AFTER_SECONDS,
    }
    flags = [f"-{key}={value}" for key, value in options.items()]
    atheris.Setup(["fuzz", *flags, str(folder / "corpus"), str(folder / "seeds")], test_one, custom_mutator=mutate)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]) if len(sys.argv) > 4 else None)
