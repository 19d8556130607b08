"""k6, the load testing tool: its end-of-test summaries as JSON, and the points of `--out json`.

    {"metrics": {"http_req_duration": {"type": "trend", "contains": "time", "values": {"avg": …, "p(95)": …},
                                       "thresholds": {"p(95)<200": {"ok": true}}}, …},
     "root_group": {"groups": […], "checks": [{"name": …, "passes": 9, "fails": 1}]}, "state": …, "options": …}

One file is one run. Each statistic of a metric is a measurement, each threshold and each check a test.

| metric of type | measurements | unit | better |
|---|---|---|---|
| trend | `avg`, `min`, `med`, `max`, `p(95)`, … as the script asks; `count` is n | `ms`, `B` or none | lower if time |
| counter | `count`; `rate`, per second of the whole test | `requests`, `B`, …; with `/s` | see below |
| gauge | `value`, the last one; min and max | `VUs`, `B` or none | |
| rate | `rate`, from 0 to 1; n; passes and fails in extra | `1` | see below |

| field | becomes | notes |
|---|---|---|
| metrics.<name>.contains | unit | time is always in `ms`, whatever the text summary shows; data in `B` |
| metrics.<name>.thresholds | a test `threshold <name>: <expression>` | pass or fail; the message says the value |
| root_group: checks | a test `group > name` | fail if one failed: `3 of 10 failed`; never run is `notrun` |
| state.testRunDurationMs | label `testRunDurationMs` | |
| options, the rest of state | | in the blob |
| setup_data | | never kept: what `setup()` returns often holds live tokens |

**Identity.** The metric's name is the benchmark, the statistic the metric. A sub-metric
(`http_req_duration{expected_response:true,name:login}`) has the same benchmark, its tags are params. In a check's group
and name ` > ` is written ` %3E `.

**Direction.** Lower: trends of time (not `ws_session_duration`, which the script decides), `http_req_failed`,
`checks_failed`, dropped_iterations, `browser_web_vital_cls`. Higher: `checks`, `checks_succeeded`, rates of `http_reqs`
and `iterations`. The others have none: more data or more users is neither better nor worse, and custom metrics do not
say.

**Dialects**
- *handleSummary*: as above; what a script wrote with `JSON.stringify(data)`.
- *`--summary-export`*: statistics stand directly in the metric; a threshold is `true` if it **failed**; groups and
  checks are objects. It has no types: they follow from the statistics, units from the names of built-in metrics only.
- *machine-readable summary* (since 1.5): `{version, metadata, config, results}`, where metrics and checks are lists.
  config.script's last part is the title, metadata.generatedAt the end, and config.duration leads to the start.
- *`--out json`*: a line per point; all points of a metric are the samples of its first statistic. Statistics are k6's
  own (percentiles interpolate between points); a counter's rate is not known. Sub-metrics are those that the script
  declares (k6 writes them on the metric's line; at most 50 of a metric), without samples of their own: grouped by every
  tag, a test that puts an id in its addresses would start new series each time. Other tags, metadata and thresholds,
  whose outcome is not in such a file, stay in the blob. A last line cut short (k6 was killed) is flagged.

Definition: https://grafana.com/docs/k6/latest/results-output/ and https://github.com/grafana/k6, `output/json/`,
`internal/js/summary.js`.
"""

import math
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from processor.formats import Format
from processor.reading.decode import Buffer
from processor.reading.finite import finite_number
from processor.reading.instants import parse_instant
from processor.reading.mended import pointer_step, read_mended
from processor.reading.samples import sample_statistics
from processor.reading.shape import Shape
from processor.reading.shown import shown
from processor.tables import RunFacts, RunRows, Tables
from schemas.problems import problem_of

_TYPES = ("counter", "gauge", "rate", "trend")
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_PIECE = 1 << 20
_MAX_DEPTH = 200
"""Of groups in groups."""

