"""How many requests of a kind are taken at once; more are refused, not queued."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from services.common import metrics
from services.common.errors import Reason, SttError
from services.common.service_metrics import REQUESTS_LIMIT

_LABELS = {"recordings": "recording", "live sessions": "live", "texts": "text"}


class Places:
    """So many places for each kind of request, where "recordings" or "texts" are being `done` ("transcribed")."""

    def __init__(self, room: Mapping[str, int], done: str, retry_after_s: float) -> None:
        self._room = dict(room)
        self._done = done
        self._retry_after_s = retry_after_s
        self._taken = dict.fromkeys(room, 0)
        for kind, limit in room.items():
            REQUESTS_LIMIT.labels(_LABELS[kind]).set(limit)
            metrics.REQUESTS_RUNNING.labels(_LABELS[kind])

    def check(self, kind: str) -> None:
        """Raise SttError (OVERLOADED) where there is no place."""
        taken = self._taken[kind]
        if taken >= self._room[kind]:
            message = f"{taken} {kind} are being {self._done}, as many as the service takes."
            raise SttError(Reason.OVERLOADED, message, retry_after_s=self._retry_after_s)

    @asynccontextmanager
    async def taken(self, kind: str) -> AsyncIterator[None]:
        """Take a place while the body runs; raises SttError (OVERLOADED) where there is none."""
        self.check(kind)
        self._taken[kind] += 1
        try:
            with metrics.running(_LABELS[kind]):
                yield
        finally:
            self._taken[kind] -= 1
