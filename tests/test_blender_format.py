"""The traps of Blender Open Data that golden pairs do not make plain."""

import json
from typing import Any

import pytest

from processor.transform import Transformed
from tests.golden import rows_of, transformed

SYSTEM = {
    "system": "Linux",
    "dist_name": "Ubuntu",
    "dist_version": "22.04",
    "devices": [{"type": "CPU", "name": "Example CPU"}],
    "num_cpu_cores": 4,
    "num_cpu_threads": 8,
}
SECONDS = {"total_render_time": 20.0, "render_time_no_sync": 19.0}
RATE = {"samples_per_minute": 60.0, "total_render_time": 31.0, "time_limit": 30}


def scene(label: str = "monster", stats: dict[str, Any] = RATE, **others: Any) -> dict[str, Any]:
    """An element of v3, v4 or the launcher's list."""
    return {
        "scene": {"label": label, "checksum": "ab" * 32},
        "stats": stats,
        "blender_version": {"label": "4.1.0"},
        "device_info": {"device_type": "CPU", "compute_devices": [{"type": "CPU", "name": "Example CPU"}]},
        "system_info": SYSTEM,
        "timestamp": "2024-07-01T10:00:00+00:00",
    } | others


def row(data: Any, version: str = "v4", id: str = "r") -> dict[str, Any]:
    return {"id": id, "created_at": "2024-07-02T00:00:00+00:00", "schema_version": version, "data": data}


def session(*scenes: tuple[str, dict[str, Any]], devices: Any = ("Example GPU",), **others: Any) -> dict[str, Any]:
    """The `data` of v1 and v2."""
    return {
        "scenes": [{"name": name, "stats": stats} for name, stats in scenes],
        "device_info": {"device_type": "CUDA", "compute_devices": list(devices)},
        "blender_version": {"version": "2.79 (sub 1)"},
        "system_info": SYSTEM,
        "timestamp": "2018-09-06T14:12:51+00:00",
    } | others


def read(document: Any) -> Transformed:
    return transformed(json.dumps(document).encode())


def read_lines(*rows: Any) -> Transformed:
    return transformed("\n".join(one if isinstance(one, str) else json.dumps(one) for one in rows).encode())


def measured(document: Any) -> list[dict[str, Any]]:
    result = read(document)
    assert result.outcome.verdict == "accepted", result.outcome.problems
    return rows_of(result, "measurements")


def params(document: Any) -> dict[str, Any]:
    return json.loads(measured(document)[0]["params"])


def test_seconds_are_better_lower_and_samples_per_minute_higher_and_no_series_holds_both() -> None:
    seconds, rate = measured(row([scene(stats=SECONDS)], "v3")), measured(row([scene()]))
    assert [(one["metric"], one["unit"], one["better"]) for one in seconds] == [
        ("total_render_time", "s", "lower"),
        ("render_time_no_sync", "s", "lower"),
    ]
    assert [(one["metric"], one["unit"], one["better"]) for one in rate] == [
        ("samples_per_minute", "samples/min", "higher")
    ]
    assert not {one["series"] for one in seconds} & {one["series"] for one in rate}


def test_the_times_of_v4_say_nothing_and_are_kept_beside_the_rate() -> None:
    (one,) = measured(row([scene()]))
    assert json.loads(one["extra"])["total_render_time"] == 31.0


def test_the_launchers_own_list_is_v4_or_v3_as_its_numbers_say() -> None:
    assert [one["metric"] for one in measured([scene()])] == ["samples_per_minute"]
    assert [one["metric"] for one in measured([scene(stats=SECONDS)])] == ["total_render_time", "render_time_no_sync"]


