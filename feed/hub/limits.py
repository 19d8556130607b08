"""How many requests a client may make of the hub: each makes us ask somebody else, so nobody gets to do that freely."""

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from infra.addresses import PRIVATE, special_kind
from infra.local import Caller
from schemas.errors import Refused

PER_SECOND = 1.0
AT_ONCE = 60.0
_CLIENTS = 10_000


class Allowances:
    """A token bucket per client: `at_once` requests, then `per_second`. Of many clients the longest silent one goes.
    Not for several threads.
    """

    def __init__(
        self,
        *,
        per_second: float = PER_SECOND,
        at_once: float = AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: Caller) -> None:
        """One request; Refused 429 if that is one too many."""
        client, now = client_of(caller), self._clock()
        left, since = self._left.pop(client, (self._at_once, now))
        left = min(self._at_once, left + (now - since) * self._per_second)
        self._left[client] = max(left - 1, 0.0) if left >= 1 else left, now
        if len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        if left < 1:
            raise Refused("hub", f"at most {self._per_second:g} requests a second", "more", status=429)


def client_of(caller: Caller) -> str:
    """Its address, or the network of 64 bits that one IPv6 client has. Of a proxy in our own network it is the one
    that the proxy has added."""
    address = caller.address
    if special_kind(address) in PRIVATE:
        address = caller.headers.get("x-forwarded-for", "").rpartition(",")[2].strip() or address
    try:
        parsed = ip_address(address)
    except ValueError:
        return caller.address
    if isinstance(parsed, IPv6Address):
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed)
