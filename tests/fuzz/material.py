"""What the fuzzer puts into inputs: values that are easily got wrong, and what the format's code looks for."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

RAW = (
    "NaN", "-Infinity", "1e999", "-1e-999", "1E400", "-0.0", "9" * 400, "-" + "9" * 25, "1." + "3" * 500, "1e-5000",
    "9" * 4_999, '"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', "[" * 90 + "]" * 90, "[" * 1_200 + "]" * 1_200,
    *("[" * levels + "]" * levels for levels in (300, 480, 700, 900, 985)), '{"":' * 200 + "1" + "}" * 200,
    *('{"a":' * levels + "1" + "}" * levels for levels in (300, 480, 700, 900, 985)),
    "01", "+1", ".5", "'a'", "", '"\x01"',
)  # fmt: skip
"""What no Python value is written as, or only an endless one."""

NUMBERS = (
    0, 1, -1, 2, 10, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1,
    1e308, -1e308, 5e-324, 1e-9, 0.1, -0.5, 1e15, 1e16, 1e18, 1.7e9, 1.7e12, 1.7e15, 253402300800, -62135596801,
)  # fmt: skip
TEXTS = (
    "", " ", "0", "-1", "1e400", "NaN", "inf", "+INF", "nan", "null", "true", "a/b", "/", "~", "~1", "1,234.5", "1_000",
    "½", "٣", "²", "\x00", "\n", "\r\n", "\t", "\u2028", "\ufeff", "\U0010ffff", "é", "-", "*", "..", "a\tb",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-02T03:04:05Z", "2026-13-45", "12:34:56", "P1D",
    "1.5 ms", "1 µs", "10 MiB/s", "100%", "ops/s", "https://user:password@example.org/", "token", "x" * 5_000,
)  # fmt: skip


@dataclass(frozen=True)
class Material:
    """What may be put in: words that the code looks for, and values of other inputs of the format."""

    words: Sequence[str]
    values: Sequence[Any]

    def key(self, chance: Random) -> str:
        return chance.choice(self.words) if chance.random() < 0.9 and self.words else chance.choice(TEXTS)

    def value(self, chance: Random) -> Any:
        match chance.randrange(10):
            case 0:
                return None
            case 1:
                return chance.random() < 0.5
            case 2 | 3:
                return chance.choice(NUMBERS)
            case 4:
                return chance.choice(TEXTS)
            case 5:
                return [self.value(chance) for _ in range(chance.randrange(4))]
            case 6:
                return {self.key(chance): self.value(chance) for _ in range(chance.randrange(4))}
            case 7 | 8 if self.values:
                return json.loads(json.dumps(chance.choice(self.values)))  # a copy: it will be changed
            case _:
                return self.key(chance)

    def word(self, chance: Random) -> bytes:
        word = str(chance.choice(NUMBERS)) if chance.random() < 0.2 else self.key(chance)
        return word.encode("utf-8", "surrogatepass")