@pytest.mark.parametrize(
    "other",
    [
        {"device_info": {"device_type": "HIP", "compute_devices": [{"type": "HIP", "name": "Example GPU"}]}},
        {"blender_version": {"label": "4.2.0"}},
        {"scene": {"label": "monster", "checksum": "cd" * 32}},
        {"stats": RATE | {"time_limit": 60}},
    ],
)
def test_another_device_blender_scene_file_or_time_limit_is_another_series(other: dict[str, Any]) -> None:
    series = {one["series"] for one in measured([scene(), scene(**other)])}
    assert len(series) == 2


def test_builds_and_checksums_of_one_blender_do_not_start_a_new_series() -> None:
    versions = [{"label": "4.1.0", "build_hash": text, "checksum": text * 8} for text in ("a1", "b2")]
    series = {measured([scene(blender_version=version)])[0]["series"] for version in versions}
    assert len(series) == 1


@pytest.mark.parametrize(
    ("kind", "devices", "device"),
    [
        ("CPU", [{"type": "CPU", "name": "Apple M1"}] * 4, "Apple M1"),
        ("OPTIX", [{"type": "OPTIX", "name": "RTX"}] * 2, "2 x RTX"),
        ("CUDA", [{"type": "CUDA", "name": "B"}, {"type": "CUDA", "name": "A"}], "A + B"),
        ("CUDA", ["GeForce (Display)"], "GeForce"),
    ],
)
def test_a_cpu_that_lists_itself_often_is_one_and_graphics_cards_are_counted(
    kind: str, devices: Any, device: str
) -> None:
    found = params([scene(device_info={"device_type": kind, "compute_devices": devices})])
    assert (found["device_type"], found["device"]) == (kind, device)


@pytest.mark.parametrize("devices", [[], [{"type": "CPU", "name": ""}], None, "x", [None]])
def test_a_device_without_a_name_is_flagged_and_costs_nothing(devices: Any) -> None:
    result = read([scene(device_info={"device_type": "CPU", "compute_devices": devices})])
    assert [problem.where for problem in result.outcome.problems] == ["/0/device_info/compute_devices"]
    assert result.outcome.measurements == 1


def test_of_v1_the_devices_are_flagged_once_for_all_scenes() -> None:
    result = read(row(session(("a", SECONDS), ("b", SECONDS), devices=[""]), "v1"))
    assert [problem.where for problem in result.outcome.problems] == ["/data/device_info/compute_devices"]


@pytest.mark.parametrize("stats", [{"result": "CRASH"}, {"result": "OK"}, SECONDS | {"total_render_time": 0}])
def test_a_scene_that_failed_gives_no_rows_and_a_kept_problem(stats: dict[str, Any]) -> None:
    result = read(row(session(("bad", stats), ("good", SECONDS)), "v2"))
    assert {one["benchmark"] for one in rows_of(result, "measurements")} == {"good"}
    (problem,) = result.outcome.problems
    assert problem.effect == "kept"
    assert problem.where.startswith("/data/scenes/0/stats/")


def test_a_scene_that_comes_twice_makes_two_rows_and_is_flagged() -> None:
    result = read(row(session(("a", SECONDS), ("a", SECONDS | {"total_render_time": 9.0})), "v2"))
    values = [one["value"] for one in rows_of(result, "measurements") if one["metric"] == "total_render_time"]
    assert values == [20.0, 9.0]
    assert [str(problem) for problem in result.outcome.problems] == [
        "/data/scenes/1: expected each scene once, found 'a' again"
    ]


def test_each_line_is_a_run_with_its_own_facts_and_a_bad_one_is_refused_alone() -> None:
    result = read_lines(
        row([scene()], id="one"), '{"id": ', row([scene(stats={"samples_per_minute": "fast"})]), row([scene()])
    )
    outcome = result.outcome
    assert (outcome.verdict, outcome.runs) == ("accepted", 2)
    assert [problem.where for problem in outcome.problems] == ["line 2", "line 3/data/0/stats/samples_per_minute"]
    runs = rows_of(result, "runs")
    assert [one["commit"] for one in runs] == [None, None]
    assert (runs[0]["cpu"], runs[0]["cores"], runs[0]["os"]) == ("Example CPU", 8, "Ubuntu 22.04")
    assert dict(runs[0]["labels"])["row"] == "one"


