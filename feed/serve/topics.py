"""Addresses of logs as WebSub knows them: a topic is that of a log's head, a hub takes subscriptions to it. Pure.

A topic needs a public address, or a subscriber on this very machine, whose Host can be believed.
"""

import re

from infra.local import Caller, own_origin
from infra.settings import Settings
from schemas import keys
from schemas.errors import Refused

HUB_PATH = "/hub"

_TOPIC = re.compile(r"/feeds/([a-z0-9-]{1,64})/current\.atom")


def public_base(settings: Settings) -> str:
    """`https://results.example`, without a slash at its end; "" if the server has no public address."""
    return settings.public_url.rstrip("/")


def base_url(caller: Caller, settings: Settings) -> str:
    """The address below which that caller finds the objects; "" if we cannot know it."""
    return public_base(settings) or own_origin(caller, settings)


def hubs_of(base: str, hubs: str) -> list[str]:
    """Our own hub, if `base` is our address, and those of the settings."""
    return [*([base + HUB_PATH] if base else []), *hubs.split()]


def topic_of(base: str, log: str) -> str:
    return f"{base}/{keys.feed_head(log)}"


def log_of(topic: str, bases: set[str]) -> str:
    """The log whose head has that address below one of `bases`; else Refused 404."""
    for base in bases - {""}:
        match = _TOPIC.fullmatch(topic.removeprefix(base)) if topic.startswith(base) else None
        if match:
            return match[1]
    known = " or ".join(topic_of(base, "<log>") for base in sorted(bases - {""})) or "none: set public_url"
    raise Refused("hub.topic", known, repr(topic[:200]), status=404)


def base_of(topic: str) -> str:
    """Our address in a topic that `log_of` has taken."""
    return topic[: topic.rindex("/feeds/")]
