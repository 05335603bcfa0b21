"""The aiohttp application: its shared objects, middlewares and routes."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from services.edge.accounts.authentication import Authenticator
from services.edge.backends import Backends
from services.edge.body import defer_continue
from services.edge.connection import Runner
from services.edge.keys import AUTHENTICATOR, BACKENDS, DECODER, METER, SESSIONS, SETTINGS, SPOOL, STOPPING, STORE
from services.edge.media.decoder import DecodeLimits, Decoder
from services.edge.media.spool import Spool
from services.edge.metering.meter import Meter
from services.edge.metering.store import Store, connect
from services.edge.metering.tiers import tiers
from services.edge.middlewares import add_headers, around
from services.edge.routes import catalog, health, stream, summarize, transcribe, usage
from services.edge.settings import EdgeSettings

_ROUTES = (
    ("/v1/transcribe", ("POST",), transcribe.handle),
    ("/v1/summarize", ("POST",), summarize.handle),
    ("/v1/stream", ("GET",), stream.handle),
    ("/v1/models", ("GET", "HEAD"), catalog.models),
    ("/v1/languages", ("GET", "HEAD"), catalog.languages),
    ("/v1/usage", ("GET", "HEAD"), usage.handle),
    ("/health", ("GET", "HEAD"), health.handle),
    ("/live", ("GET", "HEAD"), health.live),
    ("/ready", ("GET", "HEAD"), health.ready),
)


def build_app(settings: EdgeSettings) -> web.Application:
    """Return the application; its connections to the services open and close with it."""
    app = web.Application(middlewares=[around])
    app[SETTINGS] = settings
    app[SPOOL] = Spool(settings.spool_dir, settings.spool_budget_bytes)
    app[SESSIONS] = set()
    app[STOPPING] = asyncio.Event()
    app.cleanup_ctx.append(_open_accounts)
    app.cleanup_ctx.append(_connect)
    app.on_shutdown.append(_leave_sessions)
    app.on_response_prepare.append(add_headers)
    for path, methods, handler in _ROUTES:
        for each in (path, f"{path}/"):
            for method in methods:
                app.router.add_route(method, each, handler, expect_handler=defer_continue)
    return app


def build_runner(settings: EdgeSettings) -> web.AppRunner:
    """Return what serves the application: a caller who hangs up cancels his handler, and SIGTERM leaves the grace."""
    return Runner(
        build_app(settings),
        handle_signals=False,
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=settings.keepalive_s,
        lingering_time=settings.body_idle_s,
        # aiohttp waits that long for a handler, then as long again before it cancels him.
        shutdown_timeout=settings.grace_s / 2,
    )


async def _open_accounts(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    async with connect(settings.redis_url, settings.data_dir) as redis:
        app[STORE] = Store(redis)
        async with (
            Authenticator(app[STORE], settings) as app[AUTHENTICATOR],
            Meter(app[STORE], tiers(settings), settings.lease_s, settings.grace_s) as app[METER],
        ):
            yield


async def _connect(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    limits = DecodeLimits(wall_s=settings.decode_timeout_s, children=settings.decoders)
    app[DECODER] = Decoder(app[SPOOL], limits)
    async with Backends(settings) as backends:
        app[BACKENDS] = backends
        yield


async def _leave_sessions(app: web.Application) -> None:
    for session in app[SESSIONS]:
        # The other half is for saying so.
        session.leave(app[SETTINGS].grace_s / 2)
