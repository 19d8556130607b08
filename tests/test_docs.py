"""The documents say what the code does: settings, commands, formats, columns, files."""

import importlib
import re
import subprocess
import textwrap
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from infra.settings import Settings
from processor.formats.registry import FORMATS
from runfeed import COMMANDS, cli
from tests.golden import rows_of, transformed

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path
    for path in map(
        Path,
        subprocess.run(
            ["git", "ls-files", "*.md"], check=True, cwd=ROOT, capture_output=True, text=True
        ).stdout.split(),
    )
)
ROOMS = ("schemas", "infra", "ingest", "feed", "processor", "dashboard_api")


def test_the_settings_table_is_the_settings() -> None:
    rows = re.findall(r"^\| (\w+) \| (?:`([^`]*)`)? ?\| ([^|]+) \|$", (ROOT / "infra/README.md").read_text(), re.M)
    written = {name: (default, meaning.replace("`", "").strip()) for name, default, meaning in rows}
    real = {one.name: (str(one.default), one.metadata["help"]) for one in fields(Settings)}
    assert {name: written.get(name) for name in real} == real


def test_the_formats_table_is_the_registry() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| .* \| \[(\w+\.py)\]", (ROOT / "processor/README.md").read_text(), re.M)
    assert {id for id, _ in rows} == set(FORMATS)
    for id, module in rows:
        assert FORMATS[id].read.__module__ == f"processor.formats.{module.removesuffix('.py')}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_rooms_readme_names_every_module_of_it(room: str) -> None:
    text = (ROOT / room / "README.md").read_text()
    modules = [path.stem for path in (ROOT / room).rglob("*.py") if path.stem != "__init__"]
    missing = [module for module in modules if module not in text]
    assert missing == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_stands_in_the_readme(command: str) -> None:
    shown = CliRunner().invoke(cli, [command, "--help"])
    assert shown.exit_code == 0, shown.output
    subcommands = re.search(r"Commands:\n((?:  .*\n)+)", shown.output)
    if subcommands is None:
        assert f"runfeed {command}" in shown.output
    assert f"runfeed {command}" in (ROOT / "README.md").read_text()


def test_every_format_describes_itself() -> None:
    for id, format in FORMATS.items():
        module = __import__(format.read.__module__, fromlist=["__doc__"])
        assert "|" in (module.__doc__ or ""), f"{id}: its docstring has no table of fields"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_between_documents_and_files_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / document).read_text()):
        assert (ROOT / document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_paths_named_in_documents_exist(document: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(ROOMS)}|tests)/[\w/.-]+\.py)`", (ROOT / document).read_text())
    assert [path for path in named if not (ROOT / path).exists() and "<" not in path] == []


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for document in DOCUMENTS:
        named = set(
            re.findall(
                r"\bmake ([a-z]+(?:-[a-z]+)*)\b",
                " ".join(re.findall(r"`[^`]+`|^    .*$", (ROOT / document).read_text(), re.M)),
            )
        )
        assert named <= targets, document


def test_the_format_of_the_recipe_works_as_it_stands_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One module, one line: then its files are found and read, with their losses and problems."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    block = re.search(r'^       """speed-log:.*?^       \)$', text, re.M | re.S)
    assert block
    module = tmp_path / "speed_log.py"
    module.write_text(textwrap.dedent(block[0]))
    monkeypatch.syspath_prepend(tmp_path)
    format = importlib.import_module("speed_log").FORMAT
    monkeypatch.setitem(FORMATS, format.id, format)
    made = transformed(format.example.encode())
    assert (made.outcome.format, made.outcome.verdict, made.outcome.unread) == ("speed-log", "accepted", {})
    [row] = rows_of(made, "measurements")
    assert (row["benchmark"], row["value"], row["samples"], row["better"]) == ("parse", 0.255, [0.25, 0.26], "lower")
    more = transformed(b'{"suite": "s", "host": "h", "timings": [{"name": "a", "seconds": [1], "cpu": 2}]}')
    assert more.outcome.unread == {"/host": 1, "/timings/*/cpu": 1}
    none = transformed(b'{"suite": "s", "timings": [{"name": "a", "seconds": []}]}')
    assert [str(problem) for problem in none.outcome.problems] == [
        "/timings/0/seconds: expected at least one number, found none"
    ]


LENIENT = {
    "asv": {"Result"},  # made by the format itself, of either version's fields
    "blender-opendata": {"Scenes"},  # tells the schema's versions apart; each is then read by its own struct
    "google-benchmark": {"Row"},  # unknown fields are counters, and read as such
    "k6": {
        "Submetric",
        "MetricData",
        "MetricLine",
        "PointData",
        "PointLine",
        "CheckTags",
    },  # a point's tags are many, few count
}
"""Structs that let unknown fields pass, and why nothing is lost in silence all the same."""


def test_every_struct_that_formats_read_with_names_what_it_does_not_know() -> None:
    """Else a field could be lost without being counted."""
    for id, format in FORMATS.items():
        module = importlib.import_module(format.read.__module__)
        lenient = {
            name
            for name, one in vars(module).items()
            if isinstance(one, type)
            and issubclass(one, msgspec.Struct)
            and one.__module__ == module.__name__
            and not name.startswith("_")  # nothing is decoded into those
            and not one.__struct_config__.forbid_unknown_fields
        }
        assert lenient == LENIENT.get(id, set()), id
