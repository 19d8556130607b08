"""A source that is a Runfeed log: followed by seq, so that nothing is missed and nothing asked for twice.

Each entry names its submission, so what was said of the file comes with it. Who published it first stays on record
whatever way it comes by, and is part of the submission's identity; that ends the round of those who follow each other.
"""

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

import msgspec

from feed.atom import Document, feed_id
from feed.chain import START, chained, chained_all
from feed.log import LogReader
from feed.remote.asking import Asker
from feed.remote.bucket import RemoteBucket
from feed.signing import AUTHORITY_DIGITS, check_signature
from feed.withdrawals import check_not_withdrawn
from infra.bucket import Bucket
from infra.fetch import unwanted
from ingest.admit import known_receipt
from ingest.benchmarks import resolved_format
from ingest.describe import Description, checked_description
from ingest.source.progress import Progress
from ingest.source.take import Taker, Unreached, Wanted
from schemas import keys
from schemas.errors import Refused, Unavailable
from schemas.records import Entry, Origin, Submission, Trust, submission_id

ENTRIES_AT_A_TIME = 200
MAX_RECORD_BYTES = 1 << 20

_LONGEST_ID = 500


def log_id(document: Document, url: str) -> str:
    """What tells the log of this head from all others: its Atom id. Logs of earlier releases share one; then it is made
    of the key that signs their checkpoint, or else is the address."""
    authority = document.authority or (document.checkpoint.key[:AUTHORITY_DIGITS] if document.checkpoint else "")
    return feed_id(document.log, authority) if authority else url


def own_log_id(public: Bucket) -> str:
    """The same of our own submissions log; "" while there is none."""
    head = LogReader(public, keys.SUBMISSIONS_LOG).head()
    return log_id(head.document, "") if head.etag else ""


