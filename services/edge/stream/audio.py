"""The audio of one live session between its client and recognition: bounded in bytes, and watched for its age. Pure.

A client may send faster than real time: he is held back while the queue is full, and never told off for the wait he
caused. One who sends in real time cannot fill the queue unless recognition falls behind, and `lag_s` says how far.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from services.common.audio import MAX_MESSAGE_BYTES, SAMPLE_BYTES, SAMPLE_RATE, Flush

BYTES_PER_S = SAMPLE_RATE * SAMPLE_BYTES


class AudioQueue:
    """PCM in the portions of the client in, portions for a gRPC stream out.

    A frame is taken whole while fewer than `limit_bytes` wait, so one frame more may wait. `now` is a monotonic clock.
    """

    def __init__(self, limit_bytes: int, flush_after_s: float, now: Callable[[], float]) -> None:
        self.received_bytes = 0
        self.arrived_s = now()
        """When the client last sent audio, or could not be heard because he was held back."""
        self.taken_s = now()
        """When recognition last took audio, or there was none to take."""
        self.is_held = False
        """Whether the client is held back now."""
        self.is_ended = False
        self._limit_bytes = limit_bytes
        self._flush_after_s = flush_after_s
        self._now = now
        self._waiting = bytearray()
        self._in_flight_bytes = 0
        self._spoken_s = now()
        self._was_held = False
        self._changed_in = asyncio.Event()
        self._changed_out = asyncio.Event()

    @property
    def backlog_bytes(self) -> int:
        """What recognition has not taken yet."""
        return len(self._waiting) + self._in_flight_bytes

    @property
    def lag_s(self) -> float:
        """How long the oldest audio waits, beyond what a client causes who sends faster than real time."""
        if self._was_held or not self.backlog_bytes:
            return 0.0
        return self._now() - (self._spoken_s - self.backlog_bytes / BYTES_PER_S)

    @property
    def ahead_s(self) -> float:
        """How much longer somebody who speaks in real time would have taken to say what has come."""
        return max(0.0, self._spoken_s - self._now())

    async def put(self, data: bytes) -> None:
        """Add audio, after waiting for room; after `end` it is dropped."""
        try:
            while len(self._waiting) >= self._limit_bytes and not self.is_ended:
                self.is_held = self._was_held = True
                self._changed_out.clear()
                await self._changed_out.wait()
        finally:
            self.is_held = False
        if self.is_ended:
            return
        self.arrived_s = self._now()
        if not self.backlog_bytes:
            self.taken_s = self.arrived_s
            self._was_held = False
        # When somebody who speaks in real time would have said all of it.
        self._spoken_s = max(self._spoken_s, self.arrived_s) + len(data) / BYTES_PER_S
        self._waiting += data
        self.received_bytes += len(data)
        self._changed_in.set()

    def end(self) -> None:
        """Take no more audio; what waits is still given out."""
        self.is_ended = True
        self._changed_in.set()
        self._changed_out.set()

    def drop(self) -> None:
        """Take no more audio, and give out none of what waits."""
        self.end()
        self._waiting.clear()

    async def __aiter__(self) -> AsyncIterator[bytes | Flush]:
        """Yield audio until the end, and a flush wherever none came for `flush_after_s`."""
        while self._waiting or not self.is_ended:
            if not self._waiting:
                self._changed_in.clear()
                try:
                    async with asyncio.timeout(self._flush_after_s):
                        await self._changed_in.wait()
                except TimeoutError:
                    yield Flush()
                continue
            portion = bytes(self._waiting[:MAX_MESSAGE_BYTES])
            del self._waiting[:MAX_MESSAGE_BYTES]
            self._in_flight_bytes = len(portion)
            self._changed_out.set()
            yield portion
            # The next portion is asked for when the transport has accepted this one.
            self._in_flight_bytes = 0
            self.taken_s = self._now()
