"""What happens around every RPC of a server: request id, span, metrics, one log line, errors as google.rpc.Status."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
import structlog

from services.common import tracing
from services.common.errors import Reason, SttError
from services.common.rpc_errors import abort
from services.common.service_metrics import REQUEST_DURATION, REQUESTS
from services.common.tracing import REQUEST_ID_KEY

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
        headers = {key: value for key, value in handler_call_details.invocation_metadata if isinstance(value, str)}

        async def streaming(request: Any, context: Any) -> AsyncIterator[Any]:
            call = _Call(method, headers)
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
            call = _Call(method, headers)
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
    """One RPC's log line, span and metrics."""

    def __init__(self, method: str, headers: Mapping[str, str]) -> None:
        self._started = time.monotonic()
        request_id = tracing.request_id(headers.get(REQUEST_ID_KEY, ""))
        structlog.contextvars.bind_contextvars(request_id=request_id)
        _, service, self._name = method.split("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": self._name, "request.id": request_id}
        self._span = tracing.begin(method.removeprefix("/"), headers, attributes)
        self._log = _log.bind(method=method)

    def ended(self, outcome: str, level: int = logging.INFO, **fields: object) -> None:
        seconds = time.monotonic() - self._started
        REQUESTS.labels(self._name, fields.get("reason", outcome)).inc()
        REQUEST_DURATION.labels(self._name).observe(seconds)
        self._log.log(level, "rpc", outcome=outcome, seconds=round(seconds, 3), **fields)
        self._span.set_attribute("rpc.outcome", str(fields.get("reason", outcome)))
        self._span.end()

    async def failed(self, error: BaseException, context: Any) -> None:
        """Log `error` once, and either abort the RPC with it or raise it again; never returns normally."""
        if isinstance(error, SttError):
            tracing.fail(self._span, error.message)
            self.ended("error", reason=str(error.reason), message=error.message)
            await abort(context, error)
        if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            self._log.error("rpc failed", exc_info=error)
            tracing.fail(self._span, "internal")
            self.ended("error", reason=str(Reason.INTERNAL))
            await abort(context, SttError(Reason.INTERNAL, "The service failed; the failure was logged."))
        self.ended("cancelled")
        raise error
