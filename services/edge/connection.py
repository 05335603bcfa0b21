"""The part of a connection below the application: what is not even HTTP is answered in JSON too, and logged tersely.

aiohttp answers it with text that repeats the caller's bytes, and logs them with a traceback; a header may be a secret.
When it stops listening it leaves connections open that it no longer serves, and hears live sessions no more.

It also takes callers for gone who have only ended their own side (`shutdown(SHUT_WR)`, `nc -N`) and wait for an answer.
Both look the same until something is sent: then the network tells who is gone. So where a caller's side ends, the bytes
that every answer begins with are sent at once, and the rest of the answer when it is there.
"""

import asyncio
import socket
import uuid
from functools import partial
from typing import Any

import structlog
from aiohttp import HttpVersion, StreamReader, hdrs, web
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict

from services.edge import errors
from services.edge.metrics import ERRORS, count_request

_PROBE_S = 0.1
_log = structlog.get_logger(__name__)


class Runner(web.AppRunner):
    """Serves an application over connections of ours."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        make_request = partial(_make_request, server.request_factory)
        return _Server(server.request_handler, request_factory=make_request, **self._kwargs)


def _make_request(
    make: Any, message: RawRequestMessage, content: StreamReader, connection: "Connection", _: Any, task: Any
) -> web.BaseRequest:
    connection.content = content
    connection.writer = _Writer(connection, message.version)
    request: web.BaseRequest = make(message, content, connection, connection.writer, task)
    return request


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def pre_shutdown(self) -> None:
        """Let connections serve what they are at, live sessions too, and no request after it."""
        for connection in self.connections:
            assert isinstance(connection, Connection)
            connection.leave()


class _Writer(StreamWriter):
    """Writes an answer, whose first bytes may be sent before its status is known."""

    def __init__(self, connection: web.RequestHandler, version: HttpVersion) -> None:
        super().__init__(connection, asyncio.get_running_loop())
        self._opening = f"HTTP/{version.major}.{version.minor} "
        self._is_open = self._has_head = False

    def open(self) -> None:
        """Send what any answer begins with, where nothing of it is sent yet."""
        if self.transport is not None and not self._is_open and not self._has_head:
            self._is_open = True
            self.transport.write(self._opening.encode())

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        """Write the head, which does not tell what serves."""
        headers.popall(hdrs.SERVER, None)
        self._has_head = True
        await super().write_headers(status_line.removeprefix(self._opening if self._is_open else ""), headers)

    async def write(self, chunk: Any, **arguments: Any) -> None:
        """Write a part of the body, or before the head `100 Continue`: not into an answer that is open."""
        if self._has_head or not self._is_open:
            await super().write(chunk, **arguments)


class Connection(web.RequestHandler):
    """A caller's connection; `half_closed` says that he sends no more, and may be gone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.content: StreamReader | None = None
        """The body of the latest request, and what writes its answer."""
        self.writer: _Writer | None = None
        self.half_closed = asyncio.Event()
        self._is_leaving = False

    @property
    def _is_idle(self) -> bool:
        """Whether no request is being served."""
        return self._waiter is not None and not self._messages

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio closes the connection unless it is true
        """Go on with requests that came whole, and with a live session, whose client may still listen."""
        if self._payload_parser is not None:
            self._payload_parser.feed_eof()
            return True
        content = self._messages[-1][1] if self._messages else self.content
        if self._upgraded or self._is_idle or content is None or not content.is_eof():
            return False
        if not self.half_closed.is_set():
            self.half_closed.set()
            self._probe()
        return True

    def _probe(self) -> None:
        """Look from time to time whether the network has told that the caller is gone."""
        if self.transport is None:
            return
        wire: socket.socket = self.transport.get_extra_info("socket")
        if wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        elif self._is_idle:
            self.force_close()
        else:
            if self.writer is not None:
                self.writer.open()
            self._loop.call_later(_PROBE_S, self._probe)

    def leave(self) -> None:
        """Close now where no request is being served, otherwise after it."""
        self._is_leaving = True
        if self._is_idle:
            self.force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer, or what of it is not sent yet."""
        if self._is_leaving or (self.half_closed.is_set() and not self._messages):
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Log a caller's mistake without what he sent."""
        error = kwargs.get("exc_info")
        if isinstance(error, HttpProcessingError | web.RequestPayloadError):
            _log.info("malformed request", error=type(error).__name__)
        else:
            super().log_exception(*args, **kwargs)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what never became a request, and close the connection."""
        self.log_exception("a request failed outside its handler", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is sent already")
        text, code = "The request is not valid HTTP.", "INVALID_REQUEST"
        if isinstance(exc, LineTooLong):
            text = "A line of the request's head is too long."
        if isinstance(exc, ContentEncodingError):
            status, text, code = 415, errors.UNKNOWN_ENCODING, "UNSUPPORTED_MEDIA_TYPE"
        if status >= 500:
            text, code = "The server failed; the failure was logged.", "INTERNAL"
        ERRORS.labels(code).inc()
        count_request("other", "other", status, 0.0)
        response = web.json_response(errors.body(text, code, uuid.uuid4().hex), status=status)
        response.force_close()
        return response
