"""What happens around every request: its id, one log line, CORS, and errors as JSON."""

import logging
import time

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from services.common import tracing
from services.common.errors import Reason, SttError
from services.edge import errors
from services.edge.keys import SETTINGS
from services.edge.metering.meter import Job
from services.edge.metrics import ERRORS, count_request, known_method

REQUEST_ID = web.RequestKey("request_id", str)
JOB = web.RequestKey("job", Job)
IDEMPOTENCY_KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
_REQUEST_ID_HEADER = "X-Request-Id"
_CHARGED_HEADER, _REMAINING_HEADER = "X-Credits-Charged", "X-Credits-Remaining"
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Max-Age": "86400",
    "Vary": "Access-Control-Request-Headers",
}
_ALLOWED_HEADERS = f"Authorization, Content-Type, {IDEMPOTENCY_KEY_HEADER}, {_REQUEST_ID_HEADER}"
_PROBES = ("/health", "/live", "/ready")
_EXPOSED = ", ".join((_REQUEST_ID_HEADER, "Retry-After", _CHARGED_HEADER, _REMAINING_HEADER, REPLAYED_HEADER))
_log = structlog.get_logger(__name__)


@web.middleware
async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request, answer preflights, turn errors into JSON, and log how it ended."""
    request[REQUEST_ID] = tracing.request_id(request.headers.get(_REQUEST_ID_HEADER, ""))
    structlog.contextvars.bind_contextvars(request_id=request[REQUEST_ID])
    log = _log.bind(method=request.method, path=request.path)
    route = route_of(request)
    method = known_method(request.method)
    attributes = {"http.request.method": method, "http.route": route, "request.id": request[REQUEST_ID]}
    span = tracing.begin(f"{method} {route}", request.headers, attributes)
    started_s = time.monotonic()
    status = 0
    try:
        response = await _answer(request, handler)
        status = response.status
        return response
    finally:
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            tracing.fail(span, "")
        span.end()
        duration_s = time.monotonic() - started_s
        count_request(request.method, route, status, duration_s)
        # Probes come every few seconds and say nothing while all is well, or while it stops, which it has said.
        is_quiet = request.path == "/ready" or (request.path in _PROBES and status == 200)
        level = logging.DEBUG if is_quiet else logging.INFO
        log.log(level, "request", status=status or "gone", seconds=round(duration_s, 3))


def route_of(request: web.Request) -> str:
    """Return the pattern of the request's path without a slash at its end, "other" where nothing is there."""
    resource = request.match_info.route.resource
    return resource.canonical.rstrip("/") if resource is not None else "other"


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.method == "OPTIONS":
        asked = request.headers.get("Access-Control-Request-Headers", _ALLOWED_HEADERS)
        return web.Response(status=204, headers=_PREFLIGHT | {"Access-Control-Allow-Headers": asked})
    if request.headers.get("Content-Encoding", "identity").lower() not in errors.ENCODINGS:
        headers = {"Accept-Encoding": ", ".join(errors.ENCODINGS)}
        ERRORS.labels("UNSUPPORTED_MEDIA_TYPE").inc()
        return error_response(request, 415, errors.UNKNOWN_ENCODING, "UNSUPPORTED_MEDIA_TYPE", headers)
    try:
        return await handler(request)
    except web.HTTPException as error:
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        code = error.reason.upper().replace(" ", "_")
        ERRORS.labels(code).inc()
        return error_response(request, error.status, _sentence(error), code, headers)
    except ConnectionError:
        raise  # the caller is gone
    except Exception as error:
        known = known_error(error)
        return error_response(request, errors.STATUS[known.reason], known.message, known.reason, errors.headers(known))


def error_response(request: web.Request, status: int, message: str, code: str, headers: dict[str, str]) -> web.Response:
    """Make the JSON answer of an error."""
    return web.json_response(errors.body(message, code, request[REQUEST_ID]), status=status, headers=headers)


def known_error(error: Exception) -> SttError:
    """Return `error` as one that a caller is told, counted and logged: with a traceback where it is a fault of ours."""
    ERRORS.labels(error.reason if isinstance(error, SttError) else Reason.INTERNAL).inc()
    if isinstance(error, SttError):
        level = logging.WARNING if errors.STATUS[error.reason] >= 500 else logging.INFO
        _log.log(level, "error", reason=str(error.reason), message=error.message)
        return error
    _log.error("request failed", exc_info=error)
    return SttError(Reason.INTERNAL, "The server failed; the failure was logged.")


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Give every answer, streamed ones included, its id, cost and CORS headers, just before its head is sent."""
    response.headers["Access-Control-Allow-Origin"] = request.app[SETTINGS].cors_origin
    response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    if REQUEST_ID in request:
        response.headers[_REQUEST_ID_HEADER] = request[REQUEST_ID]
    if JOB in request and response.status == 200:
        job = request[JOB]
        response.headers[_CHARGED_HEADER] = str(job.charged)
        if job.tier == "paid":
            response.headers[_REMAINING_HEADER] = str(job.remaining)


def _sentence(error: web.HTTPException) -> str:
    if isinstance(error, web.HTTPMethodNotAllowed):
        return f"{error.method} is not possible here; {', '.join(sorted(error.allowed_methods))} is."
    return "Nothing is at this path." if error.status == 404 else f"{error.reason}."
