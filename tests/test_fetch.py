"""Requests to strangers' addresses: nothing of ours is reachable by them, and no answer is too large or too slow."""

import gzip
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.addresses import checked_address, special_kind
from infra.fetch import CheckedTransport, Fetcher, checked_url, user_agent
from schemas.errors import Refused, Unavailable
from tests.strangers import Stranger, answer, served


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    with served(Stranger()) as server:
        yield server


@contextmanager
def fetcher(*, private: bool = True, **given: Any) -> Iterator[Fetcher]:
    one = Fetcher(private_addresses=private, user_agent=user_agent("https://results.example"), **given)
    try:
        yield one
    finally:
        one.close()


# --- which addresses ---


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.0.9", "loopback"),
        ("::1", "loopback"),
        ("10.1.2.3", "private"),
        ("172.31.255.255", "private"),
        ("192.168.0.1", "private"),
        ("100.64.0.1", "private"),
        ("fd00::1", "private"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("240.0.0.1", "reserved"),
        ("198.18.0.1", "reserved"),
        ("2001:db8::1", "reserved"),
        ("2001::1", "reserved"),
        ("fec0::1", "reserved"),
        ("64:ff9b:1::1", "reserved"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:10.0.0.1", "private"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("2002:7f00:1::", "loopback"),
        ("::127.0.0.1", "reserved"),
        ("not an address", "no address"),
        ("93.184.216.34", ""),
        ("2606:2800:220:1:248:1893:25c8:1946", ""),
        ("::ffff:93.184.216.34", ""),
        ("64:ff9b::5db8:d822", ""),
    ],
)
def test_each_special_address_is_known_as_what_it_is(address: str, kind: str) -> None:
    assert special_kind(address) == kind


def test_a_refusal_names_host_address_and_reason() -> None:
    with pytest.raises(Refused) as refused:
        checked_address("metadata.example", "169.254.169.254", private=False)
    assert str(refused.value) == (
        "host metadata.example: expected a public address, found 169.254.169.254, which is link-local"
    )


def test_private_addresses_may_be_allowed_but_never_the_metadata_service() -> None:
    assert checked_address("nas.example", "192.168.1.9", private=True) == "192.168.1.9"
    for address in ("169.254.169.254", "0.0.0.0", "224.0.0.1", "::ffff:169.254.169.254"):
        with pytest.raises(Refused):
            checked_address("x.example", address, private=True)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:7f00:1]"]
)
def test_no_way_of_writing_loopback_gets_through(stranger: Stranger, host: str) -> None:
    stranger.answers["/secret"] = answer(b"secret")
    with fetcher(private=False) as one, pytest.raises(Refused):
        one.get(f"http://{host}:{stranger.server_port}/secret")
    assert stranger.asked == []


def test_one_bad_address_among_good_ones_is_enough_to_refuse() -> None:
    both = ["93.184.216.34", "10.0.0.1"]
    with (
        fetcher(private=False, resolve=lambda host, port: both) as one,
        pytest.raises(Refused, match=r"10\.0\.0\.1, which is private"),
    ):
        one.get("http://feeds.example/")


def test_a_second_answer_of_the_dns_changes_nothing(stranger: Stranger) -> None:
    """The address that was checked is the one connected to; the name is asked once per connection."""
    stranger.answers["/feed"] = answer(b"feed")
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    with fetcher(resolve=rebinding) as one:
        url = f"http://feeds.example:{stranger.server_port}/feed"
        assert one.get(url).body == b"feed"
        assert stranger.asked[0][1]["host"] == f"feeds.example:{stranger.server_port}"
    with fetcher(resolve=rebinding) as one, pytest.raises(Refused, match="link-local"):
        one.get(url)
    assert asked == ["feeds.example"] * 2
    assert len(stranger.asked) == 1


def test_any_httpx_client_may_use_the_transport(stranger: Stranger) -> None:
    stranger.answers["/feed"] = answer(b"feed")
    with httpx.Client(transport=CheckedTransport(private_addresses=True), trust_env=False) as client:
        assert client.get(stranger.url + "/feed").content == b"feed"
    with (
        httpx.Client(transport=CheckedTransport(private_addresses=False), trust_env=False) as client,
        pytest.raises(Refused, match="loopback"),
    ):
        client.get(stranger.url + "/feed")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://feeds.example/",
        "gopher://feeds.example/",
        "//feeds.example/",
        "feeds.example",
        "http://",
        "http:///path",
        "http://[::1",
        "http://feeds.example:99999/",
        "http://user:password@feeds.example/",
        "http://user@feeds.example/",
        "http://xn--a/",
        "http://feeds.example/\x00",
        "http://\ud800/",
        "",
    ],
)
def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    with pytest.raises(Refused) as refused:
        checked_url(url)
    assert refused.value.status == 422
    assert "password" not in str(refused.value)


