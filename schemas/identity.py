"""Identities of runs, environments and series: hashes of what makes two of them the same. Pure.

24 hexadecimal digits (96 bits) of SHA-256 over canonical JSON, so that the same facts give the same name on every
machine, in every replay.
"""

import hashlib
from json.encoder import encode_basestring_ascii
from typing import Any

from schemas.canonical import canonical_encoder
from schemas.records import Machine

_ENCODE = canonical_encoder(ensure_ascii=True)


def digest24(*facts: Any) -> str:
    """24 hexadecimal digits of `facts`, which must be JSON values."""
    return hashlib.sha256(_ENCODE(facts).encode()).hexdigest()[:24]


def run_id(submission_id: str, ordinal: int) -> str:
    """The `ordinal`-th run (from 0) of a submission."""
    return digest24("run", submission_id, ordinal)


def chunked_run_id(project: str, group: str, ordinal: int) -> str:
    """Chunks of one group carry the same run id, whoever sends them and when."""
    return digest24("chunked-run", project, group, ordinal)


def environment_id(name: str, machine: Machine) -> str:
    """The fingerprint: the declared name alone if there is one, else the machine's parts."""
    if name:
        return digest24("environment", name)
    return digest24("machine", machine.cpu, machine.cores, machine.ram_gib, machine.os, machine.runtime)


def environment_title(name: str, machine: Machine) -> str:
    """What to call an environment where there is room for one line."""
    parts = [
        machine.cpu,
        f"{machine.cores} cores" if machine.cores else "",
        f"{machine.ram_gib} GiB" if machine.ram_gib else "",
        machine.os,
        machine.runtime,
    ]
    return name or ", ".join(part for part in parts if part) or "unknown"


def series_id(
    *,
    project: str,
    benchmark: str,
    params: str,
    metric: str,
    unit: str,
    better: str,
    benchmark_version: str,
    environment: str,
) -> str:
    """Only measurements that agree in all of these are ever compared in one line."""
    # As `digest24` writes them, at a fifth of its cost: each measurement has a series, and all facts are text.
    text = encode_basestring_ascii
    facts = (
        f'["series",{text(project)},{text(benchmark)},{text(params)},{text(metric)},{text(unit)},{text(better)}'
        f",{text(benchmark_version)},{text(environment)}]"
    )
    return hashlib.sha256(facts.encode()).hexdigest()[:24]
