"""The registered benchmark that a submission names. What it means for a result is in `processor.formats.own_schema`."""

import msgspec

from infra.bucket import Bucket
from processor.reading.decode import rejected
from schemas import keys
from schemas.records import Benchmark


def read_benchmark(public: Bucket, project: str, format: str) -> Benchmark | None:
    """The benchmark of `project` that a submission's format names; None for formats that name none.

    Raises Rejected if the project has no such benchmark, or if the format does not say of which version: then the
    submission was not admitted by us.
    """
    if not format.startswith(f"{keys.OWN_SCHEMA}:"):
        return None
    name, version = keys.parse_benchmark_format(format) or ("", None)
    if version is None:
        raise rejected("format", f"{keys.OWN_SCHEMA}:NAME@VERSION", repr(format[:90]))
    try:
        record = public.read(keys.benchmark(keys.checked_project(project), name, version))
    except FileNotFoundError as error:
        raise rejected(
            "format", f"a benchmark of project {project}", f"{name!r} version {version}, not there"
        ) from error
    return msgspec.json.decode(record, type=Benchmark)
