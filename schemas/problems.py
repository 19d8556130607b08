"""A decoder's exception as a Problem: where, what was expected, what was found. Pure."""

import re

import msgspec

from schemas.records import Problem

_VALIDATION = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>.*)`)?", re.DOTALL)
_EXPECTED_GOT = re.compile(r"Expected (?P<expected>.*), got (?P<found>.*)", re.DOTALL)
_AT_BYTE = re.compile(r"(?:JSON is malformed: )?(?P<what>.*) \(byte (?P<at>\d{1,18})\)", re.DOTALL)
_PIECE = 1 << 20
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


def problem_of(error: Exception, where: str = "", data: bytes | memoryview = b"") -> Problem:
    """A decoder's exception as a Problem; its path is appended to the JSON Pointer `where`.

    Where `data` is the whole document, a place in it is named by line and column and shown.
    """
    if isinstance(error, RecursionError):
        return Problem(where=where or "/", expected="nesting of at most some hundred levels", found="deeper nesting")
    if isinstance(error, UnicodeDecodeError):
        found = f"byte 0x{error.object[error.start]:02x} ({error.reason})"
        return Problem(where=where or "/", expected="UTF-8", found=found)
    if not isinstance(error, msgspec.ValidationError):
        return _malformed(str(error), where, data)
    match = _VALIDATION.fullmatch(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    pointer = "".join(f"/{name or index}" for name, index in _STEP.findall(path.removeprefix("$")))
    pair = _EXPECTED_GOT.fullmatch(what)
    expected, found = (pair["expected"], pair["found"]) if pair else ("a valid value", what)
    return Problem(where=where + pointer or "/", expected=expected.replace("`", ""), found=found.replace("`", ""))


def _malformed(text: str, where: str, data: bytes | memoryview) -> Problem:
    if text == "Input data was truncated":
        return Problem(where=where or "/", expected="well-formed JSON", found="the end inside a value: it is cut off")
    match = _AT_BYTE.fullmatch(text)
    if match and not where and len(data):
        at = min(int(match["at"]), len(data))
        line, begin = 1, 0
        for start in range(0, at, _PIECE):
            piece = bytes(data[start : min(at, start + _PIECE)])
            line += piece.count(b"\n")
            begin = start + piece.rfind(b"\n") + 1 if b"\n" in piece else begin
        shown = bytes(data[at : at + 40]).decode(errors="replace")
        return Problem(
            where=f"line {line}, column {at - begin + 1}",
            expected="well-formed JSON",
            found=f"{match['what']}, at {shown!r}" if shown else f"{match['what']}, at the end",
        )
    return Problem(where=where or "/", expected="well-formed JSON", found=text)
