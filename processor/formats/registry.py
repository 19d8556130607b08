"""All formats, a line each."""

from processor.formats import (
    Format,
    github_action_benchmark,
    google_benchmark,
    junit,
    native,
    pytest_benchmark,
    wptreport,
)

_MODULES = (
    native,
    github_action_benchmark,
    google_benchmark,
    junit,
    pytest_benchmark,
    wptreport,
)

FORMATS: dict[str, Format] = {module.FORMAT.id: module.FORMAT for module in _MODULES}
