"""What a blob looks like before anyone knows its format: the structure that formats claim by. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from processor.reading.archive import archive_kind, open_archive
from processor.reading.decode import Buffer, DecodeLimits, mended_surrogates, quoted_constants
from schemas.errors import Rejected
from schemas.problems import problem_of

HEAD_BYTES = 4096

_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_XML_HEAD_BYTES = 1 << 16
_XML_BEFORE_ROOT = ((b"<?", b"?>"), (b"<!--", b"-->"), (b"<!DOCTYPE", b">"))
_XML_START = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)[\s/>]")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Shape:
    """`kind` and what goes with it.

    `object`: `keys` are the top-level keys with their undecoded values. `array` and `lines` (NDJSON): the keys of the
    first element, empty if that is no object; `length` counts elements of an array. `xml`: `root` is the root
    element's local name. `archive` (zip, tar): `names` are its members' paths. `text`: only `head` and `data`.
    """

    kind: Literal["object", "array", "lines", "xml", "archive", "text"]
    data: Buffer
    """All of the decoded content, for text formats whose mark may stand anywhere."""
    head: bytes
    keys: Mapping[str, msgspec.Raw] = field(default_factory=dict)
    length: int = 0
    root: str = ""
    names: tuple[str, ...] = ()


def shape_of(data: Buffer, limits: DecodeLimits = DecodeLimits()) -> Shape:  # noqa: B008 - immutable
    """The shape of decoded bytes. Raises Rejected for text that starts like JSON and is not, and for a bad archive."""
    head = bytes(data[:HEAD_BYTES])
    if archive_kind(data):
        return Shape("archive", data, head, names=open_archive(data, limits).names)
    start = head.lstrip()[:1]
    if start in (b"{", b"["):
        return _json_shape(data, head, start)
    if start == b"<":
        return Shape("xml", data, head, root=_xml_root(bytes(data[:_XML_HEAD_BYTES])))
    if head[:2] in _UTF_16:
        text = bytes(data[:_XML_HEAD_BYTES]).decode("utf-16", "ignore").lstrip()
        if text[:1] == "<":
            return Shape("xml", data, head, root=_xml_root(text.encode("utf-8", "ignore")))
    return Shape("text", data, head)


# --- JSON ---


def _json_shape(data: Buffer, head: bytes, start: bytes) -> Shape:
    try:
        return _strict_json_shape(data, head, start)
    except _DECODE_ERRORS as error:
        mended = quoted_constants(mended_surrogates(data)[0])
        if mended is data:
            raise Rejected([problem_of(error, data=data)]) from error
        try:
            return _strict_json_shape(mended, head, start)
        except _DECODE_ERRORS:
            raise Rejected([problem_of(error, data=data)]) from error


def _strict_json_shape(data: Buffer, head: bytes, start: bytes) -> Shape:
    if start == b"[":
        elements = msgspec.json.decode(data, type=list[msgspec.Raw])
        keys = _keys(elements[0]) if elements else None
        return Shape("array", data, head, keys=keys or {}, length=len(elements))
    try:
        return Shape("object", data, head, keys=msgspec.json.decode(data, type=dict[str, msgspec.Raw]))
    except msgspec.DecodeError as error:
        text = bytes(data).lstrip()
        keys = _keys(text[: text.find(b"\n")]) if "trailing characters" in str(error) else None
        if keys is None:
            raise
        return Shape("lines", data, head, keys=keys)


def _keys(element: Buffer | msgspec.Raw) -> dict[str, msgspec.Raw] | None:
    try:
        return msgspec.json.decode(element, type=dict[str, msgspec.Raw])
    except _DECODE_ERRORS:
        return None


# --- XML ---


def _xml_root(text: bytes) -> str:
    """The local name of the first element, or empty. Each byte is looked at once, whatever the text."""
    at = 0
    while (at := text.find(b"<", at)) >= 0:
        for opening, closing in _XML_BEFORE_ROOT:
            if text.startswith(opening, at):
                end = text.find(closing, at)
                if opening == b"<!DOCTYPE" and text.find(b"[", at, end) >= 0:
                    end = text.find(b"]", at)
                    end = text.find(b">", end) if end >= 0 else end
                if end < 0:
                    return ""
                at = end + len(closing)
                break
        else:
            match = _XML_START.match(text, at)
            return match[1].decode() if match else ""
    return ""
