"""All formats, a line each."""

from processor.formats import (
    Format,
    asv,
    blender_opendata,
    bmf,
    criterion,
    ctrf,
    github_action_benchmark,
    go_bench,
    google_benchmark,
    hyperfine,
    jmh,
    junit,
    k6,
    lnt,
    native,
    own_schema,
    pyperf,
    pytest_benchmark,
    tap,
    wptreport,
)

_MODULES = (
    native,
    asv,
    blender_opendata,
    bmf,
    criterion,
    ctrf,
    github_action_benchmark,
    go_bench,
    google_benchmark,
    hyperfine,
    jmh,
    junit,
    k6,
    lnt,
    own_schema,
    pyperf,
    pytest_benchmark,
    tap,
    wptreport,
)

FORMATS: dict[str, Format] = {module.FORMAT.id: module.FORMAT for module in _MODULES}