_MOST_SUB_METRICS = 50
"""Of one metric in a file of points: each point is held against all of them."""

_COUNTED = {
    **dict.fromkeys(("http_reqs", "browser_http_reqs"), "requests"),
    **dict.fromkeys(("iterations", "dropped_iterations"), "iterations"),
    **dict.fromkeys(("vus", "vus_max"), "VUs"),
    **dict.fromkeys(("checks_total",), "checks"),
    **dict.fromkeys(
        ("ws_msgs_sent", "ws_msgs_received", "grpc_streams_msgs_sent", "grpc_streams_msgs_received"), "messages"
    ),
    **dict.fromkeys(("ws_sessions",), "sessions"),
    **dict.fromkeys(("grpc_streams",), "streams"),
}
"""What built-in metrics count."""

_BUILT_IN = re.compile(
    r"(?P<data>(?:browser_)?data_(?:sent|received))"
    r"|(?P<time>(?:browser_)?http_req_(?:duration|blocked|connecting|tls_handshaking|sending|waiting|receiving)"
    r"|(?:iteration|group|grpc_req|ws_session)_duration|ws_connecting|ws_ping|browser_web_vital_(?:fcp|fid|inp|lcp|ttfb))"
)
_BETTER = {
    ("checks", "rate"): "higher",
    ("checks_succeeded", "rate"): "higher",
    ("checks_failed", "rate"): "lower",
    ("http_req_failed", "rate"): "lower",
    ("browser_http_req_failed", "rate"): "lower",
    ("http_reqs", "rate"): "higher",
    ("iterations", "rate"): "higher",
    ("dropped_iterations", "count"): "lower",
    ("dropped_iterations", "rate"): "lower",
}
_DECIDED_BY_THE_SCRIPT = {"ws_session_duration"}
_STATISTIC = re.compile(r"\s*(avg|min|med|max|count|rate|value|p\([0-9. ]{1,40}\))")
_SUB_METRIC = re.compile(r"([^{]*)\{(.*)\}", re.DOTALL)


@dataclass
class Metric:
    """One metric or sub-metric with its statistics, whatever dialect they were written in."""

    name: str
    where: str
    type: str
    contains: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    places: str = ""
    """Of the statistics, if not `where`."""
    samples: Sequence[float] | None = None


# --- what the file says ---


class State(msgspec.Struct, forbid_unknown_fields=True):
    testRunDurationMs: Any = None


class Summary(msgspec.Struct, forbid_unknown_fields=True):
    metrics: dict[str, msgspec.Raw]
    root_group: Any = None
    state: State | None = None


