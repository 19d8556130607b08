"""Which coding a reader gets, and that it is told apart from the others."""

import gzip

import pytest
import zstandard

from infra.compression import LEAST_BYTES, MOST_BYTES, coding_for, compressed

BODY = b"<entry/>" * LEAST_BYTES


@pytest.mark.parametrize(
    ("accepts", "coding"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("zstd;q=0.5, gzip;q=0.8", "gzip"),
        ("zstd ; q=0 , gzip", "gzip"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0.000", "identity"),
        ("*", "zstd"),
        ("*;q=0", "identity"),
        ("zstd;q=0, *;q=0.1", "gzip"),
        ("identity", "identity"),
        ("identity;q=1, gzip;q=0.5", "identity"),
        ("identity;q=0.5, gzip;q=1", "gzip"),
        ("identity;q=0, br", "identity"),
        ("br, deflate", "identity"),
        ("gzip;q=7", "identity"),
        ("gzip;level=9", "identity"),
        (";;,=,gzip", "gzip"),
        ("\x00", "identity"),
    ],
)
def test_the_coding_is_the_one_that_the_reader_wants_most(accepts: str | None, coding: str) -> None:
    assert coding_for(accepts, LEAST_BYTES) == coding


def test_what_is_too_small_or_too_large_goes_out_as_it_is() -> None:
    found = {size: coding_for("gzip", size) for size in (0, LEAST_BYTES - 1, LEAST_BYTES, MOST_BYTES, MOST_BYTES + 1)}
    assert list(found.values()) == ["identity", "identity", "gzip", "gzip", "identity"]


def test_each_coding_has_its_own_etag_and_says_what_it_varies_with() -> None:
    plain, headers, etag = compressed(BODY, None, '"7"')
    assert (plain, headers, etag) == (BODY, {"Vary": "Accept-Encoding"}, '"7"')
    packed, headers, etag = compressed(BODY, "gzip", '"7"')
    assert (gzip.decompress(packed), etag) == (BODY, '"7-gzip"')
    assert headers == {"Vary": "Accept-Encoding", "Content-Encoding": "gzip"}
    packed, headers, etag = compressed(BODY, "zstd", '"7"')
    assert (zstandard.ZstdDecompressor().decompress(packed), etag) == (BODY, '"7-zstd"')
    assert headers["Content-Encoding"] == "zstd"


def test_the_same_body_gives_the_same_bytes() -> None:
    """Or a strong ETag would lie."""
    for accepts in ("gzip", "zstd"):
        assert compressed(BODY, accepts, '"7"') == compressed(BODY, accepts, '"7"')
