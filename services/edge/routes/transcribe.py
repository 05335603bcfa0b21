"""POST /v1/transcribe: a recording in, a transcript out.

The order is the contract's: what the head shows to be wrong, whether the service is there, then the body, what is in
it, and only then recognition. Nothing but an error is sent before the audio is decoded.
"""

import asyncio
from contextlib import closing
from functools import partial

from aiohttp import web

from services.edge import params
from services.edge.answers import beating, choose_answer
from services.edge.catalog import public_models
from services.edge.keys import BACKENDS, DECODER, SETTINGS, SPOOL
from services.edge.media.decoder import DecodedAudio
from services.edge.middlewares import known_error
from services.edge.params import TranscribeParams
from services.edge.transcription import transcribe
from services.edge.upload import check_head, receive_form


async def handle(request: web.Request) -> web.StreamResponse:
    """Answer one transcription."""
    await check_head(request, request.app[SETTINGS])
    catalog = await request.app[BACKENDS].catalog()
    models = [model.id for model in public_models(catalog.models)]
    with closing(request.app[SPOOL].file()) as upload:
        check = partial(params.parse, models=models)
        wanted = check(await receive_form(request, request.app[SETTINGS], upload, check))
        received_s = asyncio.get_running_loop().time()
        audio = await request.app[DECODER].decode(upload, request.app[SETTINGS].max_duration_s)
    with closing(audio.pcm):
        return await _respond(request, audio, wanted, received_s)


async def _respond(
    request: web.Request, audio: DecodedAudio, wanted: TranscribeParams, received_s: float
) -> web.StreamResponse:
    settings = request.app[SETTINGS]
    answer = choose_answer(request, audio.duration_s, wanted.response_format)
    waited_s = asyncio.get_running_loop().time() - received_s
    try:
        async with beating(answer, max(0.0, settings.heartbeat_after_s - waited_s), settings.heartbeat_every_s):
            transcript = await transcribe(audio.pcm, audio.duration_s, wanted, request.app[BACKENDS], answer.report)
        return await answer.finish(transcript)
    except ConnectionError:
        raise  # the caller is gone
    except Exception as error:
        if not answer.has_begun:
            raise
        return await answer.fail(known_error(error))
