"""JSON as real tools write it: with bare NaN and Infinity, and with halves of characters.

Strict JSON is read at full speed; only a file that needs mending pays for it.
"""

import builtins
from typing import Any, TypeVar

import msgspec

from processor.decode import Buffer, mended_surrogates, quoted_constants, read_json
from processor.tables import Tables
from schemas.errors import Rejected
from schemas.problems import problem_of
from schemas.records import Problem

T = TypeVar("T")


def read_mended(data: Buffer, type: type[T] | Any, out: Tables) -> T:
    """`data` as JSON of `type`, where bare NaN, Infinity and -Infinity become strings of these names.

    An escape of half a character (a message cut in the middle of an emoji) becomes U+FFFD and a kept problem. Raises
    Rejected that says where.
    """
    text, mended = mended_surrogates(data)
    if mended:
        out.problem("/", "whole characters", f"{mended} escapes of half a character, replaced", effect="kept")
    try:
        value: T = msgspec.json.decode(text, type=type)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected([problem_of(error)]) from error
    except msgspec.DecodeError as error:
        quoted = quoted_constants(text)
        if quoted is text:
            raise Rejected([problem_of(error)]) from error
        value = read_json(quoted, type)
    return value


def every_problem(item: msgspec.Raw | bytes, type: type[msgspec.Struct], where: str) -> list[Problem]:
    """All that keeps the JSON object `item` from being a `type`, field by field; structs inside it too."""
    try:
        fields = msgspec.json.decode(item, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [problem_of(error, where)]
    problems = []
    for field in msgspec.structs.fields(type):
        raw, inner = fields.get(field.encode_name), where + pointer_step(field.encode_name)
        if raw is None:
            if field.required:
                problems.append(Problem(where=where or "/", expected=f"a field {field.encode_name!r}", found="none"))
        elif isinstance(field.type, builtins.type) and issubclass(field.type, msgspec.Struct):
            problems += every_problem(raw, field.type, inner)
        else:
            try:
                msgspec.json.decode(raw, type=field.type)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                problems.append(problem_of(error, inner))
    return problems


def pointer_step(key: str) -> str:
    """`key` as one step of a JSON Pointer (RFC 6901)."""
    return "/" + key.replace("~", "~0").replace("/", "~1")