def test_an_array_of_rows_reads_as_lines_do() -> None:
    rows = [row([scene()], id="a"), row([scene()], "v9")]
    result = read(rows)
    assert (result.outcome.verdict, result.outcome.runs) == ("accepted", 1)
    assert [problem.where for problem in result.outcome.problems] == ["/1/schema_version"]


def test_scenes_of_another_system_are_a_run_of_their_own() -> None:
    result = read(
        row([scene(), scene(system_info=SYSTEM | {"devices": [{"type": "CPU", "name": "Other"}]}), scene("x")])
    )
    assert [one["cpu"] for one in rows_of(result, "runs")] == ["Example CPU", "Other"]


def test_what_the_launcher_prints_on_the_machine_that_pushes_gets_the_pushs_commit() -> None:
    assert [one["commit"] for one in rows_of(read([scene()]), "runs")] == ["c" * 40]


def test_every_problem_of_a_row_is_listed() -> None:
    data = session(("a", {"total_render_time": "x", "device_peak_memory": []}), (3, SECONDS), timestamp=5)  # type: ignore[arg-type]
    assert [problem.where for problem in read(row(data, "v2")).outcome.problems] == [
        "/data/timestamp",
        "/data/scenes/0/stats/total_render_time",
        "/data/scenes/0/stats/device_peak_memory",
        "/data/scenes/1/name",
    ]


def test_a_field_that_nobody_knows_is_in_the_loss_report() -> None:
    result = read(row([scene(stats=RATE | {"energy": 5}), scene("b", gpu_driver="1.2")]))
    assert result.outcome.unread == {"/data/*/gpu_driver": 1, "/data/*/stats/energy": 1}


def test_names_of_persons_and_secrets_are_never_kept() -> None:
    result = read(row([scene(system_info=SYSTEM | {"user": "somebody"}, benchmark_launcher={"api_token": "s3cret"})]))
    assert result.outcome.unread == {"/data/*/system_info/user": 1, "/data/*/benchmark_launcher/api_token": 1}
    assert "somebody" not in str(rows_of(result, "runs"))
    assert "s3cret" not in str(rows_of(result, "measurements"))


@pytest.mark.parametrize(
    "document",
    [
        row([]),
        row({"scenes": []}, "v1"),
    ],
)
def test_a_row_without_scenes_is_accepted_with_no_rows(document: Any) -> None:
    assert (read(document).outcome.verdict, read(document).outcome.measurements) == ("accepted", 0)


@pytest.mark.parametrize(
    "document",
    [
        row(None),
        row(7, "v1"),
        row([scene(), 7]),
        row([scene(stats=None)]),  # type: ignore[arg-type]
        row([scene(scene={"label": ["x"]})]),
        row([scene(stats={"samples_per_minute": 10**400})]),
        row([scene(blender_version=[])]),
        row([scene()], "v99"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(document: Any) -> None:
    outcome = read(document).outcome
    assert outcome.verdict == "rejected"
    assert all(problem.where.startswith(("/data", "/schema_version")) for problem in outcome.problems)


@pytest.mark.parametrize(
    "others",
    [
        {"timestamp": "never"},
        {"timestamp": "0001-01-01T00:00:00+23:59"},
        {"system_info": None},
        {"system_info": {"devices": [None, 3], "num_cpu_threads": 2**70, "dist_version": 5, "system": {}}},
        {"blender_version": {"label": 5, "version": None}},
        {"device_info": {"device_type": [], "compute_devices": [[], {"name": 3}], "num_cpu_threads": "8"}},
    ],
)
def test_strange_facts_cost_no_rows(others: dict[str, Any]) -> None:
    assert len(measured(row([scene(**others)]))) == 1
