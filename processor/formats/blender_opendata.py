"""Blender Open Data: what the Blender benchmark's launcher prints, and the rows of the public data that it is sent to.

    {"id": …, "created_at": …, "schema_version": "v4", "data": [{"scene": {"label": "monster", "checksum": …},
     "blender_version": {"label": "3.6.0", …}, "device_info": {"device_type": "HIP", "compute_devices": [{"name": …}]},
     "system_info": {…}, "stats": {"samples_per_minute": 132.06, …}, "timestamp": …, …}]}

A file is one row, an array of rows, a row per line (as in the snapshots of opendata.blender.org), or the launcher's
list, which is the `data` of v3 and v4 by itself. Each row is a run, with its own facts; scenes of a row that were
rendered on another system are a run of their own. A row that cannot be read is refused alone.

| field | becomes | notes |
|---|---|---|
| scene.label (v1, v2: name) | benchmark | |
| stats.samples_per_minute (v4) | metric `samples_per_minute`, `samples/min`, higher is better | the headline of v4 |
| stats.total_render_time (v1–v3) | metric `total_render_time`, `s`, lower | the headline of v1–v3 |
| render_time_no_sync, pipeline_render_time (v1–v3) | metrics of these names, `s`, lower | |
| device_peak_memory, device_memory_usage | metrics of these names, `MiB`, lower | Cycles' `M` are 1,048,576 bytes |
| number_of_samples and times of v4 | extra of samples_per_minute | v4 renders for a fixed time |
| time_limit | params `time_limit` | seconds |
| device_info | params `device_type`, `device`, for CPUs `threads` | see below; in extra too |
| blender_version, scene.checksum | benchmark_version | see below |
| system_info | cpu, cores, os; machine | cpu_brand, else the device of type CPU; cores are threads, as elsewhere |
| timestamp, else created_at | started | the earliest of the row |
| id, schema_version, created_at | labels `row`, `schema`, `created_at` | |
| benchmark_launcher, benchmark_script, benchmark_client | labels `launcher`, `script`, `client` | checksums in extra |

**Identity.** What is measured is a compute device, which need not be the CPU: its type and name are params. Cycles has
one CPU device, so a CPU that lists itself four times is one; graphics cards of one name are counted (`2 x GeForce RTX
2080`). v1 marks the card that drives the display in its name; the mark is left out. A device without a name is flagged.

**Version.** Each Blender renders differently, so its label (else its version) is the benchmark's version, with the
beginning of the scene's checksum where there is one. So neither Blender's nor a scene's versions are pooled. The
seconds of v1–v3 and the samples per minute of v4 are different metrics.

**A scene that comes twice** in a row (v2 has such rows) makes two measurements, flagged: nobody knows whether it was
repeated or is another scene under a wrong name.

**Failures.** A scene whose `result` is not `OK`, or whose headline is absent or not more than 0, gives no rows and a
kept problem. A row whose values are of wrong types is refused.

Definition: https://opendata.blender.org/about/
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from processor.formats import Format
from processor.reading.decode import Buffer, rejected
from processor.reading.instants import parse_instant
from processor.reading.mended import every_problem, read_fields, read_mended
from processor.reading.shape import Shape
from processor.reading.withheld import without_private
from processor.tables import RunFacts, RunRows, Tables, canonical_json
from schemas.errors import Rejected
from schemas.problems import problem_of
from schemas.records import Machine, Problem

_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_VERSIONS = ("v1", "v2", "v3", "v4")
_SECONDS = ("total_render_time", "render_time_no_sync", "pipeline_render_time")
_MEMORY = ("device_peak_memory", "device_memory_usage")
_INFO = ("blender_version", "benchmark_launcher", "benchmark_script", "benchmark_client", "device_info", "timestamp")
_WHOLE_VERSION = ("Ubuntu",)  # 24.04 and 24.10 are as far apart as two majors elsewhere

Info = dict[str, Any] | None
S = TypeVar("S", bound=msgspec.Struct)


class Row(msgspec.Struct, forbid_unknown_fields=True):
    data: msgspec.Raw
    schema_version: str
    id: str | None = None
    created_at: str | None = None


class Stats(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    result: str | None = None
    total_render_time: float | None = None
    render_time_no_sync: float | None = None
    pipeline_render_time: float | None = None
    device_peak_memory: float | None = None
    device_memory_usage: float | None = None
    samples_per_minute: float | None = None
    number_of_samples: float | None = None
    time_for_samples: float | None = None
    time_limit: float | None = None


class NamedScene(msgspec.Struct, forbid_unknown_fields=True):
    """A scene of v1 and v2."""

    name: str
    stats: Stats


class Session(msgspec.Struct, forbid_unknown_fields=True):
    """`data` of v1 and v2."""

    scenes: list[msgspec.Raw]
    blender_version: Info = None
    device_info: Info = None
    system_info: Info = None
    benchmark_client: Info = None
    timestamp: str | None = None


class Scenes(msgspec.Struct):
    """The scenes of a session of which something else is wrong."""

    scenes: list[msgspec.Raw]


class Scene(msgspec.Struct, forbid_unknown_fields=True):
    """An element of the `data` of v3 and v4, and of the launcher's list. A scene of v1 and v2 is turned into one."""

    scene: dict[str, Any]
    stats: Stats
    blender_version: Info = None
    device_info: Info = None
    system_info: Info = None
    benchmark_launcher: Info = None
    benchmark_script: Info = None
    benchmark_client: Info = None
    timestamp: str | None = None


