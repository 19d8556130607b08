"""Text that tools print for people, line by line: any size, any encoding that redirection gives it. Pure."""

import re
from collections.abc import Iterator

from processor.reading.decode import Buffer

_BLOCK = 1 << 20
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;:?]{0,40}[@-~]|[@-Z\\^_])")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def line_blocks(data: Buffer) -> Iterator[list[str]]:
    """The lines of `data` without their ends, many at a time, so that a file is never there as a whole.

    Without terminal colours. UTF-16 (what PowerShell's `>` writes) is known by its byte order mark, everything else is
    UTF-8; what is neither becomes U+FFFD. A carriage return is an end of line only before a newline.
    """
    for block in _whole_lines(data):
        text = block.decode("utf-8", "replace")
        if "\r" in text:
            text = text.replace("\r\n", "\n")
        if "\x1b" in text:
            text = _ESCAPE.sub("", text)
        yield text.removesuffix("\n").split("\n")


def first_text(data: Buffer, size: int = _BLOCK) -> str:
    """The beginning of `data` as `line_blocks` reads it, about `size` bytes of it."""
    return "\n".join(next(line_blocks(data[:size]), []))


def _whole_lines(data: Buffer) -> Iterator[bytes]:
    """`data` in pieces that end where a line ends, in UTF-8. A line longer than a piece is a piece of its own."""
    if bytes(data[:2]) in _UTF_16:
        data = bytes(data).decode("utf-16", "replace").encode("utf-8", "replace")
    start, size = 0, _BLOCK
    while start < len(data):
        piece = bytes(data[start : start + size])
        end = len(piece) if start + len(piece) == len(data) else piece.rfind(b"\n") + 1
        if not end:
            size *= 2
            continue
        yield piece[:end]
        start, size = start + end, _BLOCK
