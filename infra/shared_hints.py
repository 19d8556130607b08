"""Hints that reach other processes: what one signals, all hear at once, through Redis' publish and subscribe.

Like all hints they promise nothing. Nobody waits for Redis to signal, and without it each looks by itself.
"""

import secrets
import threading
from typing import Any

import redis
import structlog

from infra.broker import namespace_of, redis_client
from infra.hints import Hints
from infra.settings import Settings

_PAUSE_SECONDS = 0.05  # between two publications: a thousand uploads a second are one hint
_RETRY_SECONDS = 1.0

_log = structlog.get_logger()


class SharedHints(Hints):
    """Hints of one installation. `close` ends its two threads."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._client = redis_client(settings.redis)
        self._channel = f"{namespace_of(settings)}:hints"
        self._me = secrets.token_hex(8)
        self._to_publish: set[str] = set()
        self._wanted = threading.Condition()
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._publish, self._listen)]
        for thread in self._threads:
            thread.start()

    def signal(self, name: str) -> None:
        super().signal(name)
        with self._wanted:
            self._to_publish.add(name)
            self._wanted.notify()

    def close(self) -> None:
        self._closing.set()
        with self._wanted:
            self._wanted.notify()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def _publish(self) -> None:
        while not self._closing.is_set():
            with self._wanted:
                self._wanted.wait_for(lambda: self._to_publish or self._closing.is_set())
                names, self._to_publish = self._to_publish, set()
            try:
                for name in names:
                    self._client.publish(self._channel, f"{self._me} {name}")
            except redis.RedisError:
                self._closing.wait(_RETRY_SECONDS)  # these hints are lost
            self._closing.wait(_PAUSE_SECONDS)

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                with self._client.pubsub(ignore_subscribe_messages=True) as heard:  # type: ignore[no-untyped-call]
                    heard.subscribe(self._channel)
                    while not self._closing.is_set():
                        self._hear(heard.get_message(timeout=_RETRY_SECONDS))
            except redis.RedisError as error:
                _log.info("no hints from other processes", error=str(error))
                self._closing.wait(_RETRY_SECONDS)

    def _hear(self, message: dict[str, Any] | None) -> None:
        if message is None:
            return
        sender, _, name = message["data"].decode(errors="replace").partition(" ")
        if sender != self._me:
            super().signal(name)
