"""An upload as multipart/form-data (RFC 7578): a part `file`, and perhaps a part `submission` that describes it.

Read as it comes: the file goes where its bytes are gathered, so a form costs no more memory or disk than a raw upload.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from ingest.describe import MAX_CONTEXT_BYTES, clean_media_type
from ingest.receive import Received
from schemas.errors import Refused

OVERHEAD_BYTES = MAX_CONTEXT_BYTES + (16 << 10)
"""How much longer than its file a form may be: the description, boundaries and the parts' headers."""

_PARTS = ("file", "submission")


@dataclass
class Form:
    """What a form held besides the file's bytes."""

    submission: bytes | None = None
    """The part `submission`, if there was one."""
    media_type: str = ""
    """Of the file; empty if its part did not say."""


def boundary_of(content_type: str) -> str:
    """The boundary that the Content-Type header names, or Refused 400."""
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    if not 0 < len(boundary) <= 200 or "\n" in boundary:
        raise Refused("Content-Type", "multipart/form-data with a boundary", f"boundary {boundary[:40]!r}")
    return str(boundary)


async def read_form(pieces: AsyncIterator[bytes], boundary: str, received: Received) -> Form:
    """Read the whole form and give its file to `received`. Refused 400, or 413 if a part is too large."""
    form, seen = Form(), set[str]()
    reading = ""
    try:
        with PushMultipartParser(boundary, max_segment_count=len(_PARTS)) as parser:
            async for piece in pieces:
                for event in parser.parse(piece):
                    if isinstance(event, MultipartSegment):
                        reading = _checked_name(event, seen)
                        if reading == "submission":
                            form.submission = b""
                        else:
                            form.media_type = clean_media_type((event.content_type or "").lower())
                    elif event and reading == "file":
                        await received.add(bytes(event))
                    elif event:
                        form.submission = _longer(form.submission or b"", event)
                if parser.closed:
                    break
    except MultipartError as error:
        raise Refused("multipart", "a form of parts 'file' and 'submission'", str(error) or "another form") from error
    if "file" not in seen:
        raise Refused("multipart", "a part 'file'", f"parts {sorted(seen)}")
    return form


def _checked_name(part: MultipartSegment, seen: set[str]) -> str:
    name = part.name or ""
    if name not in _PARTS or name in seen:
        found = f"two parts {name!r}" if name in seen else f"a part {name[:60]!r}"
        raise Refused("multipart", "one part 'file', and perhaps one part 'submission'", found)
    seen.add(name)
    return name


def _longer(text: bytes, more: bytes | bytearray) -> bytes:
    if len(text) + len(more) > MAX_CONTEXT_BYTES:
        raise Refused("submission", f"at most {MAX_CONTEXT_BYTES:,} bytes", "more", status=413)
    return text + more
