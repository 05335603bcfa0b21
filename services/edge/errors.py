"""How errors look over HTTP: the one table from reason to status, and the JSON body. Pure."""

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
}

RETRY_AFTER_S = 5
"""What a 503 says when the service that failed did not say it."""


def body(message: str, code: str, request_id: str) -> dict[str, str]:
    """Return the JSON of an error."""
    return {"error": message, "code": code, "request_id": request_id}


def headers(error: SttError) -> dict[str, str]:
    """Return `Retry-After`, in whole seconds, where trying again may help."""
    retry_after_s = error.retry_after_s
    if retry_after_s is None and STATUS[error.reason] == 503:
        retry_after_s = RETRY_AFTER_S
    return {} if retry_after_s is None else {"Retry-After": str(max(1, round(retry_after_s)))}


def invalid(message: str) -> SttError:
    """Make the error of a request that its sender can mend."""
    return SttError(Reason.INVALID_REQUEST, message)
