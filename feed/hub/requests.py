"""What a subscriber asks of the hub (WebSub, 5.1), read from the form that it sent. Pure.

What a callback is asked in turn (5.2, 5.3) is made here too.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from feed.serve.topics import log_of
from infra.addresses import checked_address
from infra.fetch import checked_url
from schemas.errors import Refused

MOST_BYTES = 16 << 10
"""Of a request's form."""

LEASE_SECONDS = 10 * 24 * 3600
"""For who names none, as the Recommendation has it (8.2)."""

LONGEST_LEASE_SECONDS = 30 * 24 * 3600
SHORTEST_LEASE_SECONDS = 60
SECRET_BYTES = 199
CALLBACK_CHARACTERS = 2000

_MOST_FIELDS = 100
_ONCE = ("hub.mode", "hub.topic", "hub.callback", "hub.lease_seconds", "hub.secret")


@dataclass(frozen=True)
class Wanted:
    """A subscription to begin, to renew or to end, once the callback has said that it wants this."""

    mode: Literal["subscribe", "unsubscribe"]
    topic: str
    log: str
    callback: str
    lease_seconds: int
    secret: str
    local: bool
    """A program on this machine asks."""

    @property
    def host(self) -> str:
        return callback_host(self.callback)


def parse_request(media_type: str, body: bytes, bases: set[str], *, local: bool, private: bool) -> Wanted | None:
    """What the form in `body` asks for; None if it only says that a log has changed, which we see by ourselves.

    `bases` are our addresses as that caller may name them.
    `local`: a program on this machine asks; `private`: callbacks may be at private addresses. Raises Refused.
    """
    if media_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise Refused("Content-Type", "application/x-www-form-urlencoded", repr(media_type[:80]), status=415)
    fields = _fields(body)
    mode = _one(fields, "hub.mode")
    if mode == "publish":
        for topic in (fields.get("hub.url", []) + fields.get("hub.topic", [])) or [""]:
            log_of(topic, bases)
        return None
    if mode not in ("subscribe", "unsubscribe"):
        raise Refused("hub.mode", "subscribe, unsubscribe or publish", repr(mode[:80]))
    topic = _one(fields, "hub.topic")
    return Wanted(
        mode="subscribe" if mode == "subscribe" else "unsubscribe",
        topic=topic,
        log=log_of(topic, bases),
        callback=_callback(_one(fields, "hub.callback"), private=private or local),
        lease_seconds=_lease_seconds(_one(fields, "hub.lease_seconds")) if mode == "subscribe" else 0,
        secret=_secret(_one(fields, "hub.secret")),
        local=local,
    )


def callback_host(callback: str) -> str:
    return (urlsplit(callback).hostname or "").rstrip(".")


def intent_url(wanted: Wanted, challenge: str) -> str:
    """What to GET so that the callback says whether it wants this."""
    lease = {"hub.lease_seconds": str(wanted.lease_seconds)} if wanted.mode == "subscribe" else {}
    return _with_query(
        wanted.callback, {"hub.mode": wanted.mode, "hub.topic": wanted.topic, "hub.challenge": challenge, **lease}
    )


def denial_url(wanted: Wanted, reason: str) -> str:
    """What to GET so that the callback knows that it gets no subscription."""
    return _with_query(wanted.callback, {"hub.mode": "denied", "hub.topic": wanted.topic, "hub.reason": reason})


def _with_query(callback: str, added: dict[str, str]) -> str:
    """The callback's own query stays as it is, in front (5.1.1)."""
    joint = "?" if "?" not in callback else "" if callback.endswith("?") else "&"
    return callback + joint + urlencode(added)


def _fields(body: bytes) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise Refused("request", f"a form of at most {_MOST_FIELDS} fields in UTF-8", str(error)[:200]) from error
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def _one(fields: dict[str, list[str]], name: str) -> str:
    """The value of a field that may not come twice, "" without it."""
    found = fields.get(name, [""])
    if name in _ONCE and len(found) > 1 and fields.get("hub.mode") != ["publish"]:
        raise Refused(name, "one value", f"{len(found)}")
    return found[0]


def _callback(text: str, *, private: bool) -> str:
    if not text.isascii() or not 0 < len(text) <= CALLBACK_CHARACTERS or "#" in text:
        expected = f"a URL of at most {CALLBACK_CHARACTERS} ASCII characters without a fragment"
        raise Refused("hub.callback", expected, repr(text[:200]))
    try:
        host = checked_url(text).raw_host.decode()
        understood = callback_host(text) == host.rstrip(".")
    except Refused as error:
        raise Refused("hub.callback", error.expected, error.found) from error
    except ValueError as error:
        raise Refused("hub.callback", "a URL", repr(text[:200])) from error
    if not understood:  # who reads it in two ways might be told another host than is connected to
        raise Refused("hub.callback", "a URL that can be read in one way only", repr(text[:200]))
    try:
        ip_address(host)
    except ValueError:
        return text  # a name; what it means is looked at whenever it is asked
    checked_address(host, host, private=private)
    return text


def _lease_seconds(text: str) -> int:
    if not text:
        return LEASE_SECONDS
    if not (text.isascii() and text.isdecimal() and int(text[:12]) > 0):
        raise Refused("hub.lease_seconds", "a positive decimal integer", repr(text[:80]))
    return min(max(int(text[:12]), SHORTEST_LEASE_SECONDS), LONGEST_LEASE_SECONDS)


def _secret(text: str) -> str:
    size_bytes = len(text.encode())
    if size_bytes > SECRET_BYTES:
        raise Refused("hub.secret", "less than 200 bytes", f"{size_bytes}")
    return text
