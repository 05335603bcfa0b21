"""POST /v1/summarize: a text in, a summary out."""

import json
from typing import Any

from aiohttp import web

from services.common.errors import Reason, SttError
from services.edge.body import Body
from services.edge.engine import Style
from services.edge.errors import invalid
from services.edge.keys import BACKENDS, SETTINGS

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


async def handle(request: web.Request) -> web.Response:
    """Answer one summary; `style` is echoed as it was asked for, and `text` repeats `summary` for the Node SDK."""
    content = await _read(request)
    text, style = _parse(content)
    summary = await request.app[BACKENDS].summarize(text, _STYLES[style])
    answer: dict[str, Any] = {"summary": summary.text, "style": style, "model": summary.model, "text": summary.text}
    if summary.warnings:
        answer["warnings"] = list(summary.warnings)
    return web.json_response(answer)


async def _read(request: web.Request) -> Any:
    if request.content_type != "application/json":
        raise invalid(f"The content type is {request.content_type!r}; send JSON as application/json.")
    settings = request.app[SETTINGS]
    too_large = SttError(Reason.TOO_LARGE, f"The body is larger than {_MAX_BODY_BYTES // (1024 * 1024)} MB, the limit.")
    if (request.content_length or 0) > _MAX_BODY_BYTES:
        raise too_large
    body = Body(request, settings.body_idle_s, settings.min_body_rate, _MAX_BODY_BYTES, too_large)
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
