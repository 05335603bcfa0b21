"""Translate SttError to google.rpc.Status and back; the one table of gRPC status codes."""

from typing import NoReturn

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from services.common.errors import Reason, SttError

DOMAIN = "stt"

STATUS = {
    Reason.INVALID_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.UNKNOWN_MODEL: grpc.StatusCode.NOT_FOUND,
    Reason.MODEL_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.UNSUPPORTED_LANGUAGE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.LANGUAGE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.SHUTTING_DOWN: grpc.StatusCode.UNAVAILABLE,
    Reason.IDLE_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
    Reason.UNSUPPORTED_MEDIA: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.NO_AUDIO: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Reason.NO_CREDITS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.QUOTA_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.IDEMPOTENCY_CONFLICT: grpc.StatusCode.ABORTED,
}

# What a status without an ErrorInfo means: it came from the channel or a proxy, not from a service of ours.
_BARE = {
    grpc.StatusCode.UNAVAILABLE: Reason.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.OVERLOADED,
    grpc.StatusCode.INVALID_ARGUMENT: Reason.INVALID_REQUEST,
}
_BARE_MESSAGE = {
    Reason.SERVICE_UNAVAILABLE: "The {service} service cannot be reached.",
    Reason.DEADLINE_EXCEEDED: "The {service} service did not answer in time.",
}
_BARE_RETRY_AFTER_S = 5.0
_WRITE_FAILED = "Internal error from Core"
"""What grpc.aio says, with INTERNAL, where a write failed before anybody knew why: the connection broke."""


async def abort(context: "grpc.aio.ServicerContext[object, object]", error: SttError) -> NoReturn:
    """End the RPC with `error` as a google.rpc.Status with ErrorInfo and, where retryable, RetryInfo."""
    status = Status(code=STATUS[error.reason].value[0], message=error.message)
    info = Any()
    info.Pack(ErrorInfo(domain=DOMAIN, reason=error.reason))
    status.details.append(info)
    if error.retry_after_s is not None:
        retry = Any()
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        retry.Pack(RetryInfo(retry_delay=delay))
        status.details.append(retry)
    wire = rpc_status.to_status(status)
    await context.abort(wire.code, wire.details, wire.trailing_metadata)


def from_error(error: grpc.aio.AioRpcError, service: str) -> SttError:
    """Read back what `abort` wrote; a bare status of the channel becomes an error that names `service`."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # the error keeps what it reads of a call
    reason: Reason | None = None
    retry_after_s: float | None = None
    for detail in status.details if status else ():
        if detail.Is(ErrorInfo.DESCRIPTOR):
            info = ErrorInfo()
            detail.Unpack(info)
            if info.domain == DOMAIN and info.reason in Reason.__members__:
                reason = Reason[info.reason]
        elif detail.Is(RetryInfo.DESCRIPTOR):
            retry = RetryInfo()
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    if reason is not None:
        return SttError(reason, error.details() or "", retry_after_s=retry_after_s)
    code = grpc.StatusCode.UNAVAILABLE if error.details() == _WRITE_FAILED else error.code()
    reason = _BARE.get(code, Reason.INTERNAL)
    message = _BARE_MESSAGE.get(reason, "The {service} service failed.").format(service=service)
    return SttError(reason, message, retry_after_s=None if reason is Reason.INTERNAL else _BARE_RETRY_AFTER_S)
