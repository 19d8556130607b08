"""Log lines: structured, to standard error; readable on a terminal, JSON elsewhere, one object a line.

What a thread is at work on is bound once (`structlog.contextvars`): a loop its name, a worker the batch; each line of
that thread then says so, those of libraries too.
"""

import contextlib
import logging
import sys
from typing import TextIO, cast

import structlog


def configure_logs(level: str) -> None:
    """Set the level and the form for our loggers and the libraries'. Call once, at the program's entry."""
    number = logging.getLevelNamesMapping()[level.upper()]
    stream = cast(TextIO, _Unfailing(sys.stderr))
    terminal = sys.stderr.isatty()
    # Plain tracebacks: the rich ones print locals, and with them tokens from request headers.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer = plain if terminal else structlog.processors.JSONRenderer()
    ours: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if terminal else [structlog.processors.format_exc_info]),
    ]
    structlog.configure(
        processors=[*ours, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *ours],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=number, handlers=[handler])
    for name in ("httpx", "httpcore"):  # they log whole addresses, and whoever knows a callback's can write to it
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


class _Unfailing:
    """A stream whose failures stay here: a full disk under the log must not turn an answer into an error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()
