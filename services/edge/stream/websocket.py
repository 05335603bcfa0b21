"""A live session's WebSocket as aiohttp speaks it: frames in, messages out, pings, limits, and how to close."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Sequence

from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from services.common.errors import Reason, SttError
from services.edge import errors
from services.edge.errors import invalid
from services.edge.stream.dialects import Message, encode, error_message

_MAX_FRAME_BYTES = 1024 * 1024
_RECEIVE_BUFFER_BYTES = 64 * 1024
"""What the kernel takes in ahead of us (it doubles the figure); a ping waits behind it."""
_CLOSE_S = 5.0
_LINGER_S = 2.0
_TCP_ESTABLISHED, _TCP_CLOSE_WAIT = 1, 8


class WebSocket(web.WebSocketResponse):
    """The server's end of a session's socket; a `contact.Peer`."""

    def __init__(self, write_timeout_s: float) -> None:
        # aiohttp refuses messages of max_msg_size, too.
        super().__init__(timeout=_CLOSE_S, autoping=False, compress=False, max_msg_size=_MAX_FRAME_BYTES + 1)
        self._write_timeout_s = write_timeout_s
        self._now = asyncio.get_running_loop().time
        self._transport: asyncio.Transport | None = None
        self._is_receiving = False
        self._is_broken = False
        self.is_readable = True
        self.heard_s = self.told_s = self._now()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Answer the upgrade."""
        self._transport = request.transport
        if (wire := self.get_wire()) is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        return await super().prepare(request)

    def get_wire(self) -> socket.socket | None:
        """Return the TCP socket, None when the connection is lost."""
        return None if self._transport is None else self._transport.get_extra_info("socket")

    async def receive_frame(self) -> str | bytes:
        """Return the next text or binary frame, answering pings on the way.

        SttError where it cannot be read, EOFError where the client has shut down his side of the connection only,
        ConnectionError where he has closed.
        """
        while True:
            self._is_receiving = True
            try:
                message = await self.receive()
            finally:
                self._is_receiving = False
            self.heard_s = self._now()
            match message.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    content: str | bytes = message.data
                    return content
                case WSMsgType.PING:
                    await self._timely(self.pong(message.data))
                case WSMsgType.PONG:
                    pass
                case WSMsgType.ERROR if not self.closed:
                    self._is_broken, self.is_readable = True, False
                    raise _unreadable(getattr(message.data, "code", None))
                case WSMsgType.CLOSED if not self.closed:
                    self.is_readable = False
                    raise EOFError
                case _:
                    raise ConnectionResetError("the client has closed")

    async def send_message(self, message: Message) -> None:
        """Send a message; ConnectionAbortedError where the client does not read on in time."""
        self.told_s = self._now()
        await self._timely(self.send_str(encode(message)))

    async def send_ping(self) -> None:
        """Ask for a sign of life."""
        await self._timely(self.ping())

    async def send_pong(self) -> None:
        """Send what asks for no answer: who has shut down his side could give none."""
        await self._timely(self.pong())

    def is_gone(self) -> bool:
        """Ask the kernel whether the client has hung up: aiohttp does not hear of it while it reads nothing.

        Who has only shut down his side has not; one who has closed it looks like that until something is sent to him.
        """
        wire = self.get_wire()
        if wire is None or wire.fileno() < 0:
            return True
        return wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] not in (_TCP_ESTABLISHED, _TCP_CLOSE_WAIT)

    async def fail(self, error: SttError, request_id: str, warnings: Sequence[str]) -> None:
        """Tell the client why, and close with the code for it."""
        await self.send_message(error_message(error, request_id, warnings))
        code = errors.CLOSE_CODES[error.reason]
        if self._is_broken:
            # aiohttp would cut the line at once, and what is on its way from the client would take our reason along.
            await self.send_frame(struct.pack("!H", code), WSMsgType.CLOSE)
            await asyncio.sleep(_LINGER_S)
            self.abort()
        else:
            await self._timely(self.close(code=code))

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close; `receive` by itself does so only where the client closes: others are first told what is left."""
        if self._is_receiving and not self._closing:
            return False
        return await super().close(code=code, message=message, drain=drain)

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    async def _timely(self, writing: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await writing
        except TimeoutError:
            self.abort()
            raise ConnectionAbortedError("the client does not read") from None


def _unreadable(code: object) -> SttError:
    match code:
        case WSCloseCode.MESSAGE_TOO_BIG:
            return SttError(Reason.TOO_LARGE, f"A frame has more than {_MAX_FRAME_BYTES:,} bytes, the limit.")
        case WSCloseCode.INVALID_TEXT:
            return invalid("A text frame is not UTF-8.")
        case _:
            return invalid("A frame breaks the WebSocket protocol.")