def claims(shape: Shape) -> bool:
    keys = shape.keys.keys()
    if {"schema_version", "data"} <= keys and {"id", "created_at"} & keys:
        return bytes(shape.keys["schema_version"])[:2] == b'"v'
    return shape.kind == "array" and {"blender_version", "scene", "stats"} <= keys


def read(data: Buffer, out: Tables) -> None:
    text = bytes(data)
    if text.lstrip()[:1] != b"[":
        for where, row in _rows(text):
            _read_row(row, where, out)
        return
    elements: list[msgspec.Raw] = read_mended(text, list[msgspec.Raw], out)
    if not elements:
        raise rejected("/", "rows, or scenes as the launcher prints them", "an empty list")
    if _is_row(elements[0]):
        for index, element in enumerate(elements):
            _read_row(element, f"/{index}", out)
        return
    problems: list[Problem] = []
    scenes = _scenes(elements, "", "/*", out, problems)
    _add_runs(scenes, problems, "", None, out)


def _rows(text: bytes) -> Iterator[tuple[str, bytes]]:
    """(where, row) of a single row, or of a row per line."""
    text = text.lstrip()
    if _is_json(text) or not _is_json(text[: max(0, text.find(b"\n"))]):
        yield "", text
        return
    start, number = 0, 1
    while start < len(text):
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        if line := text[start:end].strip():
            yield f"line {number}", line
        start, number = end + 1, number + 1


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except _ERRORS:
        return False
    return True


def _is_row(element: msgspec.Raw) -> bool:
    try:
        return "schema_version" in msgspec.json.decode(element, type=dict[str, msgspec.Raw])
    except _ERRORS:
        return False


# --- rows ---


def _read_row(text: bytes | msgspec.Raw, where: str, out: Tables) -> None:
    """One row to its runs; whatever is wrong with it refuses it alone."""
    problems: list[Problem] = []
    scenes: list[tuple[str, Scene]] = []
    row: Row | None = None
    try:
        row = read_mended(text, Row, out)
    except Rejected as refusal:
        problems += every_problem(text, Row, where) or refusal.problems
    else:
        inside = f"{where}/data"
        if row.schema_version not in _VERSIONS:
            expected, found = "one of " + ", ".join(_VERSIONS), repr(row.schema_version)[:80]
            problems.append(Problem(where=f"{where}/schema_version", expected=expected, found=found))
        elif row.schema_version in ("v1", "v2"):
            scenes = _scenes_of_session(row.data, inside, out, problems)
        else:
            try:
                elements = msgspec.json.decode(row.data, type=list[msgspec.Raw])
                scenes = _scenes(elements, inside, "/data/*", out, problems)
            except _ERRORS as error:
                problems.append(problem_of(error, inside))
    _add_runs(scenes, problems, where, row, out)


def _scenes(
    elements: Sequence[msgspec.Raw], where: str, path: str, out: Tables, problems: list[Problem]
) -> list[tuple[str, Scene]]:
    """(where, scene) of each element of v3, v4 or the launcher's list; what is wrong is added to `problems`."""
    read = ((f"{where}/{index}", element) for index, element in enumerate(elements))
    found = ((place, _read(element, Scene, place, path, out=out, problems=problems)) for place, element in read)
    return [(place, scene) for place, scene in found if scene]


