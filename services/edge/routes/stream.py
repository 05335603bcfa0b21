"""GET /v1/stream: a WebSocket, audio in, words out while they are spoken.

The order is the contract's: what the head shows to be wrong, then whether the service is there; both are answers to
the upgrade, since real clients read its status. After it an error is a message and a close code.
"""

from functools import partial

import structlog
from aiohttp import web

from services.common.errors import SttError
from services.edge import params
from services.edge.catalog import public_models
from services.edge.errors import invalid
from services.edge.keys import BACKENDS, SESSIONS, SETTINGS
from services.edge.middlewares import REQUEST_ID, known_error
from services.edge.params import DEFAULT_LANGUAGE, DEFAULT_MODEL, LiveParams
from services.edge.stream.session import Session
from services.edge.stream.websocket import WebSocket

_log = structlog.get_logger(__name__)


async def handle(request: web.Request) -> web.StreamResponse:
    """Serve one live session."""
    settings, backends = request.app[SETTINGS], request.app[BACKENDS]
    websocket = WebSocket(settings.write_timeout_s)
    if not websocket.can_prepare(request):
        raise invalid("This path speaks WebSocket: connect to it with ws:// or wss://.")
    # Known to be wrong without asking anybody; a model is not.
    params.parse_language(request.query.get("language") or DEFAULT_LANGUAGE)
    models = [model.id for model in public_models((await backends.catalog_soon()).models)]
    read = partial(params.parse_live, models=models)
    defaults = read(request.query, LiveParams(DEFAULT_MODEL, DEFAULT_LANGUAGE))
    await websocket.prepare(request)
    session = Session(websocket, backends.listen, partial(read, defaults=defaults), settings)
    request.app[SESSIONS].add(session)
    try:
        failure = await _run(session)
        await (websocket.fail(failure, request[REQUEST_ID]) if failure else websocket.close())
    except ConnectionError:
        if not websocket.closed:
            websocket.abort()
    finally:
        request.app[SESSIONS].remove(session)
    return websocket


async def _run(session: Session) -> SttError | None:
    """Return why the session ended where it did not end well; ConnectionError where the caller is gone."""
    outcome = "gone"
    try:
        await session.run()
        outcome = "ok"
    except ConnectionError:
        raise
    except Exception as error:
        failure = known_error(error)
        outcome = failure.reason
        return failure
    finally:
        _log.info("stream", outcome=str(outcome), audio_s=round(session.audio_s, 3))
    return None
