"""Inputs changed a little where they have structure: values of JSON, tags of XML, lines of text, files of archives.

Bytes changed at random are mostly no JSON any more, and never get past the decoder. All chance comes from the `Random`
that is passed, so that the same one makes the same.
"""

import gzip
import io
import json
import re
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

from tests.any_bytes import places
from tests.fuzz.material import RAW, TEXTS, Material

Mutate = Callable[[bytes, int], bytes]
"""(data, most bytes) to other data."""

DAMAGED = (
    ValueError, EOFError, OSError, OverflowError, LookupError, RuntimeError, struct.error, zlib.error,
    zipfile.BadZipFile, tarfile.TarError,
)  # fmt: skip
"""What Python's own readers of archives raise."""

_LITERAL, _DOUBLE = "\ue000", "\ue001"  # private characters: stand for raw JSON, and for a key that is there already
_MARKS = re.compile(r'"\\ue000(\d{1,9})"|\\ue001')
_PIECES = re.compile(rb"<[^<>]{0,4000}>|[^<]{1,4000}")
_WORDS = re.compile(rb"""[A-Za-z_]\w*|-?\d[\d.]*(?:[eE][-+]?\d+)?|[^\w\s]|\s+""")


def changed(data: bytes, most: int, chance: Random, material: Material, bytewise: Mutate) -> bytes:
    """`data`, changed in one way or several, in at most `most` bytes."""
    for _ in range(3):
        made = _once(data, most, chance, material, bytewise)
        if len(made) <= most and made != data:
            return made
    return bytewise(data, most)[:most]


def changed_behind(data: bytes, most: int, chance: Random, material: Material, bytewise: Mutate) -> bytes:
    """As `changed`, behind a first byte that chooses something."""
    first = data[:1] if data and chance.random() < 0.9 else chance.randbytes(1)
    return first + changed(data[1:], most - 1, chance, material, bytewise)


def _once(data: bytes, most: int, chance: Random, material: Material, bytewise: Mutate) -> bytes:
    if chance.random() < 0.1:
        return bytewise(data, most)
    if chance.random() < 0.005:
        return _stretched(data, most, chance)
    if (packed := _in_packed(data, most, chance, material, bytewise)) is not None:
        return packed
    if (text := _in_json(data, chance, material)) is not None:
        return text
    if chance.random() < 0.3:
        return bytewise(data, most)
    if data.lstrip()[:1] == b"<":
        return _in_pieces(data, _PIECES.findall(data), b"", chance, material)
    if b"\n" in data and chance.random() < 0.7:
        return _in_pieces(data, data.split(b"\n"), b"\n", chance, material)
    return _in_pieces(data, _WORDS.findall(data[:20_000]), b"", chance, material)