def test_only_some_of_very_many_addresses_are_tried(stranger: Stranger) -> None:
    """But all are checked; and one that answers is found behind one that does not."""
    stranger.answers["/feed"] = answer(b"feed")
    with fetcher(resolve=lambda host, port: ["127.0.0.2", "127.0.0.1"]) as one:
        assert one.get(f"http://feeds.example:{stranger.server_port}/feed").body == b"feed"
    many = [f"127.0.1.{number}" for number in range(1, 200)] + ["127.0.0.1"]
    with fetcher(resolve=lambda host, port: many) as one, pytest.raises(Unavailable):
        one.get(f"http://feeds.example:{stranger.server_port}/feed")
    with (
        fetcher(resolve=lambda host, port: [*many, "169.254.169.254"]) as one,
        pytest.raises(Refused, match="link-local"),
    ):
        one.get(f"http://feeds.example:{stranger.server_port}/feed")


# --- redirects ---


def test_redirects_are_followed_and_checked_anew(stranger: Stranger) -> None:
    """A public address may send us on to a private one; that is refused before anything is asked there."""
    stranger.answers["/here"] = answer(b"", 302, Location="/there")
    stranger.answers["/there"] = answer(b"found")
    stranger.answers["/inside"] = answer(b"", 307, Location="http://metadata.example/latest")
    known = {"feeds.example": ["127.0.0.1"], "metadata.example": ["169.254.169.254"]}
    with fetcher(resolve=lambda host, port: known[host]) as one:
        base = f"http://feeds.example:{stranger.server_port}"
        found = one.get(base + "/here")
        assert (found.body, found.url) == (b"found", base + "/there")
        with pytest.raises(Refused, match=r"metadata\.example.*169\.254\.169\.254"):
            one.get(base + "/inside")


@pytest.mark.parametrize("to", ["file:///etc/passwd", "http://user:secret@feeds.example/", "http://[", ""])
def test_redirects_to_what_we_would_not_ask_are_refused(stranger: Stranger, to: str) -> None:
    stranger.answers["/feed"] = answer(b"", 301, Location=to)
    with fetcher() as one, pytest.raises(Refused):
        one.get(stranger.url + "/feed")


def test_redirects_end_after_five(stranger: Stranger) -> None:
    for number in range(9):
        stranger.answers[f"/{number}"] = answer(b"", 302, Location=f"/{number + 1}")
    stranger.answers["/6"] = answer(b"the end")
    with fetcher() as one:
        assert one.get(stranger.url + "/1").body == b"the end"
        stranger.asked.clear()
        with pytest.raises(Refused, match="at most 5 redirects"):
            one.get(stranger.url + "/0")
    assert [path for path, _ in stranger.asked] == ["/0", "/1", "/2", "/3", "/4", "/5"]


# --- bounds ---


def test_a_body_over_the_limit_is_refused_by_its_declared_length_or_while_it_comes(stranger: Stranger) -> None:
    stranger.answers["/declared"] = answer(b"x" * 1001)

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        while True:
            request.wfile.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    stranger.answers["/endless"] = endless
    with fetcher() as one:
        for path in ("/declared", "/endless"):
            with pytest.raises(Refused) as refused:
                one.get(stranger.url + path, max_bytes=1000)
            assert refused.value.status == 413
        taken: list[int] = []
        with one.stream(stranger.url + "/endless", max_bytes=1 << 20) as streamed, pytest.raises(Refused):
            taken.extend(len(piece) for piece in streamed.pieces)
        assert sum(taken) <= 1 << 20
        assert max(taken) <= 1 << 16


