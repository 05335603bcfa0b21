"""Structured logs to standard error: events with fields, never audio, text, tokens or query strings."""

import asyncio
import logging
import sys
from functools import partial

import structlog

from services.common.tracing import add_trace_id


def configure(level: str, fmt: str, program: str) -> None:
    """Send structlog and the standard library's logging through one renderer.

    `level` is a logging level's name, `fmt` is "console" or "json"; `program` is a field of every JSON line, while the
    console's reader sees whose it is.
    """
    is_json = fmt == "json"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_trace_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if is_json else "%H:%M:%S", utc=is_json),
    ]
    renderer: structlog.typing.Processor
    if is_json:
        shared += [partial(_add_program, program), structlog.processors.format_exc_info]
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # grpc logs a traceback for each RPC that is still running when a server's grace is over.
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_not_cancellation)


def _add_program(
    program: str, logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    event["program"] = program
    return event


def _is_not_cancellation(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
