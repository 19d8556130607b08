"""A result against the JSON Schema of its benchmark: all violations, within bounded time and memory. Pure.

Violations quote what they are about, so listing those of a large document could take far more memory than it has
itself. Its values times the schema's weight (`schemas.own_schema`) bound both: beyond `MAX_LISTED_WORK` only the first
violation is told, beyond `MAX_WORK` the document is not looked at.
"""

from typing import Any

import jsonschema_rs

from processor.reading.decode import rejected
from processor.reading.shown import shown
from schemas.errors import Refused, Rejected
from schemas.own_schema import survey, validator_of
from schemas.pointers import render_pointer
from schemas.problems import problem_of
from schemas.records import Benchmark, Problem

MAX_WORK = 300_000_000
"""The schema's weight times the document's size: some seconds of validation."""

MAX_LISTED_WORK = 5_000_000
"""The schema's weight times what its violations may quote: about 300 MB while they are listed."""

_BYTES_A_VALUE = 16


def check_valid(document: Any, size_bytes: int, benchmark: Benchmark) -> None:
    """Raise Rejected with all violations of the benchmark's schema, or the first if there could be far too many."""
    try:
        weight = survey(benchmark.schema).weight
        validator = validator_of(benchmark.schema)
    except Refused as error:  # registered by an older version that took it
        raise rejected(f"benchmark {benchmark.name}", f"{error.expected} at {error.where}", error.found) from error
    values, quoted = _extent(document)
    if weight * (values + size_bytes // _BYTES_A_VALUE) > MAX_WORK:
        found = f"{values:,} values under a schema of weight {weight:,}"
        raise rejected("blob", "a result small enough for its schema", found)
    try:
        if validator.is_valid(document):
            return
        if weight * quoted <= MAX_LISTED_WORK:
            problems = [_violation(error, document) for error in validator.iter_errors(document)]
        elif weight * values <= MAX_LISTED_WORK:
            problems = [_first_violation(validator, document)]
        else:
            expected = "what the schema says"
            problems = [Problem(where="/", expected=expected, found="something else, somewhere in a very large result")]
    except RecursionError as error:
        raise Rejected([problem_of(error)]) from error
    except ValueError as error:  # the validator's own limit of nesting
        raise Rejected([problem_of(RecursionError(str(error)))]) from error
    raise Rejected(problems)


def _extent(document: Any) -> tuple[int, int]:
    """(number of values, how many of them all violations of one weight could quote: each value and all below it)."""
    values = quoted = 0
    left = [(document, 1)]
    while left:
        value, depth = left.pop()
        values += 1
        quoted += depth
        if isinstance(value, dict):
            left += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            left += [(inner, depth + 1) for inner in value]
    return values, quoted


_EXPECTED = {
    "required": "a field {property!r}",
    "minimum": "at least {limit}",
    "maximum": "at most {limit}",
    "exclusiveMinimum": "more than {limit}",
    "exclusiveMaximum": "less than {limit}",
    "multipleOf": "a multiple of {multiple_of}",
    "minLength": "at least {limit} characters",
    "maxLength": "at most {limit} characters",
    "minItems": "at least {limit} elements",
    "maxItems": "at most {limit} elements",
    "minProperties": "at least {limit} fields",
    "maxProperties": "at most {limit} fields",
    "uniqueItems": "no element twice",
    "pattern": "text that matches {pattern}",
    "format": "a valid {format}",
    "contains": "an element as the schema says",
    "falseSchema": "nothing there",
    "anyOf": "one of the schema's alternatives",
    "oneOf": "exactly one of the schema's alternatives",
    "additionalProperties": "no other fields",
    "unevaluatedProperties": "no other fields",
}
"""What a violated keyword wanted; the validator's own words for the rest."""


def _violation(error: jsonschema_rs.ValidationError, document: Any) -> Problem:
    kind = error.kind.name
    details = error.kind.as_dict()
    value = document
    for step in error.instance_path:
        value = value[step]
    found = shown(value)
    if kind == "type":
        expected = " or ".join(details["types"])
    elif kind == "const":
        expected = shown(details["expected_value"])
    elif kind == "enum":
        expected = "one of " + ", ".join(map(shown, details["options"][:20]))
    else:
        expected = _EXPECTED.get(kind, "").format(**details) or f"no violation of {kind} ({error.message})"
    if kind == "required":
        found = "none"
    elif "unexpected" in details:
        found = ", ".join(shown(name) for name in details["unexpected"][:20])
    return Problem(where=render_pointer(error.instance_path), expected=expected, found=found)


def _first_violation(validator: jsonschema_rs.Validator, document: Any) -> Problem:
    try:
        validator.validate(document)
    except jsonschema_rs.ValidationError as error:
        return _violation(error, document)
    raise AssertionError("not valid, and yet no violation")
