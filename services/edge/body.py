"""A request's body as it comes from a client that may be slow, silent or endless: counted, timed and capped."""

import asyncio
from typing import Any

from aiohttp import web

from services.common.errors import Reason, SttError
from services.edge.errors import invalid

READ_BYTES = 65_536


async def defer_continue(request: web.Request) -> None:
    """Leave `Expect: 100-continue` to the body's first read: who is refused by the head need not send it."""


class Body:
    """The part of aiohttp's StreamReader that its MultipartReader reads, within limits.

    `limit_bytes` is what may have been read by now, and `too_large` the error past it; both may be moved on the way.
    Silence, and a body that trickles, end with IDLE_TIMEOUT.
    """

    def __init__(
        self, request: web.Request, idle_s: float, min_rate: int, limit_bytes: int, too_large: SttError
    ) -> None:
        self.limit_bytes = limit_bytes
        self.too_large = too_large
        self._request = request
        self._content = request.content
        self._is_awaited = request.headers.get("Expect", "").lower() == "100-continue"
        self._idle_s = idle_s
        self._min_rate = min_rate
        self._count_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._started_s = self._loop.time()

    async def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end."""
        return await self._limited(self._content.read(size))

    async def readline(self, **limits: int) -> bytes:
        """Return the bytes up to and with the next newline."""
        return await self._limited(self._content.readline(**limits))

    def unread_data(self, data: bytes) -> None:
        """Take back what was read too far."""
        self._count_bytes -= len(data)
        self._content.unread_data(data)

    def at_eof(self) -> bool:
        """Say whether everything was read."""
        return self._content.at_eof()

    async def read_all(self) -> bytes:
        """Return the whole body, in memory."""
        pieces = bytearray()
        while piece := await self.read(READ_BYTES):
            pieces += piece
        return bytes(pieces)

    async def _limited(self, reading: Any) -> bytes:
        if self._is_awaited:
            self._is_awaited = False
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._request.writer.output_size = 0  # the answer itself has not begun
        try:
            async with asyncio.timeout(self._idle_s):
                data: bytes = await reading
        except TimeoutError:
            raise SttError(Reason.IDLE_TIMEOUT, f"Nothing was sent for {self._idle_s:g} seconds.") from None
        except web.RequestPayloadError:
            raise invalid("The request's body is damaged.") from None
        self._count_bytes += len(data)
        if self._count_bytes > self.limit_bytes:
            raise self.too_large
        elapsed_s = self._loop.time() - self._started_s
        if elapsed_s > self._idle_s and self._count_bytes < self._min_rate * elapsed_s:
            raise SttError(Reason.IDLE_TIMEOUT, f"The body comes with fewer than {self._min_rate} bytes a second.")
        return data
