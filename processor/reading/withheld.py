"""What is kept of no file, whatever its format: names of persons, and secrets. Pure.

Free-form parts of a file (labels, parameters, facts about a machine) say by their keys what they hold. What a key
announces as private is left in the blob and counted in the loss report.
"""

import re
from functools import lru_cache
from typing import Any

from processor.reading.mended import pointer_step
from processor.tables import Tables
from schemas.errors import Rejected
from schemas.problems import problem_of

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PERSONS = {"author", "authors", "assignee", "committer", "email", "login", "maintainer", "owner", "owners", "user"}
_SECRETS = {"apikey", "authorization", "cookie", "credential", "credentials", "passwd", "password", "secret", "token"}
_LAST_WORDS = _PERSONS | _SECRETS | {"username"}
_LAST_PAIRS = {("access", "key"), ("api", "key"), ("e", "mail"), ("private", "key"), ("user", "name")}
_ANYWHERE = {"author", "committer"}
_KEY_CHARACTERS = 200
_CREDENTIALS = re.compile(r"://[^/@\s]{1,500}@")


def is_private(key: str) -> bool:
    """Whether a key names a person or a secret: `owner`, `authToken`, `user_name`; not `max_tokens` or `user_role`."""
    return _is_private(key[-_KEY_CHARACTERS:])


@lru_cache(maxsize=10_000)
def _is_private(key: str) -> bool:
    words = tuple(word.lower() for word in _WORD.findall(key))
    if not words:
        return False
    return words[-1] in _LAST_WORDS or words[-2:] in _LAST_PAIRS or not _ANYWHERE.isdisjoint(words)


def has_credentials(text: str) -> bool:
    """Whether `text` holds an address with a user's name or password in it."""
    return "://" in text and _CREDENTIALS.search(text) is not None


def without_private(value: Any, out: Tables, path: str) -> Any:
    """The JSON value `value` without its private fields, each counted at its place below `path`.

    Raises Rejected for one that nests too deeply.
    """
    try:
        return _without_private(value, out, path)
    except RecursionError as error:
        raise Rejected([problem_of(error, path)]) from error


def _without_private(value: Any, out: Tables, path: str) -> Any:
    if isinstance(value, dict):
        kept = {}
        for key, inner in value.items():
            if is_private(key) or (isinstance(inner, str) and has_credentials(inner)):
                if inner not in (None, "", [], {}):
                    out.leave_unread(path + pointer_step(key))
            elif isinstance(inner, dict | list):
                kept[key] = _without_private(inner, out, path + pointer_step(key))
            else:
                kept[key] = inner
        return kept
    if isinstance(value, list):
        return [_without_private(inner, out, f"{path}/*") for inner in value]
    return value
