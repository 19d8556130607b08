"""The fuzzer itself: it finds what is there to be found, and nothing in what strangers' files go through.

Whole with `make soak`, for RUNFEED_FUZZ_SECONDS; here as long as shows that it works.
"""

import json
import os
import random
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.any_bytes import is_json
from tests.fuzz import seeds
from tests.fuzz.__main__ import CORPUS, Ended, fuzz, fuzz_all, main, shown
from tests.fuzz.finds import Finds, kind_of, minimised
from tests.fuzz.material import Material
from tests.fuzz.mutation import changed, simple_bytewise
from tests.fuzz.planted import check_planted
from tests.fuzz.targets import PLANTED, TARGETS

SECONDS = int(os.environ.get("RUNFEED_FUZZ_SECONDS", "600"))
MOST = 1 << 14

with_atheris = pytest.mark.skipif(
    find_spec("atheris") is None, reason="no atheris here: it is for Python 3.11 on Linux, x86-64"
)


def material_of(name: str) -> tuple[list[bytes], Material]:
    started_from = TARGETS[name].seeds()
    return started_from, Material(seeds.words_of(*TARGETS[name].modules), seeds.values_of(started_from))


def assert_nothing_found(ended: list[Ended]) -> None:
    found = [shown(path) for one in ended for path in one.finds]
    assert not found, "\n\n".join(found)
    failed = [f"{one}\n{one.log.read_text(errors='replace')[-2_000:]}" for one in ended if one.failed]
    assert not failed, "\n\n".join(failed)


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs_do_to_every_target_what_it_promises(name: str) -> None:
    """Without a guide, and wherever Python runs: every seed, and some changes of it."""
    started_from, material = material_of(name)
    chance = random.Random(name)
    for data in started_from:
        TARGETS[name].check(data)
    for _ in range(25):
        data = chance.choice(started_from)
        for _ in range(chance.choice([1, 2, 5])):
            data = TARGETS[name].changed(data, MOST, chance, material, simple_bytewise(chance))
            assert len(data) <= MOST
        TARGETS[name].check(data)


def test_the_same_chance_makes_the_same_change() -> None:
    started_from, material = material_of("auto")
    for number, data in enumerate(started_from):
        first, second = (
            changed(data, MOST, chance, material, simple_bytewise(chance))
            for chance in (random.Random(number), random.Random(number))
        )
        assert first == second


@pytest.mark.parametrize("name", ["wptreport", "criterion", "k6"])
def test_changed_json_is_mostly_json_still_and_other_json(name: str) -> None:
    """Archives left aside; lines count as JSON if the first and last are."""
    started_from, material = material_of(name)
    texts = [data for data in started_from if data[:1] in b"{["]
    chance = random.Random(name)
    whole = other = 0
    for _ in range(200):
        data = chance.choice(texts)
        made = changed(data, MOST, chance, material, simple_bytewise(chance))
        lines = made.split(b"\n")
        whole += is_json(made) or (is_json(lines[0]) and is_json(lines[-1] or lines[-2]))
        other += made != data
    assert whole > 60
    assert other > 190


def test_a_failure_is_reduced_to_what_makes_it() -> None:
    data = json.dumps({"a": [1, 2, 3], "planted": [{"b": 4}], "c": "d" * 500}).encode()

    def fails(data: bytes) -> bool:
        try:
            check_planted(data)
        except ZeroDivisionError:
            return True
        return False

    assert fails(data)
    assert minimised(data, fails) == b'{"planted":[]}'


def test_failures_are_told_apart_by_error_and_place(tmp_path: Path) -> None:
    finds = Finds(tmp_path)
    kinds = []
    for data in (b'{"planted": []}', b'{"planted": [1]}'):
        with pytest.raises(ZeroDivisionError) as caught:
            check_planted(data)
        kinds.append(kind_of(caught.value))
    assert kinds[0] == kinds[1]
    assert kinds[0].startswith("ZeroDivisionError-planted-")
    assert not finds.has(kinds[0])
    finds.keep(kinds[0], b"one", "why")
    assert finds.has(kinds[0])
    (path,) = finds.paths()
    assert path.read_bytes() == b"one"
    assert "why" in shown(path)


def test_a_long_seed_is_shortened_to_what_is_still_of_its_format() -> None:
    long = json.dumps({"results": [{"test": f"/{n}", "status": "OK"} for n in range(10_000)], "run_info": {}}).encode()
    short = seeds.shortened(long)
    assert len(short) < 1_000
    assert json.loads(short)["results"] == json.loads(long)["results"][:3]
    history = b"window.BENCHMARK_DATA = " + long + b";"
    assert seeds.shortened(history) == b"window.BENCHMARK_DATA = " + short + b";"
    assert seeds.shortened(b"a line\n" * 10_000).endswith(b"a line\n")


def test_an_unknown_target_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--format", "wptreport", "nothing"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "no target nothing; there are auto, runfeed" in told or "atheris is not installed" in told


@with_atheris
def test_the_fuzzer_finds_what_was_planted(tmp_path: Path) -> None:
    """A key that no seed has; on the way it is guided by the code of ours that inputs reach."""
    ended = fuzz(PLANTED, 2, tmp_path, None)
    (path,) = ended.finds
    assert ended.failed
    assert path.name.startswith("find-ZeroDivisionError")
    assert "planted" in json.loads(path.read_bytes())
    assert ended.coverage[1] > ended.coverage[0] > 10
    assert ended.executions > 50


@with_atheris
@pytest.mark.soak
@pytest.mark.skipif(not os.environ.get("RUNFEED_SOAK"), reason="the long version: make soak")
@pytest.mark.timeout(SECONDS * 3 + 600)
def test_nothing_is_found_in_long_fuzzing(tmp_path: Path) -> None:
    """RUNFEED_FUZZ_SECONDS (600 without it) for all targets together."""
    assert_nothing_found(fuzz_all(list(TARGETS), SECONDS, 1, tmp_path, CORPUS if CORPUS.is_dir() else None))
