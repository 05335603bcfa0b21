"""What the service answers to each kind of request, good and bad."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc
import numpy as np
import pytest
from stt.asr.v1 import asr_pb2 as pb

from services.common.errors import Reason
from services.common.languages import LANGUAGES
from tests.asr.conftest import Pcm, Serve, requests

SECOND = np.zeros(16_000, np.int16)


async def test_a_whisper_model_is_answered_by_the_fallback_which_says_so(serve: Serve) -> None:
    async with serve() as server:
        events = await server.events(SECOND, model="large-v3-turbo", language="en")
    assert events[0].started.model == "moonshine-tiny-en"
    assert [warning.reason for warning in events[0].started.warnings] == ["FALLBACK_MODEL"]
    assert events[-1].finished.warnings == events[0].started.warnings


@pytest.mark.parametrize("language", ["auto", ""])
async def test_an_unnamed_language_is_taken_for_english_with_a_warning(serve: Serve, language: str) -> None:
    async with serve() as server:
        events = await server.events(SECOND, language=language)
    assert events[-1].finished.language == "en"
    assert [warning.reason for warning in events[-1].finished.warnings] == ["LANGUAGE_ASSUMED"]


async def test_moonshine_and_english_named_is_answered_without_warnings(serve: Serve) -> None:
    async with serve() as server:
        events = await server.events(SECOND, language="en")
    assert events[0].started.model == "moonshine-tiny-en"
    assert not events[-1].finished.warnings


@pytest.mark.parametrize(
    ("config", "code", "reason"),
    [
        ({"model": "large-v9"}, grpc.StatusCode.NOT_FOUND, Reason.UNKNOWN_MODEL),
        ({"language": "klingon"}, grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_REQUEST),
        ({"language": "EN"}, grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_REQUEST),
        ({"language": "de"}, grpc.StatusCode.INVALID_ARGUMENT, Reason.UNSUPPORTED_LANGUAGE),
        ({"model": "small", "language": "de"}, grpc.StatusCode.UNAVAILABLE, Reason.LANGUAGE_UNAVAILABLE),
        ({"model": "small", "language": "xx"}, grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_REQUEST),
    ],
)
async def test_a_config_that_cannot_be_met_says_why(
    serve: Serve, config: dict[str, Any], code: grpc.StatusCode, reason: Reason
) -> None:
    async with serve() as server:
        status, error = await server.error(requests(b"", **config))
    assert (status, error.reason) == (code, reason)


async def test_without_a_fallback_a_model_that_is_not_loaded_is_unavailable(serve: Serve) -> None:
    async with serve(fallback_models=()) as server:
        status, error = await server.error(requests(b"", model="small", language="en"))
    assert (status, error.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.MODEL_UNAVAILABLE)
    assert error.retryable


async def test_without_a_fallback_moonshine_still_answers_to_its_name(serve: Serve) -> None:
    async with serve(fallback_models=()) as server:
        events = await server.events(SECOND, language="en")
    assert events[-1].finished.samples == 16_000


CONFIG = pb.TranscribeRequest(config=pb.TranscribeConfig(model="moonshine-tiny-en", language="en"))


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [pb.TranscribeRequest(audio=b"\0\0")],
        [pb.TranscribeRequest()],
        [CONFIG, CONFIG],
        [CONFIG, pb.TranscribeRequest()],
        [CONFIG, pb.TranscribeRequest(audio=bytes(65_538))],
    ],
    ids=["nothing", "audio first", "empty first", "config twice", "empty message", "too much at once"],
)
async def test_messages_out_of_order_are_refused(serve: Serve, sent: Iterable[pb.TranscribeRequest]) -> None:
    async with serve() as server:
        status, error = await server.error(sent)
    assert (status, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_REQUEST)


async def test_a_silent_sender_is_let_go(serve: Serve) -> None:
    async def say_nothing() -> AsyncIterator[pb.TranscribeRequest]:
        yield CONFIG
        await asyncio.Event().wait()

    async with serve(idle_timeout_s=0.1) as server:
        status, error = await server.error(say_nothing())  # type: ignore[arg-type]
    assert (status, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.IDLE_TIMEOUT)


async def test_more_recordings_than_the_service_takes_are_refused_until_one_ends(
    serve: Serve, load: Callable[[str], Pcm]
) -> None:
    async with serve(max_requests=1) as server:
        first = server.stub.Transcribe()
        await first.write(CONFIG)
        assert (await first.read()).WhichOneof("event") == "started"
        status, error = await server.error(requests(b""))
        assert (status, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.OVERLOADED)
        assert error.retryable
        await first.done_writing()
        assert (await first.read()).WhichOneof("event") == "finished"
        assert await first.read() is grpc.aio.EOF
        assert await server.segments(load("beckett.wav"))


async def test_a_caller_who_hangs_up_in_the_middle_frees_the_slot(serve: Serve, load: Callable[[str], Pcm]) -> None:
    async with serve(max_requests=1) as server:
        call = server.stub.Transcribe(requests(load("two_cities.wav").tobytes()))
        async for event in call:
            if event.WhichOneof("event") == "segment":
                break
        call.cancel()
        async with asyncio.timeout(5):
            # The server hears of it a moment later.
            while not await admitted(server.stub.Transcribe(requests(b""))):
                pass
        assert await server.segments(load("beckett.wav"))


async def test_a_short_recording_is_not_stuck_behind_a_long_one(serve: Serve, load: Callable[[str], Pcm]) -> None:
    async with serve() as server:
        long = server.stub.Transcribe(requests(np.tile(load("two_cities.wav"), 10).tobytes()))
        async for event in long:
            if event.WhichOneof("event") == "segment":
                break
        assert await server.segments(load("beckett.wav"))
        assert not long.done()
        async for event in long:
            if event.WhichOneof("event") == "progress":
                assert event.progress.processed_s < 300
                break
        long.cancel()


async def admitted(call: Any) -> bool:
    try:
        return [event.WhichOneof("event") async for event in call] == ["started", "finished"]
    except grpc.aio.AioRpcError as error:
        return error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_catalog_lists_the_contracts_models_first(serve: Serve) -> None:
    async with serve() as server:
        answer = await server.stub.ListModels(pb.ListModelsRequest(), timeout=10)
    assert [(model.id, model.name, model.speed, model.available) for model in answer.models] == [
        ("large-v3-turbo", "Whisper Large V3 Turbo", pb.SPEED_FAST, False),
        ("large-v3", "Whisper Large V3", pb.SPEED_STANDARD, False),
        ("medium", "Whisper Medium", pb.SPEED_FAST, False),
        ("small", "Whisper Small", pb.SPEED_VERY_FAST, False),
        ("base", "Whisper Base", pb.SPEED_VERY_FAST, False),
        ("moonshine-tiny-en", "Moonshine Tiny", pb.SPEED_VERY_FAST, True),
    ]
    assert list(answer.models[0].languages) == list(LANGUAGES)
    assert len(LANGUAGES) == 99
    assert list(answer.models[5].languages) == ["en"]
    assert answer.device.kind == "cpu"
