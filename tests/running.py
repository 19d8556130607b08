"""A real `runfeed up` for tests: its own process on a free port of 127.0.0.1, ended by its own id."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

RUNFEED = str(Path(sys.executable).with_name("runfeed"))


class Running:
    """One `runfeed up` on `data`; `kill` it like a power cut, `start` it again."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.url = ""
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.client = httpx.Client(timeout=30)

    def start(self) -> "Running":
        command = [RUNFEED, "up", "--data", str(self.data), "--port", "0", *self._options]
        self._log = open(self.data.parent / f"{self.data.name}.log", "ab")  # noqa: SIM115 - closed by stop
        environ = {name: value for name, value in os.environ.items() if not name.startswith("RUNFEED_")}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environ | {"PYTHONUNBUFFERED": "1"}
        )
        self.url = self._read_url()
        self.client.base_url = httpx.URL(self.url)
        return self

    def _read_url(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        seen = ""
        for line in self._process.stdout:  # ends when the process does
            seen += line
            if match := re.search(r"pages\s+(http://\S+?)/\s", line):
                return match[1]
        raise AssertionError(f"runfeed up did not start: {seen}\n{Path(self._log.name).read_text()[-3000:]}")

    def kill(self) -> None:
        """SIGKILL: nothing gets to clean up."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ctrl-C; the exit status."""
        return self._end(signal.SIGINT)

    def _end(self, number: int) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        status = self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()
        self._process = None
        return status

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return (self.data.parent / f"{self.data.name}.log").read_text()

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON at `path`; fails on any status but 200."""
        answer = self.client.get(path, params=parameters)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
        return answer.json()

    def push(self, body: bytes, **parameters: str) -> dict[str, Any]:
        """Upload `body` over HTTP as any client could; the receipt."""
        answer = self.client.post("/api/v1/submissions", content=body, params={"project": "p", **parameters})
        assert answer.status_code in (200, 201), f"{answer.status_code} {answer.text[:300]}"
        receipt: dict[str, Any] = answer.json()
        return receipt

    def wait_for(self, submission_id: str, timeout_seconds: float = 30) -> dict[str, Any]:
        """The submission's state once it is final."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            state: dict[str, Any] = self.get(f"/api/v1/submissions/{submission_id}")
            if state["state"] in ("accepted", "rejected", "quarantined", "withdrawn"):
                return state
            time.sleep(0.02)
        raise AssertionError(f"{submission_id} has no outcome after {timeout_seconds} s: {state}\n{self.log()[-2000:]}")

    def runfeed(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run another `runfeed` command beside this one, against it."""
        environ = os.environ | {"RUNFEED_URL": self.url, "RUNFEED_SPOOL": str(self.data.parent / "client-spool")}
        return subprocess.run(
            [RUNFEED, *arguments], capture_output=True, text=True, env=environ, cwd=cwd, timeout=120, check=False
        )


@contextmanager
def running(data: Path, *options: str) -> Iterator[Running]:
    server = Running(data, *options).start()
    try:
        yield server
    finally:
        server.stop()
        server.client.close()
