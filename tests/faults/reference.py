"""The undisturbed run: the same submissions through the same code, in a folder, a step at a time, by real children."""

import sys
from pathlib import Path

from infra.bucket import Bucket
from ingest.admit import admit
from processor.batch import Processor
from processor.children import Children
from processor.reading.decode import DecodeLimits
from schemas.records import Blob
from tests.chain import Chain, load
from tests.faults.mixed_files import Push, benchmarks
from tests.faults.topology import HOSTILE


def undisturbed(folder: Path, pushes: list[Push]) -> Chain:
    """A chain that has gone all the way with these pushes, dashboard included, and its folder."""
    chain = Chain(folder)
    register_benchmarks(chain.buckets.public)
    sys.path.insert(0, str(HOSTILE))  # children get their path from here
    try:
        with Children(2, 1 << 30) as children:
            chain.processor = Processor(chain.buckets, chain.submissions, children, DecodeLimits(), chain.clock)
            for push in pushes:
                _admit(chain, push)
            while list(chain.private.list("pending/")):
                chain.process(chain.announce())
                chain.announce_outcomes()
    finally:
        sys.path.remove(str(HOSTILE))
    with chain.dashboard() as dashboard:
        load(dashboard)
    return chain


def register_benchmarks(public: Bucket) -> None:
    for key, record in benchmarks().items():
        public.create(key, record)


def _admit(chain: Chain, push: Push) -> None:
    chain.pass_time(milliseconds=1)
    blob = Blob(sha256=push.sha256, size_bytes=len(push.body))
    said = {"project": push.project, "format": push.format, "context": push.context, "trust": push.trust}
    assert admit(chain.buckets, push.body, blob, **said, now=chain.now).id == push.id
