"""One object of the inbox: who dropped it, what it says of itself, and its way to a submission.

    open the version → describe → hash → copy exactly that version → marker → submission → remove that version

From the copy on it is `ingest.admit`, as for every upload. A death anywhere leaves the object where it is; taking it
again makes the same submission id, since nothing of the way counts in it, so nothing is lost and nothing is doubled.
The same holds for two processes at one object. What its owner replaces meanwhile is another version, and waits.
"""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import anyio
import msgspec

from infra.bucket import Buckets
from infra.inbox import PREFIX, Arrival, Inbox
from infra.settings import Settings
from ingest.access import check_rules, rules_for
from ingest.admit import Body, admit
from ingest.describe import (
    MAX_CONTEXT_BYTES,
    Description,
    checked_description,
    described_by_metadata,
    parsed_description,
)
from ingest.receive import Received
from ingest.runners import check_runner_scope, default_project, trust_in
from schemas import keys
from schemas.errors import Refused, SwapLost
from schemas.records import Blob, InboxRefusal, Problem, ProjectRules, Receipt, Runner, Trust

SIDECAR = ".context.json"
LARGEST_COPY_BYTES = 5 << 30
"""S3 copies no more at once; a larger one passes through ingest."""

_RULES_SECONDS = 1.0  # a change of a project's rules holds after this time
_RULES_KEPT = 1000
_LONGEST_KEY_BYTES = 1024
_NO_TYPE = ("", "binary/octet-stream", "application/octet-stream")


def runner_of(key: str) -> str:
    """The runner below whose name the object `key` lies; empty if it is no file of one. Pure.

    Steps `.` and `..` are names like any other to S3, but a client on the way may walk them, out of the inbox.
    """
    runner, _, name = key.removeprefix(PREFIX).partition("/")
    climbs = any(step in (".", "..") for step in key.split("/"))
    return runner if key.startswith(PREFIX) and name and not name.endswith("/") and not climbs else ""


def is_sidecar(key: str) -> bool:
    return key.endswith(SIDECAR)


def refusal_key(arrival: Arrival) -> str:
    """Where it is written that this version is not taken."""
    version = f"{arrival.key}\n{arrival.etag}\n{arrival.modified.isoformat()}"
    return keys.inbox_refusal(runner_of(arrival.key), version)


