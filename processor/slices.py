"""A big JSON document cut into slices: each a small document of the same format, read by the same code, in any child.

Most of a big report is one array at its top level. A slice is the document with only some elements of that array, so a
format that says which array that is (`Format.long_array`) reads slices as it reads everything. The cut is found by
looking at the document's two ends and near each cut; that it is right is proved afterwards, because the document is
valid JSON with these elements if and only if every slice is a valid document. Where a slice is none, the cut was wrong
or the document is: then it is read whole.
"""

import re
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

SLICE_BYTES = 2 << 20
"""About one slice's size; what a child needs in memory is a few times this, however big the file."""

_HEAD_BYTES = 1 << 16
_TAIL_BYTES = 1 << 18
_SEARCH_BYTES = 1 << 16
_LONGEST_ELEMENT = 32 << 20
_ENDS_TRIED = 5_000
_AROUND_BYTES = 200
_SEPARATOR = re.compile(rb"(,\s*)\{\s*\Z")
_COLON = re.compile(rb"\s*:")
_ENDING = re.compile(rb'\](?=\s*(?:,\s*"[^"\\]{0,200}"\s*:|\}\s*$))')


@dataclass(frozen=True)
class Cut:
    """`bounds` are the (start, stop) of each slice's elements in the file, `stop` before the comma or bracket."""

    array: str
    prefix: bytes
    suffix: bytes
    bounds: list[tuple[int, int]]

    def document(self, file: BinaryIO, number: int) -> bytes:
        """The slice as a document of its own."""
        return self.prefix + _read(file, *self.bounds[number]) + self.suffix


def sliced_array(file: BinaryIO, start: int, stop: int) -> memoryview:
    """The elements from byte `start` to byte `stop` as an array of their own."""
    array = bytearray(stop - start + 2)
    array[0], array[-1] = b"[]"
    file.seek(start)
    if file.readinto(memoryview(array)[1:-1]) != stop - start:  # type: ignore[attr-defined]
        raise OSError("the file is shorter than it was")
    return memoryview(array)


def cut(file: BinaryIO, size: int, arrays: list[str], slice_bytes: int = SLICE_BYTES) -> Cut | None:
    """How to read a document of `size` bytes in slices of about `slice_bytes`, along the first of `arrays` that it has.

    None where it must be read whole: another layout, no JSON, an end that is not at the end.
    """
    names = b"|".join(re.escape(name.encode()) for name in arrays)
    head = _read(file, 0, _HEAD_BYTES)
    found = re.search(rb'"(' + names + rb')"\s*:\s*\[\s*(?=\{\s*("[^"\\]{1,80}")\s*:)', head)
    if not found:
        return None
    name, first_key = found[1], found[2]
    prefix = head[: found.end()]
    suffix_at = max(found.end(), size - _TAIL_BYTES)
    tail = _read(file, suffix_at, size)
    end = _end_of_array(tail)
    if end is None or not _adds_only(prefix + b"]}", name, array_too=True):
        return None
    if not _adds_only(b"{" + tail[end + 1 :].lstrip().removeprefix(b","), name, array_too=False):
        return None
    starts, stops = [found.end()], []
    last = suffix_at + end
    while (target := starts[-1] + slice_bytes) < last:
        place = _search(file, first_key, target, min(last, target + _LONGEST_ELEMENT))
        if place is None:
            break
        stops.append(place[0])
        starts.append(place[1])
    stops.append(last)
    if max(stop - start for start, stop in zip(starts, stops, strict=True)) > _LONGEST_ELEMENT + slice_bytes:
        return None
    return Cut(name.decode(), prefix, tail[end:], list(zip(starts, stops, strict=True)))


def _read(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(stop - start)


def _end_of_array(tail: bytes) -> int | None:
    """Where in `tail` the array's closing bracket is: the first one after which the document closes."""
    for tried, ending in enumerate(_ENDING.finditer(tail)):
        if tried >= _ENDS_TRIED:
            return None
        try:
            msgspec.json.decode(b'{"":[' + tail[ending.start() :], type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        return ending.start()
    return None


def _adds_only(document: bytes, name: bytes, *, array_too: bool) -> bool:
    """Whether `document` is a JSON object that has the array once (`array_too`) or not at all, however it is spelt."""
    try:
        keys = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return (name.decode() in keys) == array_too and document.count(b'"' + name + b'"') == int(array_too)


def _search(file: BinaryIO, first_key: bytes, start: int, stop: int) -> tuple[int, int] | None:
    """(start, end) of the first separator that begins between `start` and `stop`: a comma before an object that begins
    with `first_key`. That key is looked for, since commas are everywhere."""
    while start < stop:
        text, at = _read(file, start, min(stop, start + _SEARCH_BYTES) + _AROUND_BYTES), -1
        while (at := text.find(first_key, at + 1)) >= 0:
            found = _SEPARATOR.search(text, max(0, at - _AROUND_BYTES), at)
            if found and _COLON.match(text, at + len(first_key)) and start + found.end(1) < stop:
                return start + found.start(), start + found.end(1)
        start += _SEARCH_BYTES
    return None
