"""Push, then look: the graph in a real browser shows the numbers that a runner pushed."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.running import running


@pytest.mark.browser
def test_a_pushed_value_is_a_point_of_the_graph_and_leads_to_its_run(chromium: Browser, tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        for number, value in enumerate([10.0, 11.0, 42.5]):
            commit = {
                "id": f"{number:x}" * 40,
                "time": (start + timedelta(days=number)).isoformat(),
                "subject": f"S{number}",
            }
            result = {"benchmark": "parse", "metric": "time", "value": value, "unit": "ms", "better": "lower"}
            receipt = server.push(json.dumps(result).encode(), context=json.dumps({"commit": commit}))
            server.wait_for(receipt["id"])
        page = chromium.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server.url)
        page.get_by_role("link", name="p", exact=True).first.click()
        page.get_by_role("link", name="time").first.click()
        plot = page.locator(".u-over")
        expect(plot).to_be_visible()
        box = plot.bounding_box()
        assert box is not None
        plot.hover(position={"x": box["width"] - 8, "y": box["height"] / 2})
        expect(page.get_by_text("42.5 ms").first).to_be_visible()
        expect(page.get_by_text("S2").first).to_be_visible()
        plot.click(position={"x": box["width"] - 8, "y": box["height"] / 2})
        page.wait_for_url("**/runs/*")
        expect(page.get_by_text("2222222222").first).to_be_visible()
        page.go_back()
        expect(plot).to_be_visible()
        assert errors == []
        page.close()


@pytest.mark.browser
def test_a_submission_page_follows_its_submission_to_the_end(chromium: Browser, tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        receipt = server.push(b'{"benchmark": "parse", "metric": "time", "value": NaN}')
        page = chromium.new_page()
        page.goto(server.url + receipt["page"])
        expect(page.get_by_text("rejected").first).to_be_visible()
        expect(page.get_by_text("a bare NaN or Infinity").first).to_be_visible()
        page.close()


def test_the_demo_fills_a_running_server(tmp_path: Path) -> None:
    """Two commits of it; the whole demo is for `make demo`."""
    with running(tmp_path / "data") as server:
        command = [sys.executable, "-m", "tests.demo", "--commits", "2", "--to", server.url]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        (project,) = server.get("/api/v1/projects")["items"]
        assert project["name"] == "demo"
        assert {run["environment_title"] for run in server.get("/api/v1/runs")["items"]} == {"plain", "dev-mode"}
        assert {run["format"] for run in server.get("/api/v1/runs")["items"]} == {"pytest-benchmark", "junit"}