@dataclass(frozen=True)
class LogSource:
    """A look at the log whose head, `document`, was found at `url`."""

    progress: Progress
    taker: Taker
    document: Document
    url: str

    def work_off(self) -> None:
        """Take all entries behind the cursor. Raises Refused for a log that is not what it was or should be."""
        state = self.progress.state
        if self.document.log != keys.SUBMISSIONS_LOG or not urlsplit(self.url).path.endswith(self._head_path):
            expected = f"the head of a submissions log, …{self._head_path}"
            raise Refused(self.url, expected, f"log {self.document.log}", status=422)
        feed = log_id(self.document, self.progress.source.url)
        named_by_address = state.feed == self.progress.source.url and not self.document.authority
        if state.feed not in ("", feed) and not named_by_address:  # which an upgrade there changes
            raise Refused(self.url, f"the log {state.feed}", feed, status=422)
        self.progress.change(kind="log", feed=feed, chain=state.chain or START)
        own = own_log_id(self.taker.buckets.public)
        last = self._checked_head()
        while self.progress.state.seq < last:
            for entry in self._entries_after(self.progress.state.seq):
                self._work_off(entry, own)
                seq, chain = entry.seq, chained(self.progress.state.chain, entry)
                self.progress.change(seq=seq, chain=chain)
                self._check_level()
                self.progress.step()

    @property
    def _head_path(self) -> str:
        return f"/{keys.feed_head(self.document.log)}"

    @property
    def _base(self) -> str:
        """Where the keys of the source's bucket begin."""
        return self.url[: self.url.rindex(self._head_path)]

    # --- the log ---

    def _checked_head(self) -> int:
        """The log's last seq, after a look at what it says of itself: dense, not shorter, signed as before."""
        state, document = self.progress.state, self.document
        seqs = [entry.seq for entry in document.entries]
        if seqs != list(range(seqs[0], seqs[0] + len(seqs)) if seqs else []):
            raise Refused(self.url, "entries without gaps", "one with some")
        last = seqs[-1] if seqs else 0
        if last < state.seq:
            raise Refused(self.url, f"a log of at least {state.seq} entries, as there were", str(last))
        checkpoint = document.checkpoint
        key = checkpoint.key if checkpoint else ""
        expected = self.progress.source.key or state.key or document.authority
        if not key.startswith(expected):
            raise Refused(self.url, f"a checkpoint signed with the key {expected[:32]}…", key or "none")
        if checkpoint is not None:
            check_signature(checkpoint)
            if checkpoint.seq != last:
                raise Refused(self.url, f"a checkpoint of its last entry, {last}", str(checkpoint.seq))
            if checkpoint.chain != chained_all(document.chain, document.entries):
                raise Refused(self.url, "the entries that its checkpoint signs", "others")
            self.progress.change(key=key)
        if document.chain and seqs and seqs[0] <= state.seq + 1:
            seen = document.entries[: state.seq + 1 - seqs[0]]
            self._check_past(state.seq, chained_all(document.chain, seen))
        return last

    def _check_level(self) -> None:
        """Whether the past that we have read is the one that the checkpoint signs, where we are level with it."""
        checkpoint = self.document.checkpoint
        if checkpoint is not None and checkpoint.seq == self.progress.state.seq:
            self._check_past(checkpoint.seq, checkpoint.chain)

    def _check_past(self, seq: int, chain: str) -> None:
        if chain != self.progress.state.chain:
            raise Refused(self.url, f"the entries 1 to {seq} that we have seen", "a log with another past")

    def _entries_after(self, seq: int) -> list[Entry]:
        """Dense, not empty."""
        held = self.document.entries
        if held[0].seq <= seq + 1:
            return list(held[seq + 1 - held[0].seq :])
        try:
            found = self._reader.entries_after(seq, ENTRIES_AT_A_TIME)
        except FileNotFoundError as error:
            raise Refused(self.url, f"the page that holds entry {seq + 1}", f"no {error}") from error
        except Unavailable as error:
            raise Unreached(error) from error
        if not found:
            raise Unreached(f"{self.url}: expected entry {seq + 1}, found a shorter log than a moment ago")
        return found

    @cached_property
    def _reader(self) -> LogReader:
        # No patience: the pause until the next look is ours to choose.
        fetcher = self.taker.fetcher
        asker = Asker(transport=fetcher.transport, user_agent=fetcher.user_agent, patience_seconds=0)
        return LogReader(RemoteBucket(self._base, asker), self.document.log)

    # --- one entry ---

    def _work_off(self, entry: Entry, own: str) -> None:
        url = f"{self._base}/{keys.blob(entry.sha256)}"
        try:
            try:
                if entry.withdraws:
                    self._note_withdrawal(entry)
                elif self.progress.source.only and entry.project not in self.progress.source.only:
                    self.progress.skipped(entry.id, f"of project {entry.project}")
                else:
                    self._take(entry, url, own)
            except Refused as error:
                if error.status in (403, 404, 410) and self._is_withdrawn_there(entry.sha256):
                    self.progress.skipped(entry.id, "withdrawn there")
                else:
                    self.progress.refused(entry.id, url, error)
        except Unreached as error:
            if self.progress.may_do_later(str(entry.seq), entry.id, url, error):
                raise
        self.progress.forget_tries(str(entry.seq))

    def _take(self, entry: Entry, url: str, own: str) -> None:
        submission = self._submission(entry)
        first = submission.origin or Origin(feed=self.progress.state.feed, id=f"{self._feed_id}:{entry.id}")
        if first.feed == own:
            self.progress.skipped(entry.id, "first published here")
            return
        if max(len(first.feed), len(first.id)) > _LONGEST_ID or not first.feed:
            raise Refused("origin", f"ids of 1 to {_LONGEST_ID} characters", "others", status=422)
        source, trust = self.progress.source, Trust(kind="source", name=first.feed)
        description = checked_description(
            Description(
                project=source.project or submission.project,
                format=source.format if submission.format == "auto" else submission.format,
                media_type=submission.blob.media_type,
                context=submission.context,
            )
        )
        public = self.taker.buckets.public
        identity = submission_id(
            sha256=entry.sha256,
            project=description.project,
            format=resolved_format(public, description.project, description.format),
            context=description.context,
            trust=trust,
        )
        if receipt := known_receipt(public, identity):
            self.progress.knew(entry.id, receipt)
            return
        check_not_withdrawn(public, entry.sha256)
        wanted = Wanted(
            url=url,
            description=description,
            trust=trust,
            origin=Origin(feed=first.feed, id=first.id, url=url),
            max_bytes=source.max_bytes,
            sha256=entry.sha256,
            size_bytes=entry.size_bytes,
        )
        self.progress.took(entry.id, self.taker.take(wanted))

    @property
    def _feed_id(self) -> str:
        return feed_id(self.document.log, self.document.authority)

    def _submission(self, entry: Entry) -> Submission:
        """What the source says of the file."""
        where = f"entry {entry.seq}"
        if entry.key != keys.blob(entry.sha256):
            raise Refused(f"{where} enclosure", keys.blob(entry.sha256), entry.key[:200], status=422)
        key = keys.submission(keys.checked_sha256(entry.id, f"{where} id"))
        body = self._asked(f"{self._base}/{key}")
        try:
            submission = msgspec.json.decode(body, type=Submission)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(f"{where} {key}", "the JSON of a submission", str(error), status=422) from error
        if (submission.id, submission.blob.sha256) != (entry.id, entry.sha256):
            raise Refused(f"{where} {key}", "the submission that the entry announces", "another", status=422)
        return submission

    def _asked(self, url: str) -> bytes:
        try:
            answer = self.taker.fetcher.get(url, max_bytes=MAX_RECORD_BYTES)
        except Unavailable as error:
            raise Unreached(error) from error
        if answer.status == 200:
            return answer.body
        unusable = unwanted(url, answer.status, answer.headers)
        raise unusable if isinstance(unusable, Refused) else Unreached(unusable)

    def _is_withdrawn_there(self, sha256: str) -> bool:
        try:
            self._asked(f"{self._base}/{keys.withdrawal(sha256)}")
        except Refused:
            return False
        return True

    def _note_withdrawal(self, entry: Entry) -> None:
        """A withdrawal there withdraws nothing here; that is for whoever answers for this installation to decide."""
        public = self.taker.buckets.public
        try:
            public.head(keys.blob(entry.withdraws))
        except FileNotFoundError:
            self.progress.skipped(entry.id, "withdrawn there, not here")
            return
        reason = Refused(f"blob {entry.withdraws}", "a blob that its publisher still stands by",
                         f"one withdrawn there: {entry.summary} (here: runfeed withdraw)")  # fmt: skip
        self.progress.change(skipped=self.progress.state.skipped + 1)
        self.progress.note("withdrawn", entry.id, f"{self._base}/{entry.key}", reason)
