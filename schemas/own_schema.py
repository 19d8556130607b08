"""JSON Schemas that projects bring: what one may be, and a validator of it. Pure; nothing is ever fetched.

Stands between `runfeed benchmark add`, which refuses what could not be validated within bounds, and the processor. A
schema is somebody's program, and validation takes exponential time for a few of them, so before it is taken

- references stay inside it (`#` or `#/…`); neither http nor files are read, there or later;
- patterns run in linear time (no look-around, no back-references) and are bounded in size;
- its weight is bounded: the number of its values if each reference were written out, and thrice for each
  `unevaluated…` around them, whose validation looks again at what is below;
- it may be recursive, but no value may be validated twice by the same recursion.

What a schema weighs times what a result holds then bounds the work. Dialects: Draft 4, 6, 7, 2019-09 and 2020-12, as
`$schema` says; Draft 7 where it says nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import msgspec

from schemas.errors import Refused
from schemas.pointers import index_of, parse_pointer, render_pointer
from schemas.problems import problem_of

MAX_SCHEMA_BYTES = 256 << 10
MAX_WEIGHT = 50_000
MAX_LEVELS = 100
KEYWORD = "runfeed"
"""On a property: `{"metric": …, "unit"?: …, "better"?: …, "samples"?: …}` or `{"param": …}`."""

_REGEX_BYTES = 256 << 10  # of a compiled pattern
_DRAFTS: dict[str, type[jsonschema_rs.Validator]] = {
    "json-schema.org/draft-04/schema": jsonschema_rs.Draft4Validator,
    "json-schema.org/draft-06/schema": jsonschema_rs.Draft6Validator,
    "json-schema.org/draft-07/schema": jsonschema_rs.Draft7Validator,
    "json-schema.org/draft/2019-09/schema": jsonschema_rs.Draft201909Validator,
    "json-schema.org/draft/2020-12/schema": jsonschema_rs.Draft202012Validator,
}
_SAME = ("not", "if", "then", "else", "allOf", "anyOf", "oneOf", "dependentSchemas", "dependencies")
"""Keywords whose schemas look at the same value."""
_ITEMS = ("items", "additionalItems", "prefixItems", "contains", "unevaluatedItems")
_MEMBERS = ("additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames")
_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})
_ELSEWHERE = frozenset({"$defs", "definitions", *_SAME, *_ITEMS, *_MEMBERS, "properties"})
_ITEM, _MEMBER = "[]", "{}"  # steps to any element of a list and of an object; that to a property starts with "/"


@dataclass(frozen=True)
class Survey:
    """What a walk through a schema finds."""

    weight: int
    declared: tuple[tuple[str, Any], ...]
    """(JSON Pointer in a result, the keyword's value) of each property with `KEYWORD`."""
    suggested: tuple[str, ...]
    """Pointers of properties marked with `suggestToUser`, EOSC-Perf's word for what is worth showing."""


def parse_schema(text: bytes) -> dict[str, Any]:
    """The schema in `text`, checked in every respect, or Refused 422 that says what is wrong."""
    if len(text) > MAX_SCHEMA_BYTES:
        raise Refused("schema", f"at most {MAX_SCHEMA_BYTES:,} bytes", f"{len(text):,}", status=422)
    try:
        schema = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = problem_of(error)
        raise _refused(problem.where, problem.expected, problem.found) from error
    if not isinstance(schema, dict):
        raise _refused("/", "a JSON object", f"{type(schema).__name__}")
    survey(schema)
    validator_of(schema)
    return schema


def validator_of(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    """The validator of a schema; Refused 422 if it is none. Its messages never quote a result."""
    named = schema.get("$schema")
    kind = jsonschema_rs.Draft7Validator if named is None else _DRAFTS.get(_without_scheme(named))
    if kind is None:
        raise _refused("/$schema", "one of " + ", ".join(_DRAFTS), repr(named)[:80])
    bounds = jsonschema_rs.RegexOptions(size_limit=_REGEX_BYTES, dfa_size_limit=_REGEX_BYTES)
    try:
        return kind(schema, pattern_options=bounds, offline=True, mask="it")
    except jsonschema_rs.ValidationError as error:
        where = render_pointer(error.instance_path)
        if error.kind.name == "format":
            raise _refused(where, "a pattern of linear time, not large", "another pattern") from error
        raise _refused(where, "a valid JSON Schema", error.message.partition("\n")[0]) from error
    except (ValueError, RecursionError) as error:
        raise _refused("/", "nesting of at most some hundred levels", str(error)) from error


def survey(schema: dict[str, Any]) -> Survey:
    """Walk through the schema as a validator would. Refused 422 where that would not end within bounds."""
    walk = _Walk(schema)
    weight = walk.visit(schema, (), (), 1)
    return Survey(weight, tuple(dict(walk.declared).items()), tuple(dict.fromkeys(walk.suggested)))


@dataclass
class _Visit:
    """A schema that the walk is inside of, and the ways found below it that lead back to it or above it."""

    schema: dict[str, Any]
    depth: int  # of the value it looks at
    ways_back: list[tuple[str, ...]] = field(default_factory=list)


class _Walk:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._inside: list[_Visit] = []
        self._spent = 0
        self.declared: list[tuple[str, Any]] = []
        self.suggested: list[str] = []

    def visit(self, schema: Any, place: tuple[str, ...], value: tuple[str, ...], factor: int) -> int:
        """The weight of `schema`, which stands at `place` of the root and looks at `value` of a result."""
        if not isinstance(schema, dict):
            return self._spend(factor, place)
        if len(place) > MAX_LEVELS or len(self._inside) > MAX_LEVELS:
            raise _refused(render_pointer(place[:8]) + "…", f"at most {MAX_LEVELS} levels", "more")
        if any(visit.schema is schema for visit in self._inside):
            self._check_recursion(schema, place, value)
            return self._spend(factor, place)
        self._look(schema, place, value)
        self._inside.append(_Visit(schema, len(value)))
        weight = self._spend(factor * _values(schema), place)
        factor *= 3 ** sum(name in schema for name in ("unevaluatedProperties", "unevaluatedItems"))
        for inner, inner_place, step in self._schemas_in(schema, place):
            weight += self.visit(inner, inner_place, value + step, factor)
        self._inside.pop()
        return weight

    def _schemas_in(
        self, schema: dict[str, Any], place: tuple[str, ...]
    ) -> Iterator[tuple[Any, tuple[str, ...], tuple[str, ...]]]:
        """(schema, place, steps to the value it looks at) of each schema directly inside."""
        if "$ref" in schema:
            target = self._target(schema["$ref"], (*place, "$ref"))
            yield target, (*place, "$ref"), ()
        named = schema.get("properties")
        for name, inner in named.items() if isinstance(named, dict) else ():
            yield inner, (*place, "properties", name), (f"/{name}",)
        for keywords, step in ((_SAME, ()), (_ITEMS, (_ITEM,)), (_MEMBERS, (_MEMBER,))):
            for keyword in keywords:
                inside = schema.get(keyword)
                if isinstance(inside, list):
                    for index, inner in enumerate(inside):
                        yield inner, (*place, keyword, str(index)), step
                elif keyword in _MAPS and isinstance(inside, dict):
                    for name, inner in inside.items():
                        yield inner, (*place, keyword, name), step
                elif inside is not None:
                    yield inside, (*place, keyword), step

    def _target(self, reference: Any, place: tuple[str, ...]) -> Any:
        """What a reference points to; it stays in this document."""
        where = render_pointer(place)
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise _refused(where, "a reference within the schema (# or #/…)", repr(reference)[:80])
        target: Any = self._root
        for step in parse_pointer(unquote(reference[1:]), f"schema {where}"):
            if isinstance(target, dict) and step in target:
                target = target[step]
            elif isinstance(target, list) and (index := index_of(step)) is not None and index < len(target):
                target = target[index]
            else:
                raise _refused(where, "a schema at that place", f"none at {reference[:80]!r}")
        return target

    def _look(self, schema: dict[str, Any], place: tuple[str, ...], value: tuple[str, ...]) -> None:
        for keyword in ("$dynamicRef", "$recursiveRef"):
            if keyword in schema:
                raise _refused(render_pointer((*place, keyword)), "references by $ref only", keyword)
        if place and any(isinstance(schema.get(name), str) for name in ("$id", "id")):
            raise _refused(render_pointer(place), "no $id below the top, which would change what # means", "one")
        pointer = render_pointer(tuple("*" if step in (_ITEM, _MEMBER) else step[1:] for step in value))
        if KEYWORD in schema:
            self.declared.append((pointer, schema[KEYWORD]))
        if schema.get("suggestToUser") is True:
            self.suggested.append(pointer)

    def _check_recursion(self, schema: dict[str, Any], place: tuple[str, ...], value: tuple[str, ...]) -> None:
        """Refuse a second way back that the same value could take: each level of a result would double the work."""
        inside = self._inside
        first = next(index for index, visit in enumerate(inside) if visit.schema is schema)
        twice = len(value) == inside[first].depth  # it leads back without going into the value
        for visit in inside[first:]:
            way = value[visit.depth :]
            twice = twice or any(_may_meet(way, other) for other in visit.ways_back)
            visit.ways_back.append(way)
        if twice:
            found = "a schema that leads back to itself twice"
            raise _refused(render_pointer(place), "recursion that takes each value once", found)

    def _spend(self, weight: int, place: tuple[str, ...]) -> int:
        self._spent += weight
        if self._spent > MAX_WEIGHT:
            expected = f"at most {MAX_WEIGHT:,} values with all references written out"
            raise _refused(render_pointer(place[:8]), expected, "more")
        return weight


def _may_meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two ways may lead to the same value, or one to a value on the other's way."""
    return all(a == b or (_MEMBER in (a, b) and _ITEM not in (a, b)) for a, b in zip(one, other, strict=False))


def _values(schema: dict[str, Any]) -> int:
    """How many values there are in a schema, without the schemas in it."""
    count, left = 1, [value for name, value in schema.items() if name not in _ELSEWHERE]
    while left:
        value = left.pop()
        count += 1
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value
    return count


def _without_scheme(named: Any) -> str:
    text = named if isinstance(named, str) else ""
    return text.removeprefix("https://").removeprefix("http://").removesuffix("#")


def _refused(pointer: str, expected: str, found: str) -> Refused:
    return Refused(f"schema {pointer}", expected, found or "something else", status=422)
