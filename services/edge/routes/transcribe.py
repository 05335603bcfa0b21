"""POST /v1/transcribe: a recording in, a transcript out.

The order is the contract's: who asks, what the head shows to be wrong, what he may, whether the service is there, then
the body, what is in it and what that costs, and only then recognition. Nothing but an error is sent before that.
"""

import asyncio
import hashlib
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial

from aiohttp import web

from services.common import tracing
from services.common.metrics import REAL_TIME_FACTOR
from services.edge import params
from services.edge.admission import admitted, idempotency_key, identify
from services.edge.answers import Replay, beating, choose_answer
from services.edge.catalog import public_models
from services.edge.engine import Progress
from services.edge.keys import BACKENDS, DECODER, METER, SETTINGS, SPOOL
from services.edge.media.decoder import DecodedAudio
from services.edge.metering.answers import fingerprint
from services.edge.metering.meter import Job, units
from services.edge.middlewares import known_error
from services.edge.params import TranscribeParams
from services.edge.transcript import Segment
from services.edge.transcription import transcribe
from services.edge.upload import check_head, receive_form

_CATALOG_AGE_S = 60.0
"""For so long a list of models will do that recognition, now busy, has sent."""


async def handle(request: web.Request) -> web.StreamResponse:
    """Answer one transcription."""
    caller = await identify(request)
    limits = request.app[METER].limits(caller.tier)
    key = idempotency_key(request, caller)
    await check_head(request, request.app[SETTINGS], limits.upload_bytes)
    async with admitted(request, caller, "recording", key) as job:
        catalog = await request.app[BACKENDS].catalog_soon(_CATALOG_AGE_S)
        models = [model.id for model in public_models(catalog.models)]
        with closing(request.app[SPOOL].file()) as upload:
            check = partial(params.parse, models=models)
            digest = None if key is None else hashlib.sha256()
            limit_bytes = job.limits.upload_bytes
            with tracing.step("receive"):
                wanted = check(
                    await receive_form(
                        request, request.app[SETTINGS], upload, limit_bytes, partial(check, is_whole=False), digest
                    )
                )
            received_s = asyncio.get_running_loop().time()
            if digest is not None:
                job.fingerprint = fingerprint(asdict(wanted), digest.hexdigest())
            if job.is_replay:
                return await Replay(request, await job.recall()).give()
            audio = await request.app[DECODER].decode(upload, job.limits.audio_s)
        with closing(audio.pcm):
            await job.reserve(units(audio.heard_samples))
            return await _respond(request, job, audio, wanted, received_s)


async def _respond(
    request: web.Request, job: Job, audio: DecodedAudio, wanted: TranscribeParams, received_s: float
) -> web.StreamResponse:
    settings, cost = request.app[SETTINGS], units(audio.heard_samples)
    answer = choose_answer(request, audio.duration_s, wanted.response_format)

    async def report(event: Progress | Segment) -> None:
        await answer.report(event)
        if answer.is_given:
            job.settle(cost, goes_on=True)

    waited_s = asyncio.get_running_loop().time() - received_s
    try:
        async with beating(answer, max(0.0, settings.heartbeat_after_s - waited_s), settings.heartbeat_every_s):
            transcript = await transcribe(
                audio.pcm,
                audio.duration_s,
                wanted,
                request.app[BACKENDS],
                report,
                may_repeat=lambda: not answer.is_given,
            )
            transcript = replace(transcript, warnings=(*audio.warnings, *transcript.warnings))
            if transcript.is_wordless:
                job.waive()
            data = await answer.render(transcript)
            REAL_TIME_FACTOR.observe((asyncio.get_running_loop().time() - received_s) / audio.duration_s)
            if job.idempotency_key is not None:
                await job.settle_with(cost, answer.media_type, data)
        response = await answer.finish(data)
        job.settle(cost)
        return response
    except ConnectionError:
        raise  # the caller is gone
    except Exception as error:
        if not answer.has_begun:
            raise
        return await answer.fail(known_error(error))
