"""The one way we write a JSON value as text, whoever writes it: sorted keys, no spaces. Pure."""

import json
import json.encoder
from collections.abc import Callable
from typing import Any


def canonical_encoder(*, ensure_ascii: bool) -> Callable[[Any], str]:
    """Writes a JSON value as text; with `ensure_ascii`, characters beyond ASCII as escapes.

    `json` makes its encoder in C anew for each value, at twice the cost of a small value's text; this one keeps it. The
    text is the same, and other interpreters, which may have no such encoder, write it the ordinary way.
    """
    ordinary = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=ensure_ascii)
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return ordinary.encode
    text = json.encoder.encode_basestring_ascii if ensure_ascii else json.encoder.encode_basestring
    write = make(None, ordinary.default, text, None, ":", ",", True, False, True)
    return lambda value: "".join(write(value, 0))
