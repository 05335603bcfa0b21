"""GET /v1/stream: a WebSocket, audio in, words out while they are spoken.

The order is the contract's: who asks, what the head shows to be wrong, what he may, then whether the service is there;
all are answers to the upgrade, since real clients read its status. After it an error is a message and a close code.
"""

import asyncio
from collections.abc import Collection, Mapping
from functools import partial

import structlog
from aiohttp import WSCloseCode, web

from services.common.audio import SAMPLE_RATE
from services.common.errors import SttError
from services.edge import errors, params
from services.edge.admission import admitted, identify
from services.edge.catalog import public_models
from services.edge.errors import invalid
from services.edge.keys import BACKENDS, SESSIONS, SETTINGS
from services.edge.metering.meter import Job, units
from services.edge.metrics import STREAMS
from services.edge.middlewares import REQUEST_ID, known_error
from services.edge.params import LiveParams
from services.edge.stream.allowance import Allowance
from services.edge.stream.encoding import take_format
from services.edge.stream.session import Session
from services.edge.stream.websocket import WebSocket

_OUR_FAULT = (WSCloseCode.GOING_AWAY, WSCloseCode.INTERNAL_ERROR, WSCloseCode.TRY_AGAIN_LATER)
_log = structlog.get_logger(__name__)


async def handle(request: web.Request) -> web.StreamResponse:
    """Serve one live session."""
    settings, backends = request.app[SETTINGS], request.app[BACKENDS]
    caller = await identify(request, token_in_query=True)
    websocket = WebSocket(settings.write_timeout_s)
    if not websocket.can_prepare(request):
        raise invalid("This path speaks WebSocket: connect to it with ws:// or wss://.")
    query = params.gather(pair for pair in request.query.items() if pair[0] != "token")
    # Known to be wrong without asking anybody; a model is not.
    _read({**query, "model": ""}, LiveParams(), models=())
    async with admitted(request, caller, "live") as job:
        models = [model.id for model in public_models((await backends.catalog_soon()).models)]
        read = partial(_read, models=models)
        defaults = read(query, LiveParams())
        await backends.check_room(defaults)
        config = partial(read, defaults=defaults)
        await websocket.prepare(request)
        session = Session(websocket, backends.listen, backends.diarize_live, config, Allowance(job), settings)
        request.app[SESSIONS].add(session)
        try:
            failure = await _run(session, websocket, job)
            if failure is None:
                await websocket.close()
            else:
                await websocket.fail(failure, request[REQUEST_ID], session.warnings)
        except ConnectionError:
            if not websocket.closed:
                websocket.abort()
        finally:
            request.app[SESSIONS].remove(session)
    return websocket


def _read(given: Mapping[str, object], defaults: LiveParams, models: Collection[str]) -> LiveParams:
    return params.parse_live(take_format(given), defaults, models)


async def _run(session: Session, websocket: WebSocket, job: Job) -> SttError | None:
    """Return why the session ended where it did not end well; ConnectionError where the caller is gone.

    It is charged for what it heard before it is closed, unless it was the server that broke it.
    """
    outcome, is_ours = "gone", False
    try:
        await session.run()
        outcome = "ok"
    except ConnectionError:
        raise
    except Exception as error:
        failure = known_error(error)
        outcome = failure.reason
        is_ours = errors.CLOSE_CODES[failure.reason] in _OUR_FAULT
        return failure
    except asyncio.CancelledError:
        is_ours = not websocket.is_gone()
        raise
    finally:
        if session.is_wordless:
            job.waive()
        if session.audio_samples and not is_ours:
            job.settle(units(session.audio_samples))
        STREAMS.labels(outcome).inc()
        _log.info("stream", outcome=str(outcome), audio_s=round(session.audio_samples / SAMPLE_RATE, 3))
    return None
