"""Logs: readable lines on a terminal, one JSON object a line otherwise, on standard error."""

import json
import logging
import sys
from typing import Any

import msgspec
import structlog

from devnest.streams import BackgroundStream

__all__ = ["configure_logging", "request_log"]

log = structlog.get_logger("devnest.logs")


def request_log() -> Any:
    """A logger for one line a request: the same form as all others, without the standard library's machinery.

    That is a third of the time; `configure_logging` comes first.
    """
    if sys.stderr.isatty() or not logging.getLogger("devnest").isEnabledFor(logging.INFO):
        return structlog.stdlib.get_logger(
            "devnest.api.access"
        ).bind()  # bound now, not at each line
    return structlog.wrap_logger(
        _Lines(sys.stderr)
        if isinstance(sys.stderr, BackgroundStream)
        else structlog.BytesLogger(sys.stderr.buffer),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=_to_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    ).bind(logger="devnest.api.access")


class _Lines:
    """What structlog gives its lines to."""

    def __init__(self, stream: BackgroundStream) -> None:
        self._put = stream.put

    def info(self, line: bytes) -> None:
        """Write one, without the newline it lacks."""
        self._put(line + b"\n")


def _to_json(event: structlog.typing.EventDict, **_: object) -> bytes:
    try:
        return msgspec.json.encode(event)
    except (TypeError, ValueError):  # half a surrogate pair in a text, an object of no JSON type
        return json.dumps(event, default=repr).encode()


def _tell_dropped(lines: int) -> None:
    log.warning("log lines dropped", lines=lines)


def configure_logging(level: str = "info") -> None:
    """Send this process's log, and that of the libraries, through structlog. `level`: debug, info, warning or error."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if sys.stderr.isatty():
        last: list[structlog.typing.Processor] = [
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        ]
    else:
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(
            show_locals=False
        )  # locals hold passwords
        last = [
            structlog.processors.ExceptionRenderer(tracebacks),
            structlog.processors.JSONRenderer(),
        ]
    if isinstance(sys.stderr, BackgroundStream):
        sys.stderr.on_dropped = _tell_dropped
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)  # of libraries, about a password file that others can read, say
    logging.getLogger(
        "uvicorn.access"
    ).disabled = True  # the API writes its own line, with the request id
    for chatty in ("asyncio", "uvicorn", "uvicorn.error", "sqlalchemy", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # What the level leaves out ends in an empty function: a request has two such lines.
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        cache_logger_on_first_use=True,
    )
