"""JSON as real tools write it: with bare NaN and Infinity, and with halves of characters.

Strict JSON is read at full speed; only a file that needs mending pays for it.
"""

import builtins
from collections import Counter
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from processor.reading.decode import Buffer, mended_surrogates, quoted_constants
from processor.tables import RunRows, Tables
from schemas.errors import Rejected
from schemas.problems import problem_of
from schemas.records import Problem

T = TypeVar("T")


def read_mended(data: Buffer, type: type[T] | Any, out: Tables) -> T:
    """`data` as JSON of `type`, where bare NaN, Infinity and -Infinity become strings of these names.

    An escape of half a character (a message cut in the middle of an emoji) becomes U+FFFD and a kept problem. Raises
    Rejected that says where. Unknown fields count as in `read_fields`.
    """
    text, mended = mended_surrogates(data)
    if mended:
        out.problem("/", "whole characters", f"{mended} escapes of half a character, replaced", effect="kept")
    try:
        value: T = read_fields(text, type, out)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected([problem_of(error)]) from error
    except msgspec.DecodeError as error:
        quoted = quoted_constants(text)
        if quoted is text:
            raise Rejected([problem_of(error, data=text)]) from error
        try:
            value = read_fields(quoted, type, out)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as another:
            raise Rejected([problem_of(another, data=quoted)]) from another
    return value


def read_fields(data: Buffer | msgspec.Raw, type: type[T] | Any, out: Tables, path: str = "") -> T:
    """`data` as JSON of `type`, whose structs are declared `forbid_unknown_fields`: fields they do not have are counted
    in the loss report as `path` and their own place below it, and the rest is read.

    Empty values have nothing to lose. Costs nothing where all fields are known. Raises what msgspec raises.
    """
    try:
        value: T = msgspec.json.decode(data, type=type)
    except msgspec.ValidationError as error:
        if "unknown field" not in str(error):
            raise
        unread: Counter[str] = Counter()
        value = msgspec.json.decode(_without_unread(data, _inspected(type), unread, path), type=type)  # type: ignore[arg-type]
        for name, count in unread.items():  # only now: what could not be read may be read again in another way
            out.leave_unread(name, count)
    return value


_WITH_FIELDS = (inspect.StructType, inspect.DictType, inspect.ListType, inspect.VarTupleType)
_EMPTY = {b"null", b'""', b"[]", b"{}"}


@cache
def _inspected(type: Any) -> inspect.Type:
    return inspect.type_info(type)


def _without_unread(
    data: Buffer | msgspec.Raw, type: inspect.Type, unread: Counter[str], path: str
) -> Buffer | msgspec.Raw:
    """`data` without the fields that `type` does not have, each counted. What does not fit `type` stays as it is."""
    if isinstance(type, inspect.UnionType):
        type = next((one for one in type.types if isinstance(one, _WITH_FIELDS)), type)
    if isinstance(type, inspect.Metadata):
        return _without_unread(data, type.type, unread, path)
    try:
        if isinstance(type, inspect.StructType):
            known = {field.encode_name: field.type for field in type.fields}
            kept = []
            for name, value in msgspec.json.decode(data, type=dict[str, msgspec.Raw]).items():
                if name in known:
                    kept.append((name, _without_unread(value, known[name], unread, path + pointer_step(name))))
                elif bytes(value) not in _EMPTY:
                    unread[path + pointer_step(name)] += 1
            return _object(kept)
        if isinstance(type, inspect.DictType):
            items = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).items()
            return _object(
                [(name, _without_unread(value, type.value_type, unread, f"{path}/*")) for name, value in items]
            )
        if isinstance(type, inspect.ListType | inspect.VarTupleType):
            values = msgspec.json.decode(data, type=list[msgspec.Raw])
            return (
                b"[" + b",".join(_without_unread(value, type.item_type, unread, f"{path}/*") for value in values) + b"]"
            )
    except msgspec.ValidationError:
        pass
    return data


def _object(items: list[tuple[str, Buffer | msgspec.Raw]]) -> bytes:
    return b"{" + b",".join(msgspec.json.encode(name) + b":" + bytes(value) for name, value in items) + b"}"


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
                msgspec.json.decode(_without_unread(raw, _inspected(field.type), Counter(), ""), type=field.type)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                problems.append(problem_of(error, inner))
    return problems


def refuse_all(
    run: RunRows, item: msgspec.Raw | bytes, type: type[msgspec.Struct], where: str, error: Exception
) -> None:
    """Refuse the run for all that keeps `item` from being a `type`, of which `error` is what the decoder met first."""
    for problem in every_problem(item, type, where) or [problem_of(error, where)]:
        run.refuse(problem.where, problem.expected, problem.found)


def pointer_step(key: str) -> str:
    """`key` as one step of a JSON Pointer (RFC 6901)."""
    return "/" + key.replace("~", "~0").replace("/", "~1")
