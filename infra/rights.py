"""Which role may read, write and delete which keys: the one table behind all policies. Names no vendor.

Everybody may read the public bucket. In the private one a role has only what its code asks for, and a runner may only
put objects into its own folder of the inbox. What a role may write it may also read: a write whose answer got lost is
looked up. `tests/test_policies.py` lets the rooms' own code loose on a real server with exactly these rights.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PUBLIC = (
    "blobs/*",
    "submissions/*",
    "feeds/*",
    "withdrawals/*",
    "lake/*",
    "projects/*",
    "benchmarks/*",
    "snapshots/*",
)
"""What the public bucket is for."""

PROBE = "probe/*"
"""What writers try a store with when they start."""

INBOX = "inbox/"
REFUSED_INBOX = "inbox-refused/"


@dataclass(frozen=True)
class Grants:
    """Keys, as patterns, that may be read, created or replaced (and so read), and deleted."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()


@dataclass(frozen=True)
class Role:
    """What one kind of process needs of both buckets; `private` None: not even a listing."""

    public: Grants
    private: Grants | None


ROLES: Mapping[str, Role] = {
    "ingest": Role(
        Grants(PUBLIC, write=("blobs/*", "submissions/*", "projects/*", PROBE), delete=(PROBE,)),
        Grants(
            read=("inbox/*", "tokens/*", "runners/*", "projects/*", "sources/*"),
            write=(
                "inbox-refused/*",
                "uploads/*",
                "sources/*/state.json",
                "pending/submissions/*",
                "withdrawing/*",
                PROBE,
            ),
            delete=("inbox/*", "inbox-refused/*", "uploads/*", PROBE),
        ),
    ),
    "announce": Role(
        Grants(
            PUBLIC,
            write=("feeds/*", "lake/*", PROBE),
            delete=("blobs/*", "submissions/*", "feeds/*", "lake/*", "snapshots/*", PROBE),
        ),
        Grants(
            read=("swept/*", "uploads/*"),
            write=("checkpoints/*", "keys/*", "leases/*", "pending/outcomes-v*", PROBE),
            delete=("leases/*", "pending/*", "swept/*", "uploads/*", "withdrawing/*", PROBE),
        ),
    ),
    "work": Role(
        Grants(PUBLIC, write=("lake/*", PROBE), delete=(PROBE,)),
        Grants(write=("attempts/*", "pending/outcomes-v*", "withdrawing/*", PROBE), delete=("attempts/*", PROBE)),
    ),
    "hub": Role(
        Grants(PUBLIC, write=(PROBE,), delete=(PROBE,)),
        Grants(write=("hub/*", "leases/hub.json", PROBE), delete=("hub/*", PROBE)),
    ),
    "dashboard": Role(Grants(PUBLIC, write=("snapshots/*",), delete=("snapshots/*",)), None),
    "operator": Role(Grants(write=("*",), delete=("*",)), Grants(write=("*",), delete=("*",))),
}
"""`operator` is whoever runs the commands: token, project, benchmark, rebuild, doctor, policies."""
