"""All formats, a line each."""

from importlib import import_module

from processor.formats import Format

_MODULES = (
    "native",
    "asv",
    "blender_opendata",
    "bmf",
    "criterion",
    "ctrf",
    "github_action_benchmark",
    "go_bench",
    "google_benchmark",
    "hyperfine",
    "jmh",
    "junit",
    "k6",
    "lnt",
    "own_schema",
    "pyperf",
    "pytest_benchmark",
    "tap",
    "wptreport",
)

_IN_ORDER: list[Format] = [import_module(f"processor.formats.{name}").FORMAT for name in _MODULES]

FORMATS: dict[str, Format] = {format.id: format for format in _IN_ORDER}
