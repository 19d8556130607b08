"""What the fuzzer starts from: golden inputs and examples, words of the code, and real files where there are some."""

import ast
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from processor.formats.registry import FORMATS
from processor.reading.decode import DecodeLimits, decoded
from processor.transform import chosen_format
from schemas.errors import Rejected
from tests.any_bytes import is_json, json_of, places
from tests.golden import pairs

MAX_SEED_BYTES = 1 << 14
_MAX_VALUES = 400
_KEPT_ELEMENTS = 3


def golden(format: str) -> list[bytes]:
    """The golden inputs and the example of one format, or of `auto`: all."""
    found = [data for id, path, _ in pairs() if format in (id, "auto") and len(data := path.read_bytes())]
    return found + [one.example.encode() for one in FORMATS.values() if format in (one.id, "auto") and one.example]


def real(corpus: Path, format: str) -> list[bytes]:
    """Files below `corpus` that are found to be of the format, those that are too long with shortened lists."""
    found = []
    for path in sorted(corpus.rglob("*")):
        if path.is_file() and path.stat().st_size < 8 << 20:
            data = path.read_bytes()
            if len(data) > MAX_SEED_BYTES:
                data = shortened(data)
            if 0 < len(data) <= MAX_SEED_BYTES and format in (_format_of(data), "auto"):
                found.append(data)
    return found


def shortened(data: bytes) -> bytes:
    """JSON with the first elements of each list and object only; other text's beginning."""
    start, end = (data.find(b"{"), data.rfind(b"}") + 1) if data.startswith(b"window.") else (0, len(data))
    if is_json(data[start:end]):
        return data[:start] + json.dumps(_shortened(json.loads(data[start:end]))).encode() + data[end:]
    return data[: data.rfind(b"\n", 0, MAX_SEED_BYTES) + 1]


def words_of(*modules: ModuleType) -> list[str]:
    """Short texts that the code of `modules` holds: keys, statuses, units."""
    words = set()
    for module in modules:
        with ThreadPoolExecutor(1) as thread:  # in this one, greenlets of the browser's tests may confuse the parser
            tree = thread.submit(ast.parse, Path(str(module.__file__)).read_text()).result()
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                words.add(node.target.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                value = node.value if isinstance(node.value, str) else node.value.decode(errors="replace")
                if len(value) <= 40 and "\n" not in value:
                    words.add(value)
    return sorted(words)


def values_of(seeds: list[bytes]) -> list[Any]:
    """Values found in seeds that are JSON, to be put elsewhere; not the long ones."""
    found: dict[str, Any] = {}
    for data in seeds:
        if is_json(json_of(data)):
            for container, key in places([json.loads(json_of(data))]):
                text = json.dumps(container[key])
                if len(text) < 2_000:
                    found[text] = container[key]
    each = max(1, len(found) // _MAX_VALUES)
    return list(found.values())[::each]


def dictionary(words: list[str]) -> str:
    """`words` as libFuzzer reads a dictionary."""
    return "".join(f'"{"".join(_escaped(word))}"\n' for word in words if word)


def _escaped(word: str) -> Iterator[str]:
    for byte in word.encode("utf-8", "surrogatepass"):
        yield chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}"


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in list(value.items())[:40]}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value[:_KEPT_ELEMENTS]]
    return value[:2_000] if isinstance(value, str) else value


def _format_of(data: bytes) -> str:
    try:
        return chosen_format(decoded(data, DecodeLimits()), "auto", DecodeLimits()).id
    except Rejected:
        return ""
