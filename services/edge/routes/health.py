"""GET /health: whether transcription works, and on what; /live and /ready: how this edge is, whatever the rest is."""

import asyncio
from typing import Any

from aiohttp import web

from services.common.errors import Reason, SttError
from services.edge import errors
from services.edge.backends import ASR, Backends
from services.edge.engine import Catalog, Device
from services.edge.keys import BACKENDS, STOPPING, STORE
from services.edge.metering.store import is_there
from services.edge.middlewares import REQUEST_ID

_NO_GPU = Device(is_gpu=False, name="", memory_mib=0)


async def handle(request: web.Request) -> web.Response:
    """Say ok, degraded (what only some requests need is down) or, as a 503, unavailable."""
    backends = request.app[BACKENDS]
    down, catalog, is_stored = await asyncio.gather(
        backends.down(), _catalog(backends), is_there(request.app[STORE].redis)
    )
    device = catalog.device if catalog else _NO_GPU
    state: dict[str, Any] = {
        "status": "degraded" if down else "ok",
        "gpu_available": device.is_gpu,
        "gpu_name": device.name if device.is_gpu else None,
        "gpu_memory_mb": device.memory_mib,
    }
    if ASR in down or catalog is None:
        reason = f"The {ASR} service cannot be reached."
    elif not is_stored:
        reason = "The account store cannot be reached."
    elif not any(model.available for model in catalog.models):
        reason = "No recognition model is loaded."
    else:
        if down:
            state["warnings"] = [f"The {service} service cannot be reached." for service in down]
        return web.json_response(state)
    state |= {"status": "unavailable", **errors.body(reason, "SERVICE_UNAVAILABLE", request[REQUEST_ID])}
    return web.json_response(state, status=503, headers={"Retry-After": str(errors.RETRY_AFTER_S)})


async def live(request: web.Request) -> web.Response:
    """Say that the event loop turns."""
    return web.json_response({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Say whether new requests should come here: until this edge is told to stop."""
    if request.app[STOPPING].is_set():
        raise SttError(Reason.SHUTTING_DOWN, "This server is going away.")
    return web.json_response({"status": "ok"})


async def _catalog(backends: Backends) -> Catalog | None:
    try:
        return await backends.catalog()
    except SttError:
        return None
