"""The part of a connection below the application: what is not even HTTP is answered in JSON too, and logged tersely.

aiohttp answers it with text that repeats the caller's bytes, and logs them with a traceback; a header may be a secret.
When it stops listening it leaves connections open that it no longer serves, and hears live sessions no more.
"""

import uuid
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from services.edge import errors
from services.edge.metrics import ERRORS, count_request

_log = structlog.get_logger(__name__)


class Runner(web.AppRunner):
    """Serves an application over connections of ours."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return _Server(server.request_handler, request_factory=server.request_factory, **self._kwargs)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    def pre_shutdown(self) -> None:
        """Let connections serve what they are at, live sessions too, and no request after it."""
        for connection in self.connections:
            assert isinstance(connection, _Connection)
            connection.leave()


class _Connection(web.RequestHandler):
    _is_leaving = False

    def leave(self) -> None:
        """Close now where no request is being served, otherwise after it."""
        self._is_leaving = True
        if self._waiter is not None and not self._messages:
            self.force_close()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep open what a live session's client may still listen on; others who send no more are done."""
        if self._payload_parser is None:
            return False
        self._payload_parser.feed_eof()
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer, or what of it is not sent yet."""
        if self._is_leaving:
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
        if status >= 500:
            text, code = "The server failed; the failure was logged.", "INTERNAL"
        ERRORS.labels(code).inc()
        count_request("other", "other", status, 0.0)
        response = web.json_response(errors.body(text, code, uuid.uuid4().hex), status=status)
        response.force_close()
        return response
