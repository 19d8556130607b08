"""A decoder's exception as a Problem: where, what was expected, what was found. Pure."""

import re

import msgspec

from schemas.records import Problem

_VALIDATION = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>.*)`)?", re.DOTALL)
_EXPECTED_GOT = re.compile(r"Expected (?P<expected>.*), got (?P<found>.*)", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


def problem_of(error: Exception, where: str = "") -> Problem:
    """A decoder's exception as a Problem; its path is appended to the JSON Pointer `where`."""
    if isinstance(error, RecursionError):
        return Problem(where=where or "/", expected="nesting of at most some hundred levels", found="deeper nesting")
    if isinstance(error, UnicodeDecodeError):
        found = f"byte 0x{error.object[error.start]:02x} ({error.reason})"
        return Problem(where=where or "/", expected="UTF-8", found=found)
    if not isinstance(error, msgspec.ValidationError):
        return Problem(where=where or "/", expected="well-formed JSON", found=str(error))
    match = _VALIDATION.fullmatch(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    pointer = "".join(f"/{name or index}" for name, index in _STEP.findall(path.removeprefix("$")))
    pair = _EXPECTED_GOT.fullmatch(what)
    expected, found = (pair["expected"], pair["found"]) if pair else ("a valid value", what)
    return Problem(where=where + pointer or "/", expected=expected.replace("`", ""), found=found.replace("`", ""))
