"""Fixtures that all tests share: real servers, started once per session. Absent ones skip at home and fail in CI."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.browser import chromium
from tests.servers import S3Server, ServerAbsent, seaweedfs

__all__ = ["chromium"]  # a fixture; registered once, since one thread can drive one browser only

settings.register_profile("runfeed", deadline=None)  # shared machines stall; pytest-timeout bounds the whole test
settings.load_profile("runfeed")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server for this session; take a bucket name of your own."""
    server = seaweedfs(tmp_path_factory.mktemp("s3"))
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
