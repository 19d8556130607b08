"""What is fuzzed: functions of bytes that raise, or assert, if anything but the promised comes of them."""

import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from types import ModuleType

from feed import atom, index
from feed.hub import requests as hub_requests
from ingest.source import feed as source_feed
from processor import slices, validation
from processor.formats import wptreport
from processor.formats.registry import FORMATS
from processor.reading import archive, decode, instants, mended, shape, withheld
from schemas import own_schema, records
from schemas.keys import OWN_SCHEMA
from tests.any_bytes import assert_tables_or_named_problems, assert_the_same_again
from tests.fuzz import logs, planted, seeds
from tests.fuzz.cuts import check_joined, check_slices, slice_seeds
from tests.fuzz.material import Material
from tests.fuzz.mutation import Mutate, changed, changed_behind
from tests.fuzz.own_schemas import check_own_schema, schema_seeds
from tests.fuzz.packed import archive_seeds, check_archive, check_decoded, packed_seeds


@dataclass(frozen=True)
class Target:
    """`check` raises for bytes that show a fault. `modules` are those whose words are worth putting in."""

    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    format: str = ""
    modules: tuple[ModuleType, ...] = ()
    changed: Callable[[bytes, int, Random, Material, Mutate], bytes] = changed


def _format_check(format: str) -> Callable[[bytes], None]:
    def check(data: bytes) -> None:
        result = assert_tables_or_named_problems(data, format)
        if zlib.crc32(data) % 8 == 0:
            assert_the_same_again(data, format, result)

    return check


def _of_format(format: str) -> Target:
    modules = [sys.modules[one.read.__module__] for one in FORMATS.values() if format in (one.id, "auto")]
    common = (mended, shape, instants, withheld)
    return Target(_format_check(format), lambda: seeds.golden(format), format, (*modules, *common))


TARGETS: dict[str, Target] = {
    "auto": _of_format("auto"),
    **{id: _of_format(id) for id in FORMATS if id != OWN_SCHEMA},
    OWN_SCHEMA: Target(
        check_own_schema,
        schema_seeds,
        modules=(own_schema, validation, sys.modules[FORMATS[OWN_SCHEMA].read.__module__]),
    ),
    "decoded": Target(check_decoded, packed_seeds, modules=(decode,)),
    "archive": Target(check_archive, archive_seeds, modules=(archive,)),
    "slices": Target(check_slices, slice_seeds, modules=(slices,), changed=changed_behind),
    "joined": Target(check_joined, slice_seeds, modules=(slices, wptreport), changed=changed_behind),
    "log-document": Target(logs.check_document, logs.document_seeds, modules=(atom,)),
    "log-index": Target(logs.check_index, logs.index_seeds, modules=(index, records)),
    "hub-form": Target(logs.check_form, logs.form_seeds, modules=(hub_requests,)),
    "source-feed": Target(logs.check_source, logs.source_seeds, modules=(source_feed,)),
}
"""By name: a format's id, or what else is read."""

PLANTED = "planted"
TESTED: dict[str, Target] = {
    **TARGETS,
    PLANTED: Target(planted.check_planted, lambda: [planted.SEED], modules=(planted,)),
}
"""With the one that must fail."""
