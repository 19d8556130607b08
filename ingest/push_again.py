"""What a push adds to trying again (`infra.again`): storage, to which the server has sent us, may be out of reach.

Refused        the server said no, or is no Runfeed: the same request fails again
Unavailable    ├── Unreachable   nobody answered
               ├── OutOfReach    storage did not, to which the server has sent us
               └── Busy          somebody answered "not now" (408, 429, 5xx), perhaps with Retry-After
"""

from infra.again import Busy, OnRetry, Unreachable, World, pause_seconds, persist, retry_after
from schemas.errors import Unavailable

__all__ = ["Busy", "OnRetry", "OutOfReach", "Unreachable", "World", "pause_seconds", "persist", "retry_after"]


class OutOfReach(Unavailable):
    """Storage, to which the server has sent us, cannot be reached from here or does not let us in."""
