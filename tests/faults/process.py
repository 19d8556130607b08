"""One process of the topology: started, harmed and ended by its own id, its output kept in a log."""

import signal
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Process:
    """One process that may be taken down and brought up again."""

    name: str
    command: list[str]
    environ: dict[str, str]
    folder: Path
    port: int
    wanted: bool = True
    exits: list[int] = field(default_factory=list)
    """The statuses with which it ended by itself."""
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            self.command, cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        # Through a pipe, because a process whose files cannot grow must still be able to say so.
        threading.Thread(target=self._copy_log, args=(self.process,), daemon=True).start()

    def _copy_log(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout
        with process.stdout, open(self.log, "ab") as log:
            for line in process.stdout:
                log.write(line)
                log.flush()

    def send(self, number: int) -> None:
        """Send a signal, if there is somebody to get it."""
        if self.process is not None and self.running:
            self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL. It stays down until it is `wanted` again."""
        self.wanted = False
        self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def terminate(self) -> None:
        """SIGTERM, to one that was stopped too. It is not to come up again."""
        self.wanted = False
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)

    def end(self) -> None:
        """SIGTERM, unless it had that, and SIGKILL for what does not end by it."""
        if self.wanted:
            self.terminate()
        if self.process is not None:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
