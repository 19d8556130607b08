"""Checkpoints: whoever keeps a log signs its chain digest (Ed25519, RFC 8032), and anybody can check it.

What is signed is this text in UTF-8, each line ended by a line feed, the time in UTC with six digits of a second:

    runfeed checkpoint 1
    <log>
    <seq>
    <chain: 64 hexadecimal digits>
    <time: 2026-11-22T08:05:01.123456Z>
"""

import contextlib
from datetime import UTC, datetime

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from infra.bucket import Bucket
from schemas import keys
from schemas.errors import Refused
from schemas.records import Checkpoint

AUTHORITY_DIGITS = 32
"""Of a public key that a new log takes into its id."""


class Signer:
    """Signs for one installation."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.public_key = private_key.public_key().public_bytes_raw().hex()
        """64 hexadecimal digits."""

    @classmethod
    def of(cls, private: Bucket) -> "Signer":
        """With the key in the private bucket, which is made if there is none; of several at once one makes it."""
        with contextlib.suppress(FileNotFoundError):
            return cls(Ed25519PrivateKey.from_private_bytes(private.read(keys.SIGNING_KEY)))
        made = Ed25519PrivateKey.generate()
        with contextlib.suppress(FileExistsError):
            private.create(keys.SIGNING_KEY, made.private_bytes_raw())
        return cls(Ed25519PrivateKey.from_private_bytes(private.read(keys.SIGNING_KEY)))

    @property
    def authority(self) -> str:
        """What tells the logs of this installation from those of others."""
        return self.public_key[:AUTHORITY_DIGITS]

    def sign(self, log: str, seq: int, chain: str, time: datetime) -> Checkpoint:
        unsigned = Checkpoint(log=log, seq=seq, chain=chain, time=time, key=self.public_key, signature="")
        return msgspec.structs.replace(unsigned, signature=self._private_key.sign(signed_text(unsigned)).hex())


def signed_text(checkpoint: Checkpoint) -> bytes:
    """The bytes that the signature of `checkpoint` is of."""
    time = checkpoint.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    lines = ["runfeed checkpoint 1", checkpoint.log, str(checkpoint.seq), checkpoint.chain, time]
    return "".join(f"{line}\n" for line in lines).encode()


def check_signature(checkpoint: Checkpoint) -> None:
    """Refused if the key that `checkpoint` names has not signed it. Whether that is the right key is not asked."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(checkpoint.key))
        key.verify(bytes.fromhex(checkpoint.signature), signed_text(checkpoint))
    except (ValueError, InvalidSignature) as error:
        where = f"log {checkpoint.log}, checkpoint {checkpoint.seq}"
        raise Refused(where, f"a signature by the key {checkpoint.key[:16]}…", "another") from error
