"""The program that fetches a model from a hub while it serves: what callers hear, whatever the hub does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from stt.asr.v1 import asr_pb2_grpc

from services.asr.models.catalog import catalog
from services.common.errors import Reason, SttError
from services.common.rpc_errors import from_error
from tests.asr.conftest import UNTRAINED_TEXT, requests
from tests.asr.voices import say
from tests.edge.conftest import program
from tests.hub import Hub, hub

SPEECH = say("en", "One, two, three.")

Serve = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def mirror(untrained: Path) -> Iterator[Hub]:
    with hub({catalog(None)["small"].repository: untrained}) as running:
        yield running


@pytest.fixture
def serve(mirror: Hub, tmp_path: Path) -> Serve:
    """Run the program, which may fetch `small`; yields its stub."""

    @asynccontextmanager
    async def start(**settings: str) -> AsyncIterator[Any]:
        ours = {"ASR_MODELS_ON_DEMAND": "small", "ASR_FALLBACK_MODELS": "", "ASR_LOAD_RETRY_S": "0.2"}
        with program("asr", **(ours | mirror.environment(tmp_path) | settings)) as address:
            async with grpc.aio.insecure_channel(address) as channel:
                await channel.channel_ready()
                yield asr_pb2_grpc.AsrServiceStub(channel)

    return start


async def text(stub: Any, model: str) -> str:
    call = stub.Transcribe(requests(SPEECH.tobytes(), model=model, language="en"), timeout=60)
    return " ".join([event.segment.text async for event in call if event.WhichOneof("event") == "segment"])


async def refusal(stub: Any) -> SttError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [event async for event in stub.Transcribe(requests(b"", model="small", language="en"), timeout=60)]
    return from_error(caught.value, "asr")


async def refused_with(stub: Any, words: str) -> SttError:
    """Ask until `small` is refused in these words."""
    async with asyncio.timeout(30):
        while words not in (error := await refusal(stub)).message:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert error.reason == Reason.MODEL_UNAVAILABLE
    assert error.retryable
    return error


async def comes(stub: Any) -> None:
    """Ask until `small` answers."""
    async with asyncio.timeout(30):
        while True:
            try:
                assert await text(stub, "small") == UNTRAINED_TEXT
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_model_is_fetched_when_somebody_asks_for_it(serve: Serve) -> None:
    async with serve(ASR_LOAD_WAIT_S="30") as stub:
        assert await text(stub, "small") == UNTRAINED_TEXT


async def test_while_a_slow_hub_sends_a_model_it_is_refused_and_others_answer(serve: Serve, mirror: Hub) -> None:
    mirror.faults.on, mirror.faults.stall_after_bytes = "/storage/", 1_000_000
    async with serve(ASR_LOAD_WAIT_S="0.1", HF_HUB_DOWNLOAD_TIMEOUT="30") as stub:
        await refused_with(stub, "is being downloaded")
        assert await text(stub, "moonshine-tiny-en")
        mirror.faults.release.set()
        await comes(stub)


async def test_a_hub_that_cannot_be_reached_is_tried_again_and_never_named(serve: Serve, mirror: Hub) -> None:
    mirror.stop()
    async with serve() as stub:
        error = await refused_with(stub, "could not be downloaded")
        assert "127.0.0.1" not in error.message
        assert await text(stub, "moonshine-tiny-en")
        mirror.start()
        await comes(stub)


async def test_a_model_to_be_loaded_from_the_start_is_fetched_without_being_asked_for(
    serve: Serve, mirror: Hub
) -> None:
    mirror.faults.status = 503
    async with serve(ASR_MODELS="small moonshine-tiny-en", ASR_LOAD_WAIT_S="30") as stub:
        await asyncio.to_thread(mirror.wait_until, lambda: bool(mirror.requests))
        assert await text(stub, "moonshine-tiny-en")
        mirror.faults.status = 0
        await asyncio.to_thread(mirror.wait_until, lambda: bool(mirror.ranges()))
        await comes(stub)
