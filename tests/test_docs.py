"""The documents say what the code does: settings, commands, formats, columns, files."""

import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.settings import Settings
from processor.formats.registry import FORMATS
from runfeed import COMMANDS, cli

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
    missing = [path.stem for path in (ROOT / room).glob("*.py") if path.stem != "__init__" and path.stem not in text]
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
