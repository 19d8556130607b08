"""Who may push what: decided from a request's facts. No address but loopback is bound for it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.bucket import Buckets
from infra.folder import FolderBucket
from infra.local import Caller, is_truly_local
from infra.settings import Settings
from ingest.access import check_rules, rules_for, trust_of
from ingest.projects import add_project, set_project
from ingest.tokens import create_token, revoke_token, token_sha256
from schemas.errors import Refused
from schemas.records import Trust

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LOCAL = Settings()
PUBLIC = Settings(host="0.0.0.0")
OPEN = Settings(host="0.0.0.0", allow_anonymous=True)
HOST = {"host": "127.0.0.1:8765"}


@pytest.fixture
def buckets(tmp_path: Path) -> Buckets:
    return Buckets(FolderBucket(tmp_path / "public"), FolderBucket(tmp_path / "private"))


def bearer(secret: str) -> Caller:
    return Caller("203.0.113.7", {"host": "results.example", "authorization": f"Bearer {secret}"})


# --- local ---


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8765", "[::1]", "[::1]:8765"])
def test_a_program_on_this_machine_is_local_under_each_of_its_names(host: str) -> None:
    for address in ("127.0.0.1", "::1"):
        assert is_truly_local(Caller(address, {"host": host}), LOCAL)


@pytest.mark.parametrize(
    "host",
    [
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "127.0.0.1.nip.io:8765",
        "127.1",
        "0.0.0.0:8765",
        "[::1",
        "[::ffff:127.0.0.1]",
        "evil@localhost",
        "localhost@evil.example",
        "localhost/evil.example",
        "localhost:evil.example",
        "localhost.",
        "localhost ",
        "localhost\n",
        "",
    ],
)
def test_a_name_that_was_made_to_point_here_is_not_local(host: str) -> None:
    """A web page whose DNS name has been rebound to loopback cannot choose the Host that its browser sends."""
    assert not is_truly_local(Caller("127.0.0.1", {"host": host}), LOCAL)


@pytest.mark.parametrize(
    ("headers", "local"),
    [
        ({"origin": "http://127.0.0.1:8765"}, True),
        ({"origin": "https://127.0.0.1:8765"}, True),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://["}, False),
        ({"origin": "http://127.0.0.1:9000"}, False),
        ({"origin": "http://localhost:8765"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"forwarded": ""}, False),
        ({"x-forwarded-for": "127.0.0.1"}, False),
        ({"x-forwarded-port": "443"}, False),
        ({"x-real-ip": "127.0.0.1"}, False),
        ({"cf-connecting-ip": "127.0.0.1"}, False),
        ({"true-client-ip": "127.0.0.1"}, False),
        ({"via": "1.1 proxy"}, False),
    ],
)
def test_a_web_page_elsewhere_and_a_proxy_are_not_local(headers: dict[str, str], local: bool) -> None:
    assert is_truly_local(Caller("127.0.0.1", HOST | headers), LOCAL) is local


def test_a_proxy_that_tells_nothing_is_known_by_its_old_http() -> None:
    """nginx's `proxy_pass` alone sends Host: 127.0.0.1:8765, no forwarding header, and HTTP/1.0."""
    assert not is_truly_local(Caller("127.0.0.1", HOST, "1.0"), LOCAL)


def test_nobody_is_local_to_a_server_that_others_can_reach() -> None:
    assert not is_truly_local(Caller("127.0.0.1", HOST), PUBLIC)
    assert not is_truly_local(Caller("192.0.2.1", HOST), LOCAL)
    assert not is_truly_local(Caller("::ffff:127.0.0.1", HOST), LOCAL)
    assert not is_truly_local(Caller("", HOST), LOCAL)


# --- anonymous ---


def test_anonymous_uploads_are_taken_only_where_switched_on(buckets: Buckets) -> None:
    stranger = Caller("203.0.113.7", {"host": "results.example"})
    with pytest.raises(Refused) as refused:
        trust_of(stranger, "p", PUBLIC, buckets, NOW)
    assert refused.value.status == 401
    assert trust_of(stranger, "p", OPEN, buckets, NOW) == Trust(kind="anonymous")


def test_strangers_create_no_project(buckets: Buckets) -> None:
    for trust in (Trust(kind="anonymous"), Trust(kind="token", name="ci")):
        with pytest.raises(Refused) as refused:
            rules_for(buckets, "p", trust, NOW)
        assert refused.value.status == 403
    assert list(buckets.public.list("projects/")) == []
    assert rules_for(buckets, "p", Trust(kind="local"), NOW).name == "p"
    assert rules_for(buckets, "p", Trust(kind="anonymous"), NOW).name == "p"


def test_a_project_may_refuse_anonymous_uploads(buckets: Buckets) -> None:
    add_project(buckets, "p", NOW)
    check_rules(rules_for(buckets, "p", Trust(kind="anonymous"), NOW), Trust(kind="anonymous"))
    set_project(buckets, "p", {"anonymous": "false"})
    rules = rules_for(buckets, "p", Trust(kind="anonymous"), NOW)
    with pytest.raises(Refused) as refused:
        check_rules(rules, Trust(kind="anonymous"))
    assert refused.value.status == 401
    check_rules(rules, Trust(kind="token", name="ci"))


# --- tokens ---


def test_a_token_pushes_to_its_projects_and_star_to_all(buckets: Buckets) -> None:
    one, _ = create_token(buckets.private, name="one", projects=["p", "q"], expires=None, now=NOW)
    star, _ = create_token(buckets.private, name="all", projects=["*"], expires=None, now=NOW)
    assert trust_of(bearer(one), "q", PUBLIC, buckets, NOW) == Trust(kind="token", name="one")
    with pytest.raises(Refused) as refused:
        trust_of(bearer(one), "other", PUBLIC, buckets, NOW)
    assert refused.value.status == 403
    assert trust_of(bearer(star), "other", PUBLIC, buckets, NOW) == Trust(kind="token", name="all")


def test_an_expired_or_revoked_token_is_refused(buckets: Buckets) -> None:
    expires = NOW + timedelta(days=1)
    token, _ = create_token(buckets.private, name="ci", projects=["*"], expires=expires, now=NOW)
    trust_of(bearer(token), "p", PUBLIC, buckets, NOW)
    with pytest.raises(Refused, match="expired"):
        trust_of(bearer(token), "p", PUBLIC, buckets, expires)
    revoke_token(buckets.private, token_sha256(token)[:12], NOW)
    with pytest.raises(Refused, match="revoked") as refused:
        trust_of(bearer(token), "p", PUBLIC, buckets, NOW)
    assert refused.value.status == 401


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "rf_secret", "Bearer \xff", "Bearer ../x", "bearer a b"]
)
def test_an_authorization_that_is_no_token_is_refused_even_to_a_local_sender(buckets: Buckets, value: str) -> None:
    """Who shows credentials wants them checked; and what was shown is not repeated."""
    with pytest.raises(Refused) as refused:
        trust_of(Caller("127.0.0.1", HOST | {"authorization": value}), "p", LOCAL, buckets, NOW)
    assert refused.value.status == 401
    assert "secret" not in str(refused.value)
    assert "dXNlcjp" not in str(refused.value)


def test_no_token_can_be_revoked_by_an_empty_or_shared_beginning(buckets: Buckets) -> None:
    for name in ("a", "b"):
        create_token(buckets.private, name=name, projects=["*"], expires=None, now=NOW)
    with pytest.raises(Refused):
        revoke_token(buckets.private, "", NOW)
    with pytest.raises(Refused):
        revoke_token(buckets.private, "zz", NOW)
