"""What the server says: whether it is there, and what came of each submission."""

import time
from collections.abc import Iterable
from typing import Any

import httpx

UNFINISHED = ("received", "announced")


def answers(url: str) -> bool:
    """Whether a Runfeed server is at `url`."""
    try:
        return httpx.get(f"{url}/api/v1/status", timeout=5).is_success
    except httpx.HTTPError:
        return False


def wait_for_outcomes(url: str, ids: Iterable[str], timeout_seconds: float) -> dict[str, dict[str, Any]]:
    """The status of each submission once it has ended, or as it stands when the time is up."""
    statuses: dict[str, dict[str, Any]] = {}
    waiting = list(dict.fromkeys(ids))
    deadline = time.monotonic() + timeout_seconds
    with httpx.Client(base_url=url, timeout=10) as client:
        while waiting:
            for id in waiting:
                answer = client.get(f"/api/v1/submissions/{id}")
                answer.raise_for_status()
                statuses[id] = answer.json()
            waiting = [id for id in waiting if statuses[id]["state"] in UNFINISHED]
            if time.monotonic() > deadline:
                break
            if waiting:
                time.sleep(0.2)
    return statuses