class ListedMetric(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    type: str = ""
    contains: str = ""
    values: dict[str, Any] = {}


class ListedCheck(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    passes: Any = None
    fails: Any = None


class ListedChecks(msgspec.Struct, forbid_unknown_fields=True):
    metrics: list[ListedMetric] | None = None
    results: list[ListedCheck] | None = None


class ListedResults(msgspec.Struct, forbid_unknown_fields=True):
    metrics: list[ListedMetric] | None = None
    checks: ListedChecks | None = None


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    k6Version: str = ""
    generatedAt: str = ""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    duration: float | None = None
    script: str | None = None
    execution: str = ""


class MachineReadable(msgspec.Struct, forbid_unknown_fields=True):
    results: ListedResults
    version: str = ""
    metadata: Metadata = Metadata()
    config: Config = Config()


class Submetric(msgspec.Struct):
    name: str = ""
    tags: dict[str, str] | None = None


class MetricData(msgspec.Struct):
    type: str = ""
    contains: str = ""
    thresholds: list[Any] | None = None
    submetrics: list[Submetric] | None = None


class MetricLine(msgspec.Struct, tag_field="type", tag="Metric"):
    data: MetricData | None
    metric: str


class PointData(msgspec.Struct, gc=False):
    time: datetime
    value: float
    tags: msgspec.Raw = msgspec.Raw(b"null")
    metadata: msgspec.Raw = msgspec.Raw(b"null")


class PointLine(msgspec.Struct, tag_field="type", tag="Point", gc=False):
    data: PointData
    metric: str


class CheckTags(msgspec.Struct, gc=False):
    check: str = ""
    group: str = ""


def claims(shape: Shape) -> bool:
    keys = shape.keys
    if shape.kind == "lines" or (shape.kind == "object" and {"type", "data", "metric"} <= {*keys}):
        return {"type", "data", "metric"} <= {*keys} and bytes(keys["type"]) in (b'"Metric"', b'"Point"')
    if shape.kind != "object":
        return False
    if "metrics" in keys:
        metrics = _fields(keys["metrics"])
        if "root_group" in keys:
            return bool(metrics) or bytes(keys["metrics"])[:1] == b"{"
        if any(_fields(metrics[name]) for name in ("iterations", "iteration_duration", "vus") if name in metrics):
            return True
        first = _fields(next(iter(metrics.values()), msgspec.Raw(b"null")))
        return "values" in first and bytes(first.get("type", b"")).decode(errors="replace").strip('"') in _TYPES
    return {"results", "metadata", "config"} <= {*keys} and "k6Version" in _fields(keys["metadata"])


def _fields(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except _DECODE_ERRORS:
        return {}


def read(data: Buffer, out: Tables) -> None:
    try:
        keys = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except _DECODE_ERRORS:
        keys = {}
    if "metric" in keys or (not keys and _first_line_is_of_points(data)):
        _read_points(data, out)
    elif "results" in keys:
        _read_machine_readable(data, out)
    else:
        _read_summary(data, out)


def _first_line_is_of_points(data: Buffer) -> bool:
    first = bytes(data[:_PIECE]).lstrip().partition(b"\n")[0]
    return "metric" in _fields(msgspec.Raw(first))


# --- summaries ---


def _read_summary(data: Buffer, out: Tables) -> None:
    document: Summary = read_mended(data, Summary, out)
    duration = finite_number(document.state.testRunDurationMs) if document.state else None
    labels = {"tool": "k6"} | ({"testRunDurationMs": f"{duration:.15g}"} if duration is not None else {})
    run = out.run(RunFacts(labels=labels))
    for name, raw in document.metrics.items():
        where = f"/metrics{pointer_step(name)}"
        try:
            fields = msgspec.json.decode(raw, type=dict[str, Any])
        except _DECODE_ERRORS as error:
            problem = problem_of(error, where)
            run.refuse(problem.where, problem.expected, problem.found)
            continue
        metric, thresholds = _metric(name, where, fields, out)
        _add_metric(run, metric)
        _add_thresholds(run, metric, thresholds)
    if document.root_group is not None:
        _add_checks(run, document.root_group)


def _metric(name: str, where: str, fields: dict[str, Any], out: Tables) -> tuple[Metric, Any]:
    """A metric of a summary, nested or flat, and its thresholds."""
    thresholds, values = fields.pop("thresholds", None), fields.get("values")
    if not isinstance(values, dict):
        return Metric(name, where, _type_of(fields), _contains_of(name), fields), thresholds
    type, contains = fields.get("type"), fields.get("contains")
    for key, value in fields.items():
        if key not in ("type", "contains", "values") and value not in (None, "", [], {}):
            out.leave_unread(f"/metrics/*{pointer_step(key)}")
    known = type if isinstance(type, str) and type in _TYPES else _type_of(values)
    told = contains if isinstance(contains, str) and contains else _contains_of(name)
    return Metric(name, where, known, told, values, "/values"), thresholds


def _type_of(values: Mapping[str, Any]) -> str:
    if "passes" in values or "matches" in values:
        return "rate"
    if "rate" in values:
        return "counter"
    return "gauge" if "value" in values else "trend"


def _contains_of(name: str) -> str:
    match = _BUILT_IN.fullmatch(_name_and_params(name)[0])
    return (match.lastgroup or "") if match else ""


def _add_thresholds(run: RunRows, metric: Metric, thresholds: Any) -> None:
    where = f"{metric.where}/thresholds"
    if thresholds is None:
        return
    if not isinstance(thresholds, dict):
        run.flag(where, "an object", shown(thresholds))
        return
    for expression, outcome in thresholds.items():
        place = where + pointer_step(expression)
        ok = outcome.get("ok") if isinstance(outcome, dict) else outcome
        if not isinstance(ok, bool):
            run.flag(place, "whether it held, true or false", shown(outcome))
        elif not isinstance(outcome, dict):
            ok = not ok
        match = _STATISTIC.match(expression)
        value = metric.values.get(match[1]) if match else None
        run.test(
            where=place,
            test=f"threshold {metric.name}: {expression}",
            status="unknown" if not isinstance(ok, bool) else "pass" if ok else "fail",
            status_text=None if isinstance(ok, bool) else shown(outcome),
            message=f"{match[1]} = {value}" if match and finite_number(value) is not None else None,
        )


def _add_checks(run: RunRows, root: Any) -> None:
    """A row for each check, of the groups in their order. Their path and id follow from the names."""
    groups: list[tuple[str, tuple[str, ...], Any]] = [("/root_group", (), root)]
    while groups:
        where, path, group = groups.pop()
        if not isinstance(group, dict) or len(path) > _MAX_DEPTH:
            run.flag(where, f"a group, at most {_MAX_DEPTH} deep", shown(group))
            continue
        for place, check in _members(run, where, "checks", group):
            name = check.get("name") if isinstance(check, dict) else None
            if not isinstance(name, str):
                run.flag(place, "a check with a name", shown(check))
            else:
                _add_check(run, place, (*path, name), check.get("passes"), check.get("fails"))
        inner = []
        for place, member in _members(run, where, "groups", group):
            name = member.get("name") if isinstance(member, dict) else None
            inner.append((place, (*path, name if isinstance(name, str) else ""), member))
        groups += reversed(inner)


def _members(run: RunRows, where: str, kind: str, group: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(place, value) of each check or group inside a group: a list, or by their names."""
    members = group.get(kind)
    if isinstance(members, list):
        yield from ((f"{where}/{kind}/{index}", member) for index, member in enumerate(members))
    elif isinstance(members, dict):
        yield from ((f"{where}/{kind}{pointer_step(name)}", member) for name, member in members.items())
    elif members is not None:
        run.flag(f"{where}/{kind}", "a list or an object", shown(members))


def _add_check(run: RunRows, where: str, path: Sequence[str], passes: Any, fails: Any) -> None:
    counts = [_count(passes), _count(fails)]
    if None in counts:
        run.flag(where, "passes and fails, whole numbers", f"{shown(passes)} and {shown(fails)}")
    passed, failed = counts
    run.test(
        where=where,
        test=" > ".join(part.replace(" > ", " %3E ") for part in path),
        status="unknown" if passed is None or failed is None else "fail" if failed else "pass" if passed else "notrun",
        status_text=f"{shown(passes)} passes, {shown(fails)} fails" if None in counts else None,
        message=f"{failed} of {passed + failed} failed" if passed is not None and failed else None,
        extra={"passes": passed, "fails": failed} if None not in counts else None,
    )


def _read_machine_readable(data: Buffer, out: Tables) -> None:
    document: MachineReadable = read_mended(data, MachineReadable, out)
    metadata, config = document.metadata, document.config
    finished = parse_instant(metadata.generatedAt) if metadata.generatedAt else None
    labels = {"tool": f"k6 {metadata.k6Version}".strip()} | (
        {"execution": config.execution} if config.execution else {}
    )
    run = out.run(
        RunFacts(
            title=re.split(r"[\\/]", config.script or "")[-1],
            started=_before(finished, config.duration),
            finished=finished,
            labels=labels,
        )
    )
    if metadata.generatedAt and finished is None:
        run.flag("/metadata/generatedAt", "a time in ISO 8601", shown(metadata.generatedAt))
    if document.version:
        out.leave_unread("/version")
    checks = document.results.checks or ListedChecks()
    for place, metrics in (("/results", document.results.metrics), ("/results/checks", checks.metrics)):
        for index, item in enumerate(metrics or ()):
            type = item.type if item.type in _TYPES else _type_of(item.values)
            _add_metric(run, Metric(item.name, f"{place}/metrics/{index}", type, item.contains, item.values, "/values"))
    for index, check in enumerate(checks.results or ()):
        _add_check(run, f"/results/checks/results/{index}", (check.name,), check.passes, check.fails)


def _before(finished: datetime | None, seconds: float | None) -> datetime | None:
    try:
        return finished - timedelta(seconds=seconds) if finished and seconds is not None and seconds >= 0 else None
    except (OverflowError, ValueError):
        return None


# --- points ---


class _Points:
    """The points of one metric, and of those of its sub-metrics that its script declares."""

    def __init__(self, name: str, line: int) -> None:
        self.name = name
        self.line = line
        self.type = ""
        self.contains = ""
        self.values = array("d")
        self.sub: list[tuple[str, dict[str, str], array[float]]] = []


def _read_points(data: Buffer, out: Tables) -> None:
    run = out.run(RunFacts(labels={"tool": "k6"}))
    decode = msgspec.json.Decoder(MetricLine | PointLine).decode
    metrics: dict[str, _Points] = {}
    checks: dict[tuple[str, str], list[int]] = {}
    first: datetime | None = None
    last: datetime | None = None
    tagged = described = 0
    for number, line, whole in _lines(data):
        try:
            item = decode(line)
        except _DECODE_ERRORS as error:
            if not whole and not isinstance(error, msgspec.ValidationError):
                run.flag(f"line {number}", "a whole line", f"one that ends after {len(line)} bytes")
            elif not isinstance(error, msgspec.ValidationError) or not _is_of_another_kind(line, out):
                problem = problem_of(error, f"line {number} ")
                run.refuse(problem.where.rstrip(), problem.expected, problem.found)
            continue
        points = metrics.get(item.metric)
        if points is None:
            points = metrics[item.metric] = _Points(item.metric, number)
        if isinstance(item, MetricLine):
            _declare(run, points, item.data or MetricData(), out)
            continue
        point = item.data
        points.values.append(point.value)
        if first is None or last is None:
            first = last = point.time if point.time.tzinfo else None
        elif point.time.tzinfo:
            first, last = min(first, point.time), max(last, point.time)
        if points.sub:
            _add_to_sub_metrics(points, point)
        if item.metric == "checks":
            _count_check(checks, point)
        else:
            tagged += point.tags not in _NOTHING
        described += point.metadata not in _NOTHING
    if tagged:
        out.leave_unread("Point: /data/tags", tagged)
    if described:
        out.leave_unread("Point: /data/metadata", described)
    run.facts = RunFacts(labels=run.facts.labels, started=first, finished=last)
    for points in metrics.values():
        _add_points(run, points)
    for (group, check), (passes, fails) in checks.items():
        _add_check(run, "checks", (*[part for part in group.split("::") if part], check), passes, fails)


_NOTHING = (msgspec.Raw(b"null"), msgspec.Raw(b"{}"))


def _lines(data: Buffer) -> Iterator[tuple[int, bytes, bool]]:
    """(number, line, whether it ends) of each line that is not blank; never all of them at once."""
    number, rest = 0, b""
    for at in range(0, len(data), _PIECE):
        *whole, rest = (rest + bytes(data[at : at + _PIECE])).split(b"\n")
        for line in whole:
            number += 1
            if line and not line.isspace():
                yield number, line, True
    if rest and not rest.isspace():
        yield number + 1, rest, False


def _is_of_another_kind(line: bytes, out: Tables) -> bool:
    """Whether a line is neither a metric nor a point; it is counted then."""
    kind = bytes(_fields(msgspec.Raw(line)).get("type", b'"Point"'))
    if kind in (b'"Metric"', b'"Point"') or kind[:1] != b'"':
        return False
    out.leave_unread("line: of another type")
    return True


def _declare(run: RunRows, points: _Points, data: MetricData, out: Tables) -> None:
    points.type = data.type if data.type in _TYPES else points.type
    points.contains = data.contains or points.contains
    if data.thresholds:
        out.leave_unread("Metric: /data/thresholds")
    known = {name for name, _, _ in points.sub}
    for submetric in data.submetrics or ():
        if len(points.sub) >= _MOST_SUB_METRICS:
            run.flag(f"line {points.line}", f"at most {_MOST_SUB_METRICS} sub-metrics of a metric", "more, left out")
            break
        if submetric.name and submetric.name not in known:
            tags = submetric.tags or _name_and_params(submetric.name)[1]
            points.sub.append((submetric.name, tags, array("d")))


def _add_to_sub_metrics(points: _Points, point: PointData) -> None:
    try:
        tags = msgspec.json.decode(point.tags, type=dict[str, Any] | None) or {}
    except _DECODE_ERRORS:
        return
    for _, wanted, values in points.sub:
        if all(tags.get(name) == value for name, value in wanted.items()):
            values.append(point.value)


def _count_check(checks: dict[tuple[str, str], list[int]], point: PointData) -> None:
    try:
        tags = msgspec.json.decode(point.tags, type=CheckTags | None) or CheckTags()
    except _DECODE_ERRORS:
        return
    if tags.check:
        checks.setdefault((tags.group, tags.check), [0, 0])[point.value == 0] += 1


def _add_points(run: RunRows, points: _Points) -> None:
    where = f"line {points.line}"
    contains = points.contains or _contains_of(points.name)
    type = points.type or {"http_reqs": "counter", "iterations": "counter", "checks": "rate"}.get(points.name, "trend")
    for name, values, samples in (
        (points.name, points.values, points.values),
        *((name, values, None) for name, _, values in points.sub),
    ):
        if values:
            _add_metric(run, Metric(name, where, type, contains, _statistics(type, values), samples=samples))


def _statistics(type: str, values: Sequence[float]) -> dict[str, Any]:
    """What k6 itself would say of these points at the end of the test, as far as the points tell."""
    if type == "counter":
        return {"count": _sum(values)}
    if type == "rate":
        passes = sum(value != 0 for value in values)
        return {"rate": passes / len(values), "passes": passes, "fails": len(values) - passes}
    ordered = sorted(values)
    if type == "gauge":
        return {"value": values[-1], "min": ordered[0], "max": ordered[-1]}
    return {
        "avg": _sum(values) / len(values),
        "min": ordered[0],
        "med": _percentile(ordered, 0.5),
        "max": ordered[-1],
        "p(90)": _percentile(ordered, 0.9),
        "p(95)": _percentile(ordered, 0.95),
        "count": len(values),
    }


def _sum(values: Sequence[float]) -> float:
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf


def _percentile(ordered: Sequence[float], part: float) -> float:
    """As k6 has it: between the two nearest points, in proportion."""
    place = part * (len(ordered) - 1)
    below = ordered[math.floor(place)]
    return below + (ordered[math.ceil(place)] - below) * (place - math.floor(place))


# --- rows ---


def _add_metric(run: RunRows, metric: Metric) -> None:
    benchmark, params = _name_and_params(metric.name)
    numbers: dict[str, float] = {}
    for name, value in metric.values.items():
        number = finite_number(value)
        if number is None:
            run.flag(f"{metric.where}{metric.places}{pointer_step(name)}", "a finite number", shown(value))
        else:
            numbers[name] = number
    rows, n, extra = _rows_of(metric.type, numbers)
    statistics: dict[str, Any] = {
        "min": numbers.get("min") if metric.type in ("trend", "gauge") else None,
        "max": numbers.get("max") if metric.type in ("trend", "gauge") else None,
        "mean": numbers.get("avg") if metric.type == "trend" else None,
        "median": numbers.get("med") if metric.type == "trend" else None,
    }
    for index, (name, value) in enumerate(rows.items()):
        run.measurement(
            where=f"{metric.where}{metric.places}{pointer_step(name)}",
            benchmark=benchmark,
            metric=name,
            value=value,
            unit=_unit(benchmark, metric, name),
            better=_better(benchmark, metric, name),
            params=params,
            samples=metric.samples if index == 0 else None,
            n=n if n is not None or metric.samples is None else len(metric.samples),
            **(sample_statistics(metric.samples) if metric.samples and index == 0 else statistics),
            extra=extra or None,
        )


def _rows_of(type: str, numbers: dict[str, float]) -> tuple[dict[str, float], int | None, dict[str, Any]]:
    """(measurements by name, n, extra) of a metric's statistics."""
    rest = dict(numbers)
    if type == "gauge":
        return {name: value for name, value in rest.items() if name not in ("min", "max")}, None, {}
    if type == "trend":
        return rest, _count(rest.pop("count", None)), {}
    if type == "counter":
        return rest, None, {}
    passes, fails = rest.pop("passes", rest.pop("matches", None)), rest.pop("fails", None)
    total = rest.pop("total", passes + fails if passes is not None and fails is not None else None)
    if "value" in rest:  # --summary-export
        rest.setdefault("rate", rest.pop("value"))
    extra = {"passes": passes, "fails": total - passes if passes is not None and total is not None else fails}
    return rest, _count(total), {name: _count(value) for name, value in extra.items() if _count(value) is not None}


def _unit(benchmark: str, metric: Metric, statistic: str) -> str:
    if metric.type == "rate":
        return "1"
    unit = {"time": "ms", "data": "B"}.get(metric.contains) or _COUNTED.get(benchmark, "")
    return f"{unit}/s" if metric.type == "counter" and statistic == "rate" else unit


def _better(benchmark: str, metric: Metric, statistic: str) -> str:
    if metric.type == "trend":
        is_cost = metric.contains == "time" or benchmark == "browser_web_vital_cls"
        return "lower" if is_cost and benchmark not in _DECIDED_BY_THE_SCRIPT else ""
    return _BETTER.get((benchmark, statistic), "")


def _name_and_params(name: str) -> tuple[str, dict[str, str]]:
    """`http_reqs{status:200,name:login}` as (`http_reqs`, {status: 200, name: login})."""
    match = _SUB_METRIC.fullmatch(name)
    if not match:
        return name, {}
    params: dict[str, str] = {}
    for part in match[2].split(","):
        key, colon, value = part.partition(":")
        key = key.strip().strip("'\"")
        if not colon or not key or key in params:
            return name, {}
        params[key] = value.strip().strip("'\"")
    return match[1], params


def _count(value: Any) -> int | None:
    """`value` if it is a whole number that a column can hold."""
    number = finite_number(value)
    return int(number) if number is not None and 0 <= number < 1 << 53 and number == int(number) else None


FORMAT = Format(
    id="k6",
    title="k6 summaries and points",
    made_by="k6 run --summary-export=FILE SCRIPT, or --out json=FILE, or handleSummary",
    example="""{"root_group": {"checks": [{"name": "status is 200", "passes": 10, "fails": 0}]}, "metrics": {
  "http_req_duration": {"type": "trend", "contains": "time", "values": {"avg": 12.5, "med": 11.0, "p(95)": 20.25}}
}}""",
    claims=claims,
    read=read,
)
