"""The whole topology as processes on this machine: every role, SeaweedFS behind the proxy, Valkey, and a supervisor.

What dies by itself is started again after a moment, as a service manager would; what a fault has taken down stays down
until that fault ends. Ports stay the same over restarts. Everything listens on loopback and is ended by its own id.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3
import msgspec
import psutil
import redis
from botocore.config import Config

from infra.bucket import Buckets
from infra.s3 import open_s3
from tests.faults.process import Process
from tests.faults.proxy import Counts, Order, Weather
from tests.running import RUNFEED
from tests.servers import REDIS_PASSWORD, seaweedfs_command, valkey_command

ROLES = {"ingest": 2, "announce": 2, "work": 3, "dashboard": 2}
HEARTBEAT_SECONDS = 2
PUBLIC, PRIVATE = "results", "results-private"
HOSTILE = Path(__file__).parent.parent / "hostile_formats"

_READY_SECONDS = 60
_RESTART_SECONDS = 0.5
QUICK = {
    "RUNFEED_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
    "RUNFEED_REDELIVER_SECONDS": "15",
    "RUNFEED_LEASE_SECONDS": "2",
    "RUNFEED_WORKER_PROCESSES": "1",
    "RUNFEED_TRANSFORM_MEMORY_MIB": "1024",
    "RUNFEED_INBOX_SECONDS": "2",
    "RUNFEED_SNAPSHOT_SECONDS": "20",
    "RUNFEED_DUCKDB_MEMORY": "200MB",
}
"""Settings of the roles with which what a fault has taken is found missing within seconds."""


class Topology:
    """Everything, running in the time of the context. `folder` holds what each process keeps."""

    def __init__(
        self,
        folder: Path,
        roles: Mapping[str, int] = ROLES,
        *,
        settings: Mapping[str, str] = QUICK,
        proxied: bool = True,
    ) -> None:
        self.folder = folder
        self._weed_ports = lasting_ports(10)
        command, self.server = seaweedfs_command(folder / "seaweedfs", self._weed_ports)
        environ = {"HOME": str(folder), "TMPDIR": str(folder)}
        weed = folder / "seaweedfs"
        self.s3 = Process("seaweedfs", command, environ, weed, int(self.server.endpoint.rpartition(":")[2]))
        proxy_port, queue_port, *ports = lasting_ports(2 + sum(roles.values()))
        options = ["--bind", "127.0.0.1", "--port", str(queue_port), "--requirepass", REDIS_PASSWORD]
        command = [*valkey_command(), *options, "--save", "", "--appendonly", "no"]
        self.queue = Process("valkey", command, environ, folder / "valkey", queue_port)
        self.redis = f"redis://:{REDIS_PASSWORD}@127.0.0.1:{queue_port}/0"
        self.proxy_url = f"http://127.0.0.1:{proxy_port}"
        self._proxy_command = proxy_command(proxy_port, self.s3.port)
        self._proxy: subprocess.Popen[str] | None = None
        self._settings = dict(settings) | ({"AWS_ENDPOINT_URL": self.proxy_url} if proxied else {})
        self.roles = {
            role: [self._role(role, number, ports.pop()) for number in range(1, count + 1)]
            for role, count in roles.items()
        }
        self._ending = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor")

    @property
    def processes(self) -> list[Process]:
        return [self.s3, self.queue, *(process for role in self.roles.values() for process in role)]

    @property
    def exits(self) -> dict[str, list[int]]:
        """The statuses with which processes ended by themselves, by name."""
        return {process.name: process.exits for process in self.processes if process.exits}

    @property
    def secrets(self) -> list[str]:
        """What no public object may hold."""
        return [REDIS_PASSWORD, self.server.secret_key]

    def _role(self, role: str, number: int, port: int) -> Process:
        folder = self.folder / f"{role}-{number}"
        command = [RUNFEED, role, "--data", str(folder / "data"), "--host", "127.0.0.1", "--port", str(port)]
        command += ["--bucket", f"s3://{PUBLIC}", "--private-bucket", f"s3://{PRIVATE}", "--redis", self.redis]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("RUNFEED_", "AWS_"))}
        environ |= self.server.environ | self._settings
        path = [str(HOSTILE), *filter(None, [environ.get("PYTHONPATH")])]  # so that some files kill who reads them
        environ |= {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(path)}
        return Process(f"{role}-{number}", command, environ, folder, port)

    # --- lifetime ---

    def __enter__(self) -> Self:
        self._proxy = subprocess.Popen(
            self._proxy_command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        assert self._proxy.stdout
        try:
            assert self._proxy.stdout.readline() == "ready\n"
            self.s3.start()
            self.queue.start()
            self._wait_for(f"{self.server.endpoint}/status", self.s3)
            self._make_buckets()
            for process in self.processes[2:]:
                process.start()
            for process in self.processes[2:]:
                self._wait_for(f"{process.url}/readyz", process)
        except BaseException:
            self._end()
            raise
        self._supervisor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._supervisor.join()
        self._end()

    def _end(self) -> None:
        for process in self.processes[2:]:
            process.terminate()
        for process in reversed(self.processes):  # storage last: those who end by SIGTERM may want to write
            process.end()
        if self._proxy is not None:
            self._proxy.kill()
            self._proxy.communicate()
        for port in self._weed_ports:  # weed puts its sockets there whatever it is told, and leaves some
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def _make_buckets(self) -> None:
        client = self.client(self.server.endpoint)
        for name in (PUBLIC, PRIVATE):
            client.create_bucket(Bucket=name)
        client.close()

    def client(self, endpoint: str) -> Any:
        """A client of S3 that tries once."""
        return boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1",
            aws_access_key_id=self.server.access_key, aws_secret_access_key=self.server.secret_key,
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=15),
        )  # fmt: skip

    def _wait_for(self, url: str, process: Process) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not _answers(url):
            said = process.log.read_text(errors="replace")[-3000:] if process.log.exists() else ""
            assert process.running, f"{process.name} ended: {said}"
            assert time.monotonic() < deadline, f"{process.name} is not ready after {_READY_SECONDS} s: {said}"
            time.sleep(0.05)

    def _supervise(self) -> None:
        while not self._ending.wait(_RESTART_SECONDS):
            for process in self.processes:
                if process.wanted and not process.running:
                    if process.process is not None and process.process.returncode != -signal.SIGKILL:
                        process.exits.append(process.process.returncode)
                    process.start()

    # --- what faults and checks need ---

    def order(self, weather: Weather | None = None) -> Counts:
        """Change how the proxy behaves; what it has counted so far."""
        assert self._proxy
        assert self._proxy.stdin
        assert self._proxy.stdout
        self._proxy.stdin.write(msgspec.json.encode(Order(weather=weather)).decode() + "\n")
        self._proxy.stdin.flush()
        return msgspec.json.decode(self._proxy.stdout.readline(), type=Counts)

    def buckets(self) -> Buckets:
        """Both buckets, past the proxy."""
        environ = self.server.environ
        return Buckets(open_s3(f"s3://{PUBLIC}", environ), open_s3(f"s3://{PRIVATE}", environ))

    def forget_queue(self) -> None:
        """FLUSHALL, if the queue is there."""
        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.redis) as client:
            client.flushall()

    def limit_files(self, process: Process, size_bytes: int | None) -> None:
        """From now on no file of the process grows beyond that size, as on a full disk; None lifts it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            limited = psutil.Process(process.pid)
            soft = psutil.RLIM_INFINITY if size_bytes is None else size_bytes
            limited.rlimit(psutil.RLIMIT_FSIZE, (soft, limited.rlimit(psutil.RLIMIT_FSIZE)[1]))


def proxy_command(port: int, upstream_port: int) -> list[str]:
    return [sys.executable, "-m", "tests.faults.proxy", str(port), str(upstream_port)]


def lasting_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that no connection to somewhere else gets while their process is down."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            ports += [port] if port not in ports else []
    return ports


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
        return True
    return False