def _scenes_of_session(data: msgspec.Raw, where: str, out: Tables, problems: list[Problem]) -> list[tuple[str, Scene]]:
    """The same of a v1 or v2 session, whose scenes share all that is said of Blender, device and system."""
    session = _read(data, Session, where, "/data", out=out, problems=problems)
    readable = session or _read(data, Scenes, where, "/data", out=out, problems=[])
    scenes = []
    for index, element in enumerate(readable.scenes if readable else ()):
        place = f"{where}/scenes/{index}"
        named = _read(element, NamedScene, place, "/data/scenes/*", out=out, problems=problems)
        if session and named:
            scene = Scene(
                scene={"label": named.name},
                stats=named.stats,
                blender_version=session.blender_version,
                device_info=session.device_info,
                system_info=session.system_info,
                benchmark_client=session.benchmark_client,
                timestamp=session.timestamp,
            )
            scenes.append((place, scene))
    return scenes


def _read(text: msgspec.Raw, kind: type[S], where: str, path: str, *, out: Tables, problems: list[Problem]) -> S | None:
    """`text` as a `kind`, without what is private in its free-form parts; None if it is none, with all reasons."""
    try:
        value: S = read_fields(text, kind, out, path)
        for name in value.__struct_fields__:
            if isinstance(free := getattr(value, name), dict):
                setattr(value, name, without_private(free, out, f"{path}/{name}"))
    except _ERRORS as error:
        problems += every_problem(text, kind, where) or [problem_of(error, where)]
        return None
    except Rejected as refusal:
        problems += [msgspec.structs.replace(problem, where=where) for problem in refusal.problems]
        return None
    return value


# --- runs ---


def _add_runs(
    scenes: Sequence[tuple[str, Scene]], problems: Sequence[Problem], where: str, row: Row | None, out: Tables
) -> None:
    """A run for each system on which scenes were rendered; one that is refused if there are problems."""
    own = row is not None or bool(where)
    try:
        systems: dict[str, list[tuple[str, Scene]]] = {}
        for place, scene in scenes:
            systems.setdefault(canonical_json(scene.system_info), []).append((place, scene))
    except Rejected as refusal:
        problems = refusal.problems
    if problems:
        run = out.run(RunFacts(own=own))
        for problem in problems:
            run.refuse(problem.where, problem.expected, problem.found)
        return
    for together in systems.values() or [[]]:
        run = out.run(_facts([scene for _, scene in together], row, own=own))
        seen: Counter[tuple[str, str, str]] = Counter()
        unnamed: list[Info] = []
        for place, scene in together:
            devices = _devices(scene.device_info or {})
            if not (devices and all(name for name, _ in devices)) and scene.device_info not in unnamed:
                unnamed.append(scene.device_info)
                told_at = place.partition("/scenes/")[0]  # where all scenes of a session share it
                run.flag(
                    f"{told_at}/device_info/compute_devices", "devices with names", f"{len(devices)}, not all named"
                )
            try:
                _add_scene(run, place, scene, row, seen)
            except Rejected as refusal:
                for problem in refusal.problems:
                    run.refuse(place + problem.where.rstrip("/"), problem.expected, problem.found)


def _facts(scenes: Sequence[Scene], row: Row | None, *, own: bool) -> RunFacts:
    system = (scenes[0].system_info if scenes else None) or {}
    times = [time for scene in scenes if (time := parse_instant(scene.timestamp or ""))]
    labels = {
        "row": row.id if row else None,
        "schema": row.schema_version if row else None,
        "created_at": row.created_at if row else None,
        "launcher": _each(_text(scene.benchmark_launcher, "label") for scene in scenes),
        "script": _each(_text(scene.benchmark_script, "label") for scene in scenes),
        "client": _each(_text(scene.benchmark_client, "client_version") for scene in scenes),
    }
    return RunFacts(
        title="Blender Benchmark",
        started=min(times, default=parse_instant(row.created_at or "") if row else None),
        machine=Machine(cpu=_cpu(system), cores=_cores(system), os=_os(system)),
        machine_extra=system or None,
        labels={name: text for name, text in labels.items() if text},
        own=own,
    )


def _each(texts: Iterable[str]) -> str:
    return ", ".join(sorted({text for text in texts if text}))


def _cpu(system: Mapping[str, Any]) -> str:
    names = [_text(one, "name") for one in _list(system, "devices") if _text(one, "type") == "CPU"]
    return _text(system, "cpu_brand") or next(iter(names), "")


def _cores(system: Mapping[str, Any]) -> int | None:
    """Its threads, which is what other tools call cores; else its cores."""
    for name in ("num_cpu_threads", "num_cpu_cores"):
        count = system.get(name)
        if isinstance(count, int) and not isinstance(count, bool) and 0 < count < 1 << 31:
            return count
    return None