def _stretched(data: bytes, most: int, chance: Random) -> bytes:
    """A piece of `data` as often as there is room, to show what takes time out of proportion."""
    start = chance.randint(0, len(data))
    piece = data[start : start + chance.choice([1, 2, 10, 100, 1_000])] or b" "
    return data[:start] + piece * ((most - len(data)) // len(piece)) + data[start:]


# --- archives and compression ---


def _in_packed(data: bytes, most: int, chance: Random, material: Material, bytewise: Mutate) -> bytes | None:
    """A change inside a gzip, zip or tar, which is packed again; None if `data` is none, or damaged."""
    try:
        if data[:2] == b"\x1f\x8b":
            inner = zlib.decompressobj(31).decompress(data, most)
            return gzip.compress(_once(inner, most, chance, material, bytewise), 1, mtime=0)
        if data[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(data)) as zip:
                found = [(one.filename, zip.open(one).read(most)) for one in zip.infolist()[:200]]
            return _as_zip(_in_members(found, most, chance, material, bytewise), chance)
        if data[257:262] == b"ustar":
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                found = [(one.name, _content(tar, one)) for one in tar.getmembers()[:200]]
            return _as_tar(_in_members(found, most, chance, material, bytewise), chance)
    except DAMAGED:
        return None
    return None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.isreg() else None
    return file.read() if file else b""


def _in_members(
    members: list[tuple[str, bytes]], most: int, chance: Random, material: Material, bytewise: Mutate
) -> list[tuple[str, bytes]]:
    members = members or [("a", b"{}")]
    at = chance.randrange(len(members))
    name, content = members[at]
    match chance.randrange(8):
        case 0:
            del members[at]
        case 1:
            members.insert(at, (chance.choice(members)[0], content))
        case 2:
            steps = name.split("/")
            steps[chance.randrange(len(steps))] = chance.choice([*material.words, *TEXTS[:-1]])
            members[at] = ("/".join(steps), content)
        case 3:
            other = chance.randrange(len(members))
            members[at], members[other] = (name, members[other][1]), (members[other][0], content)
        case _:
            members[at] = (name, _once(content, most, chance, material, bytewise))
    return members


def _as_zip(members: list[tuple[str, bytes]], chance: Random) -> bytes:
    made = io.BytesIO()
    packing = chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with (
        warnings.catch_warnings(action="ignore"),
        zipfile.ZipFile(made, "w", packing) as zip,
    ):  # a name that comes twice
        for name, content in members:
            info = zipfile.ZipInfo("a")
            info.filename = name.encode(errors="replace").decode()[:60_000]
            zip.writestr(info, content, zip.compression)
    return made.getvalue()


def _as_tar(members: list[tuple[str, bytes]], chance: Random) -> bytes:
    made = io.BytesIO()
    format = chance.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    with tarfile.open(fileobj=made, mode="w", format=format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


# --- JSON ---


def _in_json(data: bytes, chance: Random, material: Material) -> bytes | None:
    """A change inside JSON: a document, one line of several, or what `window.…` is set to; None if there is none."""
    start = data.lstrip()[:1]
    if data.startswith(b"window."):
        begin, end = data.find(b"{"), data.rfind(b"}") + 1
        inner = _in_document(data[begin:end], chance, material)
        return None if inner is None else data[:begin] + inner + data[end:]
    if start not in (b"{", b"["):
        return None
    if (document := _in_document(data, chance, material)) is not None:
        return document
    lines = data.split(b"\n")
    if len(lines) < 2 or chance.random() < 0.2:
        return None
    if chance.random() < 0.3:
        return _in_pieces(data, lines, b"\n", chance, material)
    at = chance.randrange(len(lines))
    line = _in_document(lines[at], chance, material, lines=True)
    return None if line is None else b"\n".join([*lines[:at], line, *lines[at + 1 :]])


def _in_document(data: bytes, chance: Random, material: Material, *, lines: bool = False) -> bytes | None:
    style = {"separators": (",", ":")} if chance.random() < 0.5 else {"indent": 1} if not lines else {}
    try:
        whole = {"": json.loads(data)}
        for _ in range(chance.choice([1, 1, 1, 2, 3, 5])):
            _change(whole, chance, material)
        text = json.dumps(whole[""], **style)  # type: ignore[arg-type]
    except (ValueError, RecursionError):
        return None
    return _MARKS.sub(lambda mark: RAW[int(mark[1]) % len(RAW)] if mark[1] else "", text).encode()


def _change(whole: dict[str, Any], chance: Random, material: Material) -> None:
    found = list(places(whole))
    container, key = chance.choice(found)
    top = container is whole
    value = container[key]
    match chance.randrange(14):
        case 0 | 1 if not top:
            del container[key]
        case 2 if isinstance(container, dict) and not top:
            container[material.key(chance)] = container.pop(key)
        case 3 | 4 if isinstance(value, dict):
            value[material.key(chance)] = material.value(chance)
        case 5 if isinstance(value, dict) and value:
            value[_DOUBLE + chance.choice(list(value))] = material.value(chance)
        case 6 if isinstance(value, list):
            piece = value[: chance.choice([1, 2, 100])] or [material.value(chance)]
            value[chance.randint(0, len(value)) :] = piece * chance.choice([1, 2, 20])
        case 7:
            other, at = chance.choice(found)
            if other is not whole:
                container[key] = json.loads(json.dumps(other[at]))
        case 8:
            container[key] = chance.choice([[value], {material.key(chance): value}, str(value)[:5_000]])
        case 9 if isinstance(value, str):
            container[key] = _text(value, chance, material)
        case 9 | 10 if isinstance(value, int | float):
            container[key] = chance.choice([-value, value + 1, value // 3, value * 1_000_000, value > 0])
        case 11:
            container[key] = f"{_LITERAL}{chance.randrange(len(RAW))}"
        case _:
            container[key] = material.value(chance)


def _text(text: str, chance: Random, material: Material) -> str:
    start = chance.randint(0, len(text))
    end = chance.choice([start, start, start + 1, start + 5, len(text)])
    return text[:start] + chance.choice([material.key(chance), chance.choice(TEXTS), ""]) + text[end:]


# --- other text ---


def _in_pieces(data: bytes, pieces: list[bytes], between: bytes, chance: Random, material: Material) -> bytes:
    """Lines, tags or words taken out, repeated, swapped, replaced or changed inside."""
    if not pieces:
        return data
    for _ in range(chance.choice([1, 1, 2, 4])):
        if not pieces:
            break
        at, other = chance.randrange(len(pieces)), chance.randrange(len(pieces))
        match chance.randrange(9):
            case 0:
                del pieces[at : at + chance.choice([1, 1, 2, 10])]
            case 1:
                pieces[other:other] = pieces[at : at + chance.choice([1, 2, 10])] * chance.choice([1, 1, 2, 50])
            case 2:
                pieces[at], pieces[other] = pieces[other], pieces[at]
            case 3:
                pieces.insert(at, material.word(chance))
            case 4:
                begin = chance.randint(0, len(pieces[at]))
                pieces[at] = pieces[at][:begin] + material.word(chance) + pieces[at][begin:]
            case _:
                words = _WORDS.findall(pieces[at])
                if words:
                    words[chance.randrange(len(words))] = chance.choice([material.word(chance), chance.choice(words)])
                    pieces[at] = b"".join(words)
    return between.join(pieces)


def simple_bytewise(chance: Random) -> Mutate:
    """Bytes changed without any guide, where there is no libFuzzer."""

    def mutate(data: bytes, most: int) -> bytes:
        at = chance.randint(0, len(data))
        put = chance.choice([b"", chance.randbytes(1), chance.randbytes(8), data[at : at + 20] * 2])
        return (data[:at] + put + data[chance.choice([at, at + 1, at + len(put)]) :])[:most]

    return mutate
