"""What a blob looks like before anyone knows its format: the structure that formats claim by. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from processor.decode import Buffer, problem_of, quoted_constants
from schemas.errors import Rejected

HEAD_BYTES = 4096

_XML_ROOT = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)[\s/>]")
_XML_NOISE = re.compile(rb"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>", re.DOTALL)


@dataclass(frozen=True)
class Shape:
    """`kind` and what goes with it.

    `object`: `keys` are the top-level keys with their undecoded values. `array` and `lines` (NDJSON): the keys of the
    first element, empty if that is no object; `length` counts elements of an array. `xml`: `root` is the root
    element's local name. `text`: only `head`.
    """

    kind: Literal["object", "array", "lines", "xml", "text"]
    head: bytes
    keys: Mapping[str, msgspec.Raw] = field(default_factory=dict)
    length: int = 0
    root: str = ""


def shape_of(data: Buffer) -> Shape:
    """The shape of decoded bytes. Raises Rejected for text that starts like JSON and is not."""
    head = bytes(data[:HEAD_BYTES])
    start = head.lstrip()[:1]
    if start in (b"{", b"["):
        return _json_shape(data, head, start)
    if start == b"<":
        match = _XML_ROOT.search(_XML_NOISE.sub(b"", bytes(data[: 16 * HEAD_BYTES])))
        return Shape("xml", head, root=match[1].decode() if match else "")
    return Shape("text", head)


def _json_shape(data: Buffer, head: bytes, start: bytes) -> Shape:
    try:
        return _strict_json_shape(data, head, start)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if start == b"{" and "trailing characters" in str(error):
            first = bytes(data).lstrip().split(b"\n", 1)[0]
            keys = _keys(first)
            if keys is not None:
                return Shape("lines", head, keys=keys)
        quoted = quoted_constants(data)
        if quoted is data:
            raise Rejected([problem_of(error)]) from error
        try:
            return _strict_json_shape(quoted, head, start)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Rejected([problem_of(error)]) from error


def _strict_json_shape(data: Buffer, head: bytes, start: bytes) -> Shape:
    if start == b"{":
        return Shape("object", head, keys=msgspec.json.decode(data, type=dict[str, msgspec.Raw]))
    elements = msgspec.json.decode(data, type=list[msgspec.Raw])
    keys = _keys(elements[0]) if elements else None
    return Shape("array", head, keys=keys or {}, length=len(elements))


def _keys(element: Buffer | msgspec.Raw) -> dict[str, msgspec.Raw] | None:
    try:
        return msgspec.json.decode(element, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
