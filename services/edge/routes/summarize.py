"""POST /v1/summarize: a text in, a summary out."""

import json
from typing import Any

from aiohttp import web

from services.common.errors import Reason, SttError
from services.edge.admission import admitted, idempotency_key, identify_account
from services.edge.answers import Replay
from services.edge.body import Body
from services.edge.engine import Style
from services.edge.errors import invalid
from services.edge.keys import BACKENDS, SETTINGS
from services.edge.metering.answers import fingerprint
from services.edge.repeating import repeated

_JSON = "application/json; charset=utf-8"
MAX_CHARACTERS = 1_000_000
_MAX_BODY_BYTES = 16 * 1024 * 1024
"""Room for that many characters at JSON's longest, twelve bytes for one."""

_STYLES: dict[str, Style] = {
    "brief": "brief",
    "detailed": "detailed",
    "action_items": "action_items",
    "bullet_points": "bullet_points",
    "bullets": "bullet_points",
    "headline": "headline",
}


async def handle(request: web.Request) -> web.StreamResponse:
    """Answer one summary; `style` is echoed as it was asked for, and `text` repeats `summary` for the Node SDK."""
    caller = await identify_account(request)
    key = idempotency_key(request, caller)
    _check_head(request)
    async with admitted(request, caller, "text", key) as job:
        text, style = _parse(await _read(request))
        job.fingerprint = fingerprint({"style": style}, text)
        if job.is_replay:
            return await Replay(request, await job.recall()).give()
        summary = await repeated(lambda: request.app[BACKENDS].summarize(text, _STYLES[style]))
        answer: dict[str, Any] = {"summary": summary.text, "style": style, "model": summary.model, "text": summary.text}
        if summary.warnings:
            answer["warnings"] = list(summary.warnings)
        body = json.dumps(answer).encode()
        if key is not None:
            await job.settle_with(0, _JSON, body)
        return web.Response(body=body, headers={"Content-Type": _JSON})


def _check_head(request: web.Request) -> None:
    if request.content_type != "application/json":
        raise invalid(f"The content type is {request.content_type!r}; send JSON as application/json.")
    if (request.content_length or 0) > _MAX_BODY_BYTES:
        raise _too_large()


async def _read(request: web.Request) -> Any:
    settings = request.app[SETTINGS]
    body = Body(request, settings.body_idle_s, settings.min_body_rate, _MAX_BODY_BYTES, _too_large())
    try:
        return json.loads((await body.read_all()).decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise invalid("The body is not UTF-8.") from None
    except (ValueError, RecursionError):
        raise invalid("The body is not valid JSON.") from None


def _parse(content: Any) -> tuple[str, str]:
    if not isinstance(content, dict):
        raise invalid('The body must be a JSON object such as {"text": "...", "style": "brief"}.')
    text, style = content.get("text"), content.get("style")
    if not isinstance(text, str) or not text.strip():
        raise invalid("text must be a string that is not empty.")
    if len(text) > MAX_CHARACTERS:
        raise invalid(f"text has {len(text):,} characters; at most {MAX_CHARACTERS:,} are allowed.")
    if style is None:
        style = "brief"
    if not isinstance(style, str) or style not in _STYLES:
        raise invalid(f"Unknown style; use one of {', '.join(_STYLES)}.")
    # JSON can spell half a surrogate pair, which no UTF-8 can carry on.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), style


def _too_large() -> SttError:
    return SttError(Reason.TOO_LARGE, f"The body is larger than {_MAX_BODY_BYTES // (1024 * 1024)} MB, the limit.")
