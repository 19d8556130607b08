"""Which of the waiting markers a commit announces. Pure.

Lanes (projects) take turns, the oldest of each first, so that a flood in one cannot starve the others. A commit is
bounded in entries, in their bytes and in the bytes of their blobs. An entry of a large blob, or a withdrawal, commits
alone, so that its batch is its own: if it cannot be first, its lane is held back and goes first in the next commit.
"""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from itertools import accumulate, takewhile

from feed.announceable import Announceable
from feed.atom import rendered_size
from feed.log import MAX_PAGE_ENTRIES
from schemas.keys import Marker
from schemas.records import Entry

MAX_COMMIT_ENTRIES = 1000
MAX_COMMIT_BYTES = 1536 << 10
MAX_PAGE_BYTES = 1536 << 10
LARGE_BYTES = 8 << 20
"""Of the blobs that one commit announces together, so that a batch's memory is bounded."""

Lanes = dict[str, list[Marker]]


def by_lane(waiting: Iterable[Marker], start: str) -> Lanes:
    """Markers by lane, each lane in the order given; lanes in alphabetical order from `start` on, round to it."""
    lanes: Lanes = {}
    for marker in waiting:
        lanes.setdefault(marker.lane, []).append(marker)
    return {lane: lanes[lane] for lane in sorted(lanes, key=lambda lane: (lane < start, lane))}


def turns(lanes: Lanes, held: Set[str]) -> Iterator[Marker]:
    """One marker of each lane, then the second of each, and so on; lanes that get into `held` meanwhile end there."""
    queues = [iter(markers) for markers in lanes.values()]
    while queues:
        going_on = []
        for queue in queues:
            marker = next(queue, None)
            if marker and marker.lane not in held:
                yield marker
                going_on.append(queue)
        queues = going_on


@dataclass
class Choice:
    """A commit in the making: `offer` it markers in `turns` until it is `full`."""

    markers: list[Marker] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    """Beside `markers`, without seq."""
    stale: list[Marker] = field(default_factory=list)
    """Markers that another attempt has overtaken: the object records another nonce."""
    held: set[str] = field(default_factory=set)
    full: bool = False
    next_lane: str = ""
    """Where the next commit should start."""
    _bytes: int = 0
    _blob_bytes: int = 0
    _ids: set[str] = field(default_factory=set)

    def offer(self, marker: Marker, found: Announceable | None) -> None:
        """Take `found`, the object of `marker`, if the commit has room and its lane's turn has come."""
        if found is None or self.full or marker.lane in self.held or marker.id in self._ids:
            return
        if found.nonce != marker.nonce:
            self.stale.append(marker)
            return
        # A withdrawal is processed in another way than submissions, so it has a batch of its own too.
        large = found.entry.size_bytes > LARGE_BYTES or found.entry.withdraws != ""
        size = rendered_size(found.entry)
        if self.entries and large:
            if not self.held:
                self.next_lane = marker.lane
            self.held.add(marker.lane)
            return
        blob_bytes = self._blob_bytes + found.entry.size_bytes
        if self.entries and (self._bytes + size > MAX_COMMIT_BYTES or blob_bytes > LARGE_BYTES):
            self.full = True
            return
        self.markers.append(marker)
        self.entries.append(found.entry)
        self._ids.add(marker.id)
        self._bytes += size
        self._blob_bytes = blob_bytes
        self.full = large or len(self.entries) == MAX_COMMIT_ENTRIES
        if not self.held:
            self.next_lane = marker.lane + "\0"  # sorts just behind this lane: the others first


def entries_to_page(entries: tuple[Entry, ...], marked: Set[str], keep: int) -> tuple[Entry, ...]:
    """The oldest of the head's `entries` that move to a page now: none while there are fewer than twice `keep`.

    An entry whose id is among `marked` stays, and so do those after it: an announcer that finds the marker must find
    the entry in the head.
    """
    if len(entries) < 2 * keep:
        return ()
    movable = entries[: min(len(entries) - keep, MAX_PAGE_ENTRIES)]
    sizes = accumulate(map(rendered_size, movable))
    bounded = [
        entry for at, (entry, size) in enumerate(zip(movable, sizes, strict=True)) if not at or size <= MAX_PAGE_BYTES
    ]
    return tuple(takewhile(lambda entry: entry.id not in marked, bounded))
