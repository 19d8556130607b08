"""Schemas of projects, and results of them, as fuzzed: both are a stranger's."""

import json
import zlib
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import msgspec

from ingest.benchmarks import make_benchmark
from processor import validation
from schemas.errors import Refused, Rejected
from schemas.keys import OWN_SCHEMA
from schemas.records import Benchmark, Metric, Param, Problem
from tests.any_bytes import assert_named, assert_tables_or_named_problems
from tests.golden import FOLDER, RECORD, pairs

_LISTED_WORK = (validation.MAX_LISTED_WORK, 500, 10)


class Pair(msgspec.Struct):
    """A benchmark as somebody would register it, and a result of it."""

    schema: msgspec.Raw
    document: msgspec.Raw
    metrics: list[Metric] = []
    params: list[Param] = []
    execution_time: str = ""


def check_own_schema(data: bytes) -> None:
    """A benchmark is refused with a reason when it is added, or its results are read as promised."""
    try:
        pair = msgspec.json.decode(data, type=Pair)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    try:
        benchmark = make_benchmark(
            "b",
            bytes(pair.schema),
            metrics=pair.metrics,
            params=pair.params,
            execution_time=pair.execution_time,
            now=datetime(2026, 1, 1, tzinfo=UTC),
        )
        stored = msgspec.json.decode(msgspec.json.encode(benchmark), type=Benchmark)
    except Refused as refusal:
        assert_named(Rejected([Problem(where=refusal.where, expected=refusal.expected, found=refusal.found)]))
        return
    listed = _LISTED_WORK[zlib.crc32(data) % len(_LISTED_WORK)]  # as if the document were that much larger
    with patch.object(validation, "MAX_LISTED_WORK", listed):
        assert_tables_or_named_problems(bytes(pair.document), "auto", stored)


def schema_seeds() -> list[bytes]:
    record = json.loads((FOLDER / OWN_SCHEMA / RECORD).read_bytes())
    metric = {"path": "/a/*/t", "metric": "t", "unit": "s", "better": "lower", "samples": "/a/*/s"}
    found = [
        {"schema": record["schema"], "metrics": record["metrics"], "params": record["params"], "document": document}
        for document in _documents()
    ]
    document = {
        "a": [{"t": 1, "s": "1:2", "n": "x"}, {"t": [1, 2], "s": [3]}],
        "when": "2026-01-01",
        "cpu": {"count": 1},
    }
    found += [
        {"schema": schema, "document": document, "metrics": [metric], "params": [{"path": "/a/*/n", "name": "n"}]}
        | ({"execution_time": "/when"} if len(schema) % 2 else {})
        for schema in _SCHEMAS
    ]
    return [json.dumps(one).encode() for one in found]


def _documents() -> list[Any]:
    texts = [path.read_bytes() for id, path, _ in pairs() if id == OWN_SCHEMA]
    return [json.loads(text) for text in texts]


_DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
_SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": "object", "properties": {"a": {"items": {"properties": {"t": {"type": ["number", "array"]}}}}}},
    {
        "$schema": _DRAFT_2020,
        "$defs": {"x": {"items": {"$ref": "#/$defs/x"}}},
        "properties": {"a": {"$ref": "#/$defs/x"}},
    },
    {"patternProperties": {"^[a-z]+$": {"maxItems": 1, "uniqueItems": True}}, "additionalProperties": False},
    {"allOf": [{"required": ["b"]}, {"minProperties": 9}], "anyOf": [{"type": "null"}, {"const": {"a": [1]}}]},
    {
        "oneOf": [{}, {}],
        "not": {"required": ["a"]},
        "if": {"maxProperties": 1},
        "then": False,
        "else": {"enum": [1, "a"]},
    },
    {"$schema": _DRAFT_2020, "unevaluatedProperties": False, "dependentSchemas": {"a": {"properties": {"when": {}}}}},
    {"properties": {"when": {"format": "date-time", "pattern": "(a|b)*c{2,50}$", "minLength": 40, "maxLength": 3}}},
    {
        "$schema": _DRAFT_2020,
        "properties": {"a": {"prefixItems": [True], "contains": {"type": "string"}, "minContains": 2}},
    },
    {
        "propertyNames": {"pattern": "^x"},
        "dependencies": {"a": ["z"], "when": {"type": "array"}},
        "definitions": {"q": {}},
    },
    {
        "properties": {
            "a": {"items": {"properties": {"t": {"multipleOf": 0.3, "minimum": 1e308, "exclusiveMaximum": -1}}}}
        }
    },
    {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True, "id": "http://a/b"},
    {"additionalProperties": {"runfeed": {"param": "x"}}, "properties": {"cpu": {"runfeed": {"metric": "m"}}}},
]
