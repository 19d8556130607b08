"""`runfeed settings` says what holds, and from where; the README says the same."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.settings import Settings, read_settings
from infra.settings_cli import markdown, settings_shown, without_password
from runfeed import cli

ROOT = Path(__file__).parents[1]


def test_the_readme_has_the_table_that_the_command_prints() -> None:
    """`runfeed settings --markdown` makes it; only typographic marks may differ."""
    text = (ROOT / "infra/README.md").read_text()
    shown = CliRunner().invoke(cli, ["settings", "--markdown"]).output.rstrip("\n")
    assert shown == markdown()
    assert shown in text


def test_values_and_their_sources_are_those_that_a_server_would_take(tmp_path: Path) -> None:
    (tmp_path / "runfeed.toml").write_text('port = 1\nmax_uploads = 2\nhost = "file"\n')
    environ = {"RUNFEED_PORT": "3", "RUNFEED_HOST": "variable"}
    given = {"data": str(tmp_path), "host": "line", "bucket": None}
    real = read_settings(environ, given)
    shown = {one.name: one for one in settings_shown(environ, given)}
    assert {name: shown[name].value for name in ("data", "host", "port", "max_uploads", "redis")} == {
        "data": str(tmp_path),
        "host": "line",
        "port": "3",
        "max_uploads": "2",
        "redis": "",
    }
    assert {name: shown[name].source for name in ("data", "host", "port", "max_uploads", "redis")} == {
        "data": "command line data",
        "host": "command line host",
        "port": "RUNFEED_PORT",
        "max_uploads": f"{tmp_path / 'runfeed.toml'} max_uploads",
        "redis": "default",
    }
    for one in fields(Settings):
        assert shown[one.name].value == str(getattr(real, one.name))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:secret@queue:6379/0", "redis://user:***@queue:6379/0"),
        ("rediss://:secret@queue", "rediss://:***@queue"),
        ("redis://secret@queue", "redis://***@queue"),
        ("redis://:se@cret@queue", "redis://:***@queue"),
        ("redis://queue:6379", "redis://queue:6379"),
        ("redis://[secret@queue", "***"),
        ("me@example.org", "me@example.org"),
        ("400MB", "400MB"),
    ],
)
def test_a_password_in_an_address_is_hidden(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_no_form_of_the_command_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFEED_REDIS", "redis://:hush-1@queue:6379")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-2")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "hush-3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "shown")
    for form in ([], ["--json"], ["--markdown"]):
        result = CliRunner().invoke(cli, ["settings", *form])
        assert result.exit_code == 0
        assert "hush" not in result.output
    lines = [json.loads(line) for line in CliRunner().invoke(cli, ["settings", "--json"]).output.splitlines()]
    values = {one["variable"]: one["value"] for one in lines}
    assert values["AWS_ACCESS_KEY_ID"] == "shown"
    assert values["AWS_SECRET_ACCESS_KEY"] == values["AWS_SESSION_TOKEN"] == "***"
    assert values["RUNFEED_REDIS"] == "redis://:***@queue:6379"