@dataclass(frozen=True)
class Admission:
    """What admits files that are in storage already. `spool` is for what storage cannot copy by itself."""

    buckets: Buckets
    settings: Settings
    spool: Path
    clock: Callable[[], datetime]
    _rules: dict[str, tuple[float, ProjectRules]] = field(default_factory=dict)

    async def take(self, inbox: Inbox, runner: Runner, key: str) -> Receipt | None:
        """Admit the object `key` and remove it; None if it is gone, is another by now, or is refused (on record).

        A refused object stays, but for one whose bytes are withdrawn.
        """
        try:
            async with inbox.open(key) as (arrival, pieces):
                try:
                    receipt, sidecar = await self._described_and_admitted(inbox, runner, arrival, pieces)
                except Refused as error:
                    await anyio.to_thread.run_sync(self._refuse, arrival, error)
                    if error.status == 410:
                        await inbox.remove(arrival)
                    return None
        except (FileNotFoundError, SwapLost):
            return None
        await inbox.remove(arrival)  # before the sidecar: the file must never be seen without it
        if sidecar is not None:
            await inbox.remove(sidecar)
        return receipt

    async def _described_and_admitted(
        self, inbox: Inbox, runner: Runner, arrival: Arrival, pieces: AsyncIterator[bytes]
    ) -> tuple[Receipt, Arrival | None]:
        project = default_project(runner)
        content_type = "" if arrival.content_type in _NO_TYPE else arrival.content_type
        description = described_by_metadata(arrival.metadata, content_type, project=project)
        sidecar = None
        if description is None:
            sidecar, description = await _sidecar(inbox, arrival, project)
        check_runner_scope(runner, description.project)
        receipt = await self.admit(inbox, arrival, pieces, description=description, trust=trust_in(runner))
        return receipt, sidecar

    async def admit(
        self,
        inbox: Inbox,
        arrival: Arrival,
        pieces: AsyncIterator[bytes],
        *,
        description: Description,
        trust: Trust,
        sha256: str = "",
    ) -> Receipt:
        """Hash exactly this version, copy it to its blob and admit it.

        Refused 422 if a `sha256` is given that is not the digest; SwapLost or FileNotFoundError if the version is gone.
        """
        limit = await anyio.to_thread.run_sync(self._limit, description.project, trust)
        if arrival.size_bytes > limit:
            raise Refused("file", f"at most {limit:,} bytes", f"{arrival.size_bytes:,}", status=413)
        copies = inbox.copies and arrival.size_bytes <= LARGEST_COPY_BYTES
        async with Received(None if copies else self.spool, limit) as received:
            async for piece in pieces:
                await received.add(piece)
            if sha256 and sha256 != received.sha256:
                raise Refused("file", f"sha256 {sha256}", received.sha256, status=422)

            def copy(key: str) -> None:
                anyio.from_thread.run(inbox.copy, arrival, key)

            body: Body = copy if copies else received.body()
            return await anyio.to_thread.run_sync(self._admit, body, received, description, trust)

    def _admit(self, body: Body, received: Received, description: Description, trust: Trust) -> Receipt:
        blob = Blob(
            sha256=received.sha256,
            size_bytes=received.size_bytes,
            media_type=description.media_type or "application/octet-stream",
            encoding=received.encoding,
        )
        return admit(
            self.buckets,
            body,
            blob,
            project=description.project,
            format=description.format,
            context=description.context,
            trust=trust,
            now=self.clock(),
        )

    def _limit(self, project: str, trust: Trust) -> int:
        known = self._rules.get(project)
        if known is None or known[0] < time.monotonic():
            if len(self._rules) >= _RULES_KEPT:
                self._rules.clear()
            rules = rules_for(self.buckets, project, trust, self.clock())
            known = self._rules[project] = time.monotonic() + _RULES_SECONDS, rules
        rules = known[1]
        check_rules(rules, trust)
        return min(self.settings.max_blob_bytes, rules.max_blob_bytes or self.settings.max_blob_bytes)

    def _refuse(self, arrival: Arrival, error: Refused) -> None:
        """Write down why. The object stays, for its owner and the operator to see, and is not looked at again."""
        refusal = InboxRefusal(
            key=arrival.key,
            etag=arrival.etag,
            modified=arrival.modified,
            size_bytes=arrival.size_bytes,
            problem=Problem(where=error.where, expected=error.expected, found=error.found),
            refused=self.clock(),
        )
        try:
            self.buckets.private.create(refusal_key(arrival), msgspec.json.encode(refusal))
        except FileExistsError:
            return


async def _sidecar(inbox: Inbox, arrival: Arrival, project: str) -> tuple[Arrival | None, Description]:
    """The description in the file beside `arrival`, and that file; the default of all where there is none."""
    key = arrival.key + SIDECAR
    if len(key.encode()) <= _LONGEST_KEY_BYTES:
        try:
            async with inbox.open(key) as (sidecar, pieces):
                body = b""
                async for piece in pieces:
                    body += piece
                    if len(body) > MAX_CONTEXT_BYTES:
                        break
        except FileNotFoundError:
            pass
        else:
            return sidecar, parsed_description(body, project=project, where="sidecar")
    # Somebody else may have taken the file and then its sidecar since we opened the file. A copy finds that out by
    # itself; without one we look.
    if not inbox.copies:
        async with inbox.open(arrival.key) as (again, _):
            if again.etag != arrival.etag:
                raise SwapLost(f"{arrival.key}: replaced meanwhile")
    return None, checked_description(Description(project=project))
