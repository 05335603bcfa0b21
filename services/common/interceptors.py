"""What happens around every RPC of a server: request id, one log line, errors as google.rpc.Status."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import structlog

from services.common.errors import Reason, SttError
from services.common.rpc_errors import abort

REQUEST_ID_KEY = "x-request-id"
_QUIET_SERVICES = ("/grpc.health.", "/grpc.reflection.")
_log = structlog.get_logger(__name__)


class RequestInterceptor(grpc.aio.ServerInterceptor):
    """Wraps response-streaming and unary handlers; a streaming handler must be an async generator."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Replace our services' handlers by reporting ones."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_QUIET_SERVICES):
            return handler
        metadata = dict(handler_call_details.invocation_metadata)
        request_id = str(metadata.get(REQUEST_ID_KEY, ""))

        async def streaming(request: Any, context: Any) -> AsyncIterator[Any]:
            call = _Call(method, request_id)
            try:
                # A handler that is left early ends now, not when it is collected.
                async with aclosing(behavior(request, context)) as responses:
                    async for response in responses:
                        yield response
            except BaseException as error:
                await call.failed(error, context)
            else:
                call.ended("ok")

        async def unary(request: Any, context: Any) -> Any:
            call = _Call(method, request_id)
            try:
                response = await behavior(request, context)
            except BaseException as error:
                await call.failed(error, context)
            else:
                call.ended("ok", level=logging.DEBUG)  # a look at something, such as the list of models
                return response

        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        behavior = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        wrapped = streaming if handler.response_streaming else unary
        return make(wrapped, handler.request_deserializer, handler.response_serializer)


class _Call:
    """One RPC's log line."""

    def __init__(self, method: str, request_id: str) -> None:
        self._started = time.monotonic()
        self._log = _log.bind(method=method, request_id=request_id)
        structlog.contextvars.bind_contextvars(request_id=request_id)

    def ended(self, outcome: str, level: int = logging.INFO, **fields: object) -> None:
        self._log.log(level, "rpc", outcome=outcome, seconds=round(time.monotonic() - self._started, 3), **fields)

    async def failed(self, error: BaseException, context: Any) -> None:
        """Log `error` once, and either abort the RPC with it or raise it again; never returns normally."""
        if isinstance(error, SttError):
            self.ended("error", reason=str(error.reason), message=error.message)
            await abort(context, error)
        if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            self._log.error("rpc failed", exc_info=error)
            await abort(context, SttError(Reason.INTERNAL, "The service failed; the failure was logged."))
        self.ended("cancelled")
        raise error
