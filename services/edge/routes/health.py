"""GET /health: whether transcription works, and on what; /live and /ready: how this edge is, whatever the rest is."""

import asyncio
from typing import Any

from aiohttp import web

from services.common.errors import Reason, SttError
from services.edge import errors
from services.edge.backends import ASR, Backends
from services.edge.engine import Catalog, Device
from services.edge.keys import BACKENDS, STOPPING, STORE
from services.edge.metering.store import reach
from services.edge.middlewares import REQUEST_ID, error_response

_NO_GPU = Device(is_gpu=False, name="", memory_mib=0)


async def handle(request: web.Request) -> web.Response:
    """Say ok, degraded (what only some requests need is down) or, as a 503, unavailable."""
    backends = request.app[BACKENDS]
    down, catalog, stored = await asyncio.gather(backends.down(), _catalog(backends), reach(request.app[STORE].redis))
    warnings = [f"The {service} service cannot be reached." for service in down]
    if stored < 1:
        warnings.append("The account store cannot be reached for some accounts.")
    device = catalog.device if catalog else _NO_GPU
    state: dict[str, Any] = {
        "status": "degraded" if warnings else "ok",
        "gpu_available": device.is_gpu,
        "gpu_name": device.name if device.is_gpu else None,
        "gpu_memory_mb": device.memory_mib,
    }
    if ASR in down or catalog is None:
        reason = f"The {ASR} service cannot be reached."
    elif stored == 0:
        reason = "The account store cannot be reached."
    elif not any(model.available for model in catalog.models):
        reason = "No recognition model is loaded."
    else:
        if warnings:
            state["warnings"] = warnings
        return web.json_response(state)
    state |= {"status": "unavailable", **errors.body(reason, "SERVICE_UNAVAILABLE", request[REQUEST_ID])}
    return web.json_response(state, status=503, headers={"Retry-After": str(errors.RETRY_AFTER_S)})


async def live(request: web.Request) -> web.Response:
    """Say that the event loop turns."""
    return web.json_response({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Say whether new requests should come here: until this edge is told to stop."""
    if request.app[STOPPING].is_set():
        retry = {"Retry-After": str(errors.RETRY_AFTER_S)}
        # Told to a balancer, so it is no error to count or to log.
        return error_response(request, 503, "This server is going away.", Reason.SHUTTING_DOWN, retry)
    return web.json_response({"status": "ok"})


async def _catalog(backends: Backends) -> Catalog | None:
    try:
        return await backends.catalog()
    except SttError:
        return None
