"""Fixtures that all tests share: real servers, started once per session. Absent ones skip at home and fail in CI."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

import pytest
from hypothesis import settings

from tests.browser import chromium
from tests.servers import RedisServer, S3Server, ServerAbsent, seaweedfs, valkey

__all__ = ["chromium"]  # a fixture; registered once, since one thread can drive one browser only

settings.register_profile("runfeed", deadline=None)  # shared machines stall; pytest-timeout bounds the whole test
settings.load_profile("runfeed")


T = TypeVar("T")


def _started(server: AbstractContextManager[T]) -> Iterator[T]:
    """The running server; where it cannot be started, tests skip at home and fail in CI."""
    try:
        running = server.__enter__()
    except ServerAbsent as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    try:
        yield running
    finally:
        server.__exit__(None, None, None)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server for this session; take a bucket name of your own."""
    yield from _started(seaweedfs(tmp_path_factory.mktemp("s3")))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis for this session, with a password; who empties it starts one of its own."""
    yield from _started(valkey(tmp_path_factory.mktemp("redis")))
