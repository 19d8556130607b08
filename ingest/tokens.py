"""Bearer tokens: made once, shown once, kept only as a hash in the private bucket.

A token is 32 random bytes, so a plain SHA-256 is enough to hide it: there is nothing to guess.
"""

import hashlib
import secrets
from collections.abc import Iterator
from datetime import datetime

import msgspec

from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused
from schemas.records import Token

PREFIX = "rf_"


def token_sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def create_token(
    private: Bucket, *, name: str, projects: list[str], expires: datetime | None, now: datetime
) -> tuple[str, Token]:
    """A new token's secret text, to be shown once, and its record."""
    secret = PREFIX + secrets.token_urlsafe(32)
    for project in projects:
        if project != "*":
            keys.checked_project(project)
    record = Token(name=name, projects=projects, created=now, expires=expires)
    private.create(keys.token(token_sha256(secret)), msgspec.json.encode(record))
    return secret, record


def tokens(private: Bucket) -> Iterator[tuple[str, Token]]:
    """(hash, record) of every token ever made, revoked ones too."""
    for key in private.list("tokens/"):
        yield key.removeprefix("tokens/").removesuffix(".json"), msgspec.json.decode(private.read(key), type=Token)


def revoke_token(private: Bucket, hash_prefix: str, now: datetime) -> Token:
    """Revoke the one token whose hash starts with `hash_prefix`; Refused 404 if none or several do. Idempotent."""
    found = [digest for digest, _ in tokens(private) if hash_prefix and digest.startswith(hash_prefix)]
    if len(found) != 1:
        raise Refused(
            "token", "the start of one token's id (see: runfeed token list)", f"{len(found)} that match", status=404
        )
    key = keys.token(found[0])
    body, etag = private.read_versioned(key)
    record = msgspec.json.decode(body, type=Token)
    if record.revoked is None:
        record = msgspec.structs.replace(record, revoked=now)
        private.swap(key, msgspec.json.encode(record), etag=etag)
    return record


def token_for(private: Bucket, secret: str, now: datetime) -> Token:
    """The valid token whose text is `secret`; Refused 401 if it is unknown, expired or revoked."""
    try:
        record = msgspec.json.decode(private.read(keys.token(token_sha256(secret))), type=Token)
    except FileNotFoundError as error:
        raise Refused("Authorization", "a known token", "an unknown one", status=401) from error
    if record.revoked is not None:
        raise Refused("Authorization", "a valid token", f"one revoked at {record.revoked.isoformat()}", status=401)
    if record.expires is not None and record.expires <= now:
        raise Refused("Authorization", "a valid token", f"one expired at {record.expires.isoformat()}", status=401)
    return record


def check_scope(token: Token, project: str) -> None:
    """Refused 403 unless `token` may push to `project`."""
    if "*" not in token.projects and project not in token.projects:
        raise Refused("project", "one of the token's projects: " + ", ".join(token.projects), project, status=403)
