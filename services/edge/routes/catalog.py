"""GET /v1/models and /v1/languages."""

from typing import Any

from aiohttp import web

from services.common.errors import SttError
from services.common.languages import LANGUAGES
from services.edge.catalog import public_models
from services.edge.engine import Model
from services.edge.keys import BACKENDS


async def models(request: web.Request) -> web.Response:
    """List the models; while recognition cannot be reached, the contract's own, none of them available."""
    try:
        served = (await request.app[BACKENDS].catalog()).models
    except SttError:
        served = []
    return web.json_response({"models": [_model(model) for model in public_models(served)]})


async def languages(request: web.Request) -> web.Response:
    """List the languages that transcription may be told to expect."""
    return web.json_response({"languages": [{"code": code, "name": name} for code, name in LANGUAGES.items()]})


def _model(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.name,
        "languages": model.languages,
        "speed": model.speed,
        "description": model.description,
        "available": model.available,
    }
