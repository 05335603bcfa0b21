"""How errors look over HTTP and a WebSocket: the tables from reason to status and to close code, the JSON. Pure."""

import math

from services.common.errors import Reason, SttError

STATUS = {
    Reason.INVALID_REQUEST: 400,
    Reason.UNKNOWN_MODEL: 400,
    Reason.MODEL_UNAVAILABLE: 503,
    Reason.UNSUPPORTED_LANGUAGE: 400,
    Reason.LANGUAGE_UNAVAILABLE: 503,
    Reason.OVERLOADED: 503,
    Reason.SHUTTING_DOWN: 503,
    Reason.IDLE_TIMEOUT: 408,
    Reason.TOO_LARGE: 413,
    Reason.INTERNAL: 500,
    Reason.UNSUPPORTED_MEDIA: 400,
    Reason.NO_AUDIO: 400,
    Reason.SERVICE_UNAVAILABLE: 503,
    Reason.DEADLINE_EXCEEDED: 503,
    Reason.UNAUTHENTICATED: 401,
    Reason.NO_CREDITS: 402,
    Reason.QUOTA_EXCEEDED: 429,
    Reason.TOO_MANY_REQUESTS: 429,
    Reason.IDEMPOTENCY_CONFLICT: 409,
}

CLOSE_CODES = {
    Reason.INVALID_REQUEST: 1008,
    Reason.UNKNOWN_MODEL: 1008,
    Reason.MODEL_UNAVAILABLE: 1013,
    Reason.UNSUPPORTED_LANGUAGE: 1008,
    Reason.LANGUAGE_UNAVAILABLE: 1013,
    Reason.OVERLOADED: 1013,
    Reason.SHUTTING_DOWN: 1001,
    Reason.IDLE_TIMEOUT: 1008,
    Reason.TOO_LARGE: 1009,
    Reason.INTERNAL: 1011,
    Reason.UNSUPPORTED_MEDIA: 1008,
    Reason.NO_AUDIO: 1008,
    Reason.SERVICE_UNAVAILABLE: 1013,
    Reason.DEADLINE_EXCEEDED: 1013,
    Reason.UNAUTHENTICATED: 1008,
    Reason.NO_CREDITS: 1008,
    Reason.QUOTA_EXCEEDED: 1008,
    Reason.TOO_MANY_REQUESTS: 1008,
    Reason.IDEMPOTENCY_CONFLICT: 1008,
}
"""Of the WebSocket: 1001 going away, 1008 policy, 1009 too big, 1011 our fault, 1013 try again later."""

ENCODINGS = ("gzip", "deflate", "identity")
"""What a request's body may be encoded with."""
UNKNOWN_ENCODING = f"The request's Content-Encoding is not known here; send one of {', '.join(ENCODINGS)}, or none."

RETRY_AFTER_S = 5
"""What a 503 says when the service that failed did not say it."""


def body(message: str, code: str, request_id: str) -> dict[str, str]:
    """Return the JSON of an error."""
    return {"error": message, "code": code, "request_id": request_id}


def headers(error: SttError) -> dict[str, str]:
    """Return `Retry-After`, in whole seconds, where trying again may help; with a 401 how to show who one is."""
    if error.reason is Reason.UNAUTHENTICATED:
        return {"WWW-Authenticate": "Bearer"}
    retry_after_s = error.retry_after_s
    if retry_after_s is None and STATUS[error.reason] == 503:
        retry_after_s = RETRY_AFTER_S
    return {} if retry_after_s is None else {"Retry-After": str(max(1, math.ceil(retry_after_s)))}


def invalid(message: str) -> SttError:
    """Make the error of a request that its sender can mend."""
    return SttError(Reason.INVALID_REQUEST, message)
