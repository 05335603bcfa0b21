"""Work whose replica went away before it was done: another one does it, from the start."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from services.common.errors import Reason, SttError

_LOST = frozenset({Reason.SERVICE_UNAVAILABLE, Reason.SHUTTING_DOWN})
_Result = TypeVar("_Result")
_log = structlog.get_logger(__name__)


async def repeated(
    work: Callable[[], Awaitable[_Result]], may_repeat: Callable[[], bool] = lambda: True, level: int = logging.INFO
) -> _Result:
    """Return what `work` does, which is done again where a replica is lost over it and `may_repeat` still says so.

    Twice is all, whatever the reason: work that brings replicas down brings down two. Each time has its whole deadline.
    `level` is how loudly a loss is logged.
    """
    try:
        return await work()
    except SttError as error:
        if error.reason not in _LOST or not may_repeat():
            raise
        _log.log(level, "replica lost, asking once more", reason=str(error.reason), message=error.message)
    return await work()