def test_a_bomb_is_refused_at_the_limit_of_what_it_decodes_to(stranger: Stranger) -> None:
    """256 MiB in 256 KiB: neither time nor memory goes beyond what was allowed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join([packer.compress(bytes(1 << 20)) for _ in range(256)]) + packer.flush()
    stranger.answers["/bomb"] = answer(bomb, Content_Encoding="gzip")
    with fetcher() as one:
        before = time.process_time()
        with pytest.raises(Refused) as refused:
            one.get(stranger.url + "/bomb", max_bytes=1 << 20)
        assert refused.value.status == 413
        assert time.process_time() - before < 0.5


def test_gzip_is_decoded_in_several_members_too_and_a_cut_one_may_do_later(stranger: Stranger) -> None:
    first, second = bytes(200_000), b"second" * 1000
    whole = gzip.compress(first) + gzip.compress(second)
    stranger.answers["/whole"] = answer(whole, Content_Encoding="gzip")
    stranger.answers["/cut"] = answer(whole[:-9], Content_Encoding="gzip")
    stranger.answers["/not"] = answer(b"plain", Content_Encoding="gzip")
    stranger.answers["/other"] = answer(b"plain", Content_Encoding="br")
    stranger.answers["/none"] = answer(b"", Content_Encoding="gzip")
    with fetcher() as one:
        assert one.get(stranger.url + "/whole").body == first + second
        assert one.get(stranger.url + "/none").body == b""
        with pytest.raises(Unavailable):
            one.get(stranger.url + "/cut")
        for path in ("/not", "/other"):
            with pytest.raises(Refused):
                one.get(stranger.url + path)


def _trickle(request: BaseHTTPRequestHandler) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-Long: " + b"x" * 1000:
        request.wfile.write(bytes([byte]))
        time.sleep(0.02)


def test_a_server_that_says_nothing_or_trickles_is_left_in_time(stranger: Stranger) -> None:
    """Each wait is bounded, and so is their sum: a header byte now and then does not keep us."""
    held = threading.Event()
    stranger.answers["/silent"] = lambda request: held.wait(5) and None
    stranger.answers["/trickle"] = _trickle
    try:
        with fetcher(timeout_seconds=0.2, total_seconds=0.5) as one:
            for path in ("/silent", "/trickle"):
                before = time.monotonic()
                with pytest.raises(Unavailable):
                    one.get(stranger.url + path)
                assert time.monotonic() - before < 2
    finally:
        held.set()


def test_nobody_there_and_half_an_answer_may_do_later(stranger: Stranger) -> None:
    def half(request: BaseHTTPRequestHandler) -> None:
        answer(b"half", Content_Length="8")(request)
        request.close_connection = True

    stranger.answers["/half"] = half
    with fetcher(timeout_seconds=2) as one:
        with pytest.raises(Unavailable):
            one.get(stranger.url + "/half")
        with pytest.raises(Unavailable):
            one.get("http://127.0.0.1:1/")

    def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    with fetcher(resolve=nowhere) as one, pytest.raises(Unavailable, match="has no address"):
        one.get("http://nowhere.example/")


# --- what is sent, what comes back ---


def test_we_say_who_we_are_and_nothing_else(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cookies come back to a server, no proxy of the environment is used, conditions are passed on."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    stranger.answers["/feed"] = answer(b"", 304, Set_Cookie="id=1; Path=/", ETag='"7"')
    with fetcher() as one:
        for _ in range(2):
            found = one.get(stranger.url + "/feed", {"If-None-Match": '"7"'})
            assert (found.status, found.headers["etag"], found.body) == (304, '"7"', b"")
    for _, headers in stranger.asked:
        assert "cookie" not in headers
        assert "authorization" not in headers
        assert headers["if-none-match"] == '"7"'
        assert headers["user-agent"].startswith("Runfeed/")
        assert headers["user-agent"].endswith(" (+https://results.example)")


def test_a_get_shows_its_status_and_a_stream_refuses_what_is_not_there(stranger: Stranger) -> None:
    stranger.answers["/gone"] = answer(b"a page of many words", 410)
    stranger.answers["/busy"] = answer(b"", 503, Retry_After="9")
    stranger.answers["/blob"] = answer(b"blob")
    with fetcher() as one:
        assert (one.get(stranger.url + "/gone").status, one.get(stranger.url + "/gone").body) == (410, b"")
        assert one.get(stranger.url + "/busy").headers["retry-after"] == "9"
        with pytest.raises(Refused, match="status 410"), one.stream(stranger.url + "/gone", max_bytes=9):
            pass
        with pytest.raises(Unavailable), one.stream(stranger.url + "/busy", max_bytes=9):
            pass
        with one.stream(stranger.url + "/blob", max_bytes=9) as streamed:
            assert b"".join(streamed.pieces) == b"blob"


def test_a_post_tells_the_status_and_follows_nothing(stranger: Stranger) -> None:
    stranger.answers["/callback"] = answer(b"", 302, Location="/elsewhere")
    with fetcher() as one:
        assert one.post(stranger.url + "/callback", b"body", {"Content-Type": "application/atom+xml"}) == 302
    assert stranger.asked[-1][1]["content-type"] == "application/atom+xml"
    with fetcher(private=False) as one, pytest.raises(Refused, match="loopback"):
        one.post(stranger.url + "/callback", b"body")


# --- TLS ---


def test_the_certificate_is_verified_against_the_name(tmp_path: Path) -> None:
    """The server sees the name, not the address, and a certificate of another name does not pass."""
    certificate, key = _certificate(tmp_path, "feeds.example")
    server = Stranger()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _, name, __: server.names.append(name)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answers["/feed"] = answer(b"feed")
    trusting = ssl.create_default_context(cafile=str(certificate))
    with served(server), fetcher(resolve=lambda host, port: ["127.0.0.1"], tls=trusting, timeout_seconds=5) as one:
        assert one.get(f"https://feeds.example:{server.server_port}/feed").body == b"feed"
        assert server.names == ["feeds.example"]
        assert server.asked[0][1]["host"] == f"feeds.example:{server.server_port}"
        with pytest.raises(Unavailable, match="certificate"):
            one.get(f"https://other.example:{server.server_port}/feed")
        assert server.names[-1] == "other.example"
        assert len(server.asked) == 1


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate of that name, signed by itself, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files
