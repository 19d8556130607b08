"""What a subscriber is sent: a head of the entries that it does not have yet, and nothing older. Pure but for reading.

WebSub (7) lets a hub leave out of a feed what was delivered before.
"""

import hmac
from dataclasses import dataclass

from feed.atom import Links, render_document, rendered_size
from feed.chain import chained_all
from feed.log import HeadState, LogReader
from feed.serve.topics import base_of, hubs_of, topic_of
from schemas.records import Entry, Subscription

MOST_ENTRIES = 1000
MOST_BYTES = 1 << 20
"""Of one delivery, about; a single entry may be larger."""


@dataclass(frozen=True)
class Content:
    """A document of a log's entries up to `last`, and the headers that go with it."""

    body: bytes
    headers: dict[str, str]
    last: int


def content_after(reader: LogReader, seq: int, topic: str, hubs: str) -> Content | None:
    """What follows `seq` in the log of that topic, as much as one delivery may hold; None if nothing does."""
    head = reader.head()
    if seq >= head.last_seq:
        return None
    in_head = seq + 1 >= head.first_seq
    following = head.entries[seq + 1 - head.first_seq :] if in_head else reader.entries_after(seq, MOST_ENTRIES)
    chosen = bounded(following)
    base = base_of(topic)
    body = render_document(
        reader.log,
        chosen,
        archive=False,
        previous=head.previous,
        previous_sha256=head.document.previous_sha256,
        chain=_chain_before(head, seq) if in_head else "",
        authority=head.document.authority,
        checkpoint=head.document.checkpoint if chosen[-1].seq == head.last_seq else None,
        links=Links(base, tuple(hubs_of(base, hubs))),
    )
    links = [(topic_of(base, reader.log), "self"), *((hub, "hub") for hub in hubs_of(base, hubs))]
    headers = {
        "Content-Type": "application/atom+xml",
        "Link": ", ".join(f'<{target}>; rel="{relation}"' for target, relation in links),
    }
    return Content(body, headers, chosen[-1].seq)


def bounded(entries: tuple[Entry, ...] | list[Entry]) -> list[Entry]:
    """As many of the first as one delivery may hold, at least one."""
    chosen: list[Entry] = []
    size_bytes = 0
    for entry in entries[:MOST_ENTRIES]:
        size_bytes += rendered_size(entry)
        if chosen and size_bytes > MOST_BYTES:
            break
        chosen.append(entry)
    return chosen


def signed_headers(content: Content, subscription: Subscription) -> dict[str, str]:
    """The headers of a delivery, signed if the subscriber gave a secret (7.1)."""
    if not subscription.secret:
        return content.headers
    digest = hmac.digest(subscription.secret.encode(), content.body, "sha256").hex()
    return content.headers | {"X-Hub-Signature": f"sha256={digest}"}


def _chain_before(head: HeadState, seq: int) -> str:
    """The chain after `seq`, which is in the head or just before it; "" for a log that has none yet."""
    chain = head.document.chain
    return chained_all(chain, head.entries[: seq + 1 - head.first_seq]) if chain else ""