def _os(system: Mapping[str, Any]) -> str:
    """Name and major version; of Linux, the distribution's."""
    name, version = _text(system, "system"), _text(system, "dist_version")
    name = (
        (_text(system, "dist_name").removesuffix(" GNU/Linux") or name)
        if name == "Linux"
        else {"Darwin": "macOS"}.get(name, name)
    )
    return f"{name} {version if name in _WHOLE_VERSION else version.partition('.')[0]}".strip()


# --- scenes ---


def _add_scene(run: RunRows, where: str, scene: Scene, row: Row | None, seen: "Counter[tuple[str, str, str]]") -> None:
    """The measurements of one scene, the headline first, or the reason why there are none."""
    stats, name = scene.stats, _text(scene.scene, "label")
    if not name:
        run.refuse(f"{where}/scene/label", "a scene's name", repr(scene.scene.get("label"))[:80])
        return
    if stats.result not in (None, "OK"):
        run.flag(f"{where}/stats/result", "OK", repr(stats.result)[:80])
        return
    timed = stats.samples_per_minute is not None or (row is not None and row.schema_version == "v4")
    headline = "samples_per_minute" if timed else "total_render_time"
    value = getattr(stats, headline)
    if value is None or value <= 0:
        run.flag(f"{where}/stats/{headline}", "a number above 0", "none" if value is None else repr(value))
        return
    params, version = _params(scene), _version(scene)
    same = (name, version, canonical_json(params))
    seen[same] += 1
    if seen[same] > 1:
        run.flag(where, "each scene once", f"{name!r} again")
    numbers = {one: number for one in stats.__struct_fields__ if isinstance(number := getattr(stats, one), float)}
    units = {**({} if timed else dict.fromkeys(_SECONDS, "s")), **dict.fromkeys(_MEMORY, "MiB")}
    rows = [(one, unit, "lower") for one, unit in units.items() if numbers.get(one, 0) > 0]
    if timed:
        rows.insert(0, (headline, "samples/min", "higher"))
    told = {one for one, _, _ in rows} | params.keys()
    extra = {
        **{one: number for one, number in numbers.items() if one not in told},
        **{one: getattr(scene, one) for one in _INFO},
        "scene_checksum": _text(scene.scene, "checksum"),
    }
    for metric, unit, better in rows:
        run.measurement(
            where=f"{where}/stats/{metric}",
            benchmark=name,
            metric=metric,
            value=numbers[metric],
            unit=unit,
            better=better,
            params=params,
            benchmark_version=version,
            extra={key: one for key, one in extra.items() if one not in (None, "", {})} if metric == headline else None,
        )


def _params(scene: Scene) -> dict[str, Any]:
    """What rendered the scene, and for how long at most."""
    info = scene.device_info or {}
    names = Counter(_devices(info))
    kind = _text(info, "device_type") or _each(kind for _, kind in names)
    shown = sorted(
        name if count == 1 or (own or kind) == "CPU" else f"{count} x {name}" for (name, own), count in names.items()
    )
    params: dict[str, Any] = {"device_type": kind, "device": " + ".join(shown)}
    threads = info.get("num_cpu_threads")
    if kind == "CPU" and isinstance(threads, int):
        params["threads"] = threads
    if scene.stats.time_limit is not None:
        params["time_limit"] = scene.stats.time_limit
    return params


def _devices(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, type) of each compute device; in v1 they are names only."""
    devices = [one if isinstance(one, dict) else {"name": one} for one in _list(info, "compute_devices")]
    return [(_text(one, "name").removesuffix(" (Display)").strip(), _text(one, "type")) for one in devices]


def _version(scene: Scene) -> str:
    blender = _text(scene.blender_version, "label") or _text(scene.blender_version, "version")
    checksum = _text(scene.scene, "checksum")[:12]
    return ", ".join(filter(None, [blender, checksum and f"scene {checksum}"]))


def _text(info: Any, key: str) -> str:
    value = info.get(key) if isinstance(info, dict) else None
    return value.strip() if isinstance(value, str) else ""


def _list(info: Mapping[str, Any], key: str) -> list[Any]:
    value = info.get(key)
    return value if isinstance(value, list) else []


FORMAT = Format(
    id="blender-opendata",
    title="Blender Open Data",
    made_by="benchmark-launcher-cli benchmark --blender-version 3.6.0 --device-type CPU --json monster",
    example="""[{"blender_version": {"label": "3.6.0"}, "scene": {"label": "monster"},
  "device_info": {"device_type": "CPU", "compute_devices": [{"name": "Example CPU", "type": "CPU"}]},
  "stats": {"samples_per_minute": 51.7}}]""",
    claims=claims,
    read=read,
)
