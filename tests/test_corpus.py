"""Real files of real projects, where a folder of them lies beside the project; absent, these tests skip.

The folder is `../shared/corpus`: a folder per format, `invalid/` with what must be refused, and SOURCES.tsv, which
names each file's format. Nothing of it is copied into the project.
"""

import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from processor.formats.registry import FORMATS
from processor.transform import Transformed
from tests.golden import rows_of, transformed

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"

READ_AS = {"gab-custom": "github-action-benchmark"}
"""Folders whose files are of a format with another name."""

REFUSED = {
    "pytest-benchmark/053__change-detection-pytest_several_units.json": (
        "/benchmarks/0/stats/data/4: expected float, found str"  # shortened by hand: "... omitted"
    ),
    "gab-custom/003__change-detection-issue16_output.txt": "found text",  # what Catch2 prints, no JSON
    "gab-custom/004__benchmark-results-storage-benchmark-legacy.jsonl": "found JSON lines with keys case",
    "timeseries/django-asv.tar.xz": "found text that starts",  # xz, see FOLDERS
    **dict.fromkeys(
        (
            "go-bench/076__goperf-testdata-crcIgnore.stdout.txt",
            "go-bench/079__goperf-testdata-csvErrors.stdout.txt",
            "go-bench/080__goperf-testdata-csvOldNew.stdout.txt",
            "go-bench/081__goperf-testdata-issue19565.stdout.txt",
            "go-bench/083__goperf-testdata-issue19634.stdout.txt",
            "go-bench/089__goperf-testdata-units.stdout.txt",
        ),
        "found text that starts",  # tables that benchstat prints of results
    ),
}
"""Files outside `invalid/` that are no results of their folder's format, and the start of the reason they must get."""

EMPTY = {
    *(f"asv/asv-example_results/cheetah/{commit}-py2.7-Cython-numpy1.8.json" for commit in ("05d4f83d", "623fc362")),
    "junit/009__enricomi-junit-xml-no-cases.xml",
    "junit/040__mikepenz-cunit-testEmpty.xml",
    "lnt/017__lnt-lnttool-Inputs-minimal.json",
    "lnt/034__lnt-Inputs-base-reports-compile-run4.json",
    "lnt/036__lnt-Inputs-base-reports-nts-run2.json",
    "lnt/046__lnt-utils-Inputs-sample-arm.json",  # hashes only
    "lnt/047__lnt-utils-Inputs-sample-arm2.json",  # hashes only
    *(f"wptreport/wpt-sync/GitHub-{browser}-base.json" for browser in ("chrome", "firefox", "safari")),
}
"""Valid files without a single row."""

OF_A_FOLDER = (
    "criterion/",
    "asv/asv-example_results/benchmarks.json",
    "asv/asv-example_results/cheetah/machine.json",
)
"""Files that are results only together with what lies beside them (FOLDERS); alone they are refused."""

FOLDERS = {
    "criterion/criterion-book": ("criterion", 1, 6),
    "asv/asv-example_results": ("asv", 27, 300),
}
"""Folders whose files make one submission: format, runs, measurements."""


def files(*, known: bool, invalid: bool = False) -> list[object]:
    """A parameter per corpus file of a format that we read (`known`) or do not, from `invalid/` or not."""
    if not CORPUS.is_dir():
        return [pytest.param("", "", marks=pytest.mark.skip(reason=f"no corpus beside the project at {CORPUS}"))]
    found = []
    for line in (CORPUS / "SOURCES.tsv").read_text().splitlines()[1:]:
        name, format = line.split("\t")[:2]
        format = READ_AS.get(format, format).split(" ")[0]
        if (format in FORMATS) == known and name.startswith("invalid/") == invalid:
            found.append(pytest.param(name, format, id=name))
    return found


def read(name: str) -> Transformed:
    return transformed((CORPUS / name).read_bytes())


def assert_refused_with_reasons(result: Transformed) -> None:
    assert result.outcome.verdict == "rejected"
    assert result.outcome.problems
    assert all(problem.where and problem.expected and problem.found for problem in result.outcome.problems)


@pytest.mark.parametrize(("name", "format"), files(known=True))
def test_a_real_file_gives_rows_or_is_refused_for_the_reason_we_know(name: str, format: str) -> None:
    result = read(name)
    outcome = result.outcome
    if name.startswith(OF_A_FOLDER):
        assert_refused_with_reasons(result)
        assert "one of the formats" in outcome.problems[0].expected
        return
    if name in REFUSED:
        assert_refused_with_reasons(result)
        assert REFUSED[name] in str(outcome.problems[0])
        return
    assert (outcome.verdict, outcome.format) == ("accepted", format), outcome.problems[:5]
    assert outcome.problems_total == 0 or all(problem.effect == "kept" for problem in outcome.problems)
    assert outcome.runs == len(rows_of(result, "runs")) >= 1
    assert outcome.measurements == len(rows_of(result, "measurements"))
    assert outcome.tests == len(rows_of(result, "tests"))
    assert (outcome.measurements + outcome.tests == 0) == (name in EMPTY)


@pytest.mark.parametrize(("name", "format"), files(known=True, invalid=True))
def test_what_must_be_refused_is_refused_with_reasons(name: str, format: str) -> None:
    result = read(name)
    assert_refused_with_reasons(result)
    assert result.outcome.format in (format, "")


@pytest.mark.parametrize(("name", "format"), files(known=False))
def test_no_format_takes_a_file_of_another_for_its_own(name: str, format: str) -> None:
    assert_refused_with_reasons(read(name))


def as_tar(folder: Path) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.add(folder, arcname=folder.name)
    return made.getvalue()


def as_zip(folder: Path) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    return made.getvalue()


@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no corpus beside the project at {CORPUS}")
@pytest.mark.parametrize("made", [as_tar, as_zip])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_real_folder_is_read_as_an_archive(name: str, made: Callable[[Path], bytes]) -> None:
    outcome = transformed(made(CORPUS / name)).outcome
    assert outcome.verdict == "accepted"
    assert (outcome.format, outcome.runs, outcome.measurements) == FOLDERS[name]
    assert all(problem.effect == "kept" for problem in outcome.problems)


@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no corpus beside the project at {CORPUS}")
def test_two_years_of_asv_results_are_a_run_per_file() -> None:
    result = transformed(lzma.decompress((CORPUS / "timeseries/django-asv.tar.xz").read_bytes()))
    outcome = result.outcome
    assert (outcome.verdict, outcome.format, outcome.runs, outcome.measurements) == ("accepted", "asv", 240, 15_152)
    assert outcome.problems == []
    assert len({row["digest"] for row in rows_of(result, "runs")}) == 240
    assert len({row["environment"] for row in rows_of(result, "runs")}) == 1
    assert all(row["n"] == len(row["samples"]) for row in rows_of(result, "measurements"))
