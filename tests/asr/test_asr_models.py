"""Which models are loaded, when, how many, and what a caller hears while one is not."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from ctranslate2.models import Whisper as Network

from services.asr.engine import Engine
from services.asr.engines.moonshine import Moonshine
from services.asr.engines.whisper import Whisper
from services.asr.models.catalog import Model
from services.common.errors import Reason
from tests.asr.conftest import UNTRAINED_TEXT, Serve, Server, TestLoader, live, requests
from tests.asr.voices import say

SPEECH = say("en", "One, two, three.")


@pytest.fixture
def model_dir(tmp_path: Path, untrained: Path) -> Path:
    """Three models, which are one."""
    for name in ("first", "second", "third"):
        (tmp_path / name).symlink_to(untrained)
    return tmp_path


@pytest.fixture
async def loader(engine: Moonshine) -> TestLoader:
    return TestLoader(engine)


async def transcribed(server: Server, model: str) -> tuple[str, str, list[str]]:
    """Return which model answered, what it heard, and the reasons of its warnings."""
    events = await server.events(SPEECH, model=model, language="en")
    text = " ".join(event.segment.text for event in events if event.WhichOneof("event") == "segment")
    started = events[0].started
    return started.model, text, [warning.reason for warning in started.warnings]


async def refused(server: Server, model: str) -> Any:
    """Return why `model` does not answer; it is always a 503 that may be tried again."""
    status, error = await server.error(requests(b"", model=model, language="en"))
    assert (status, error.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.MODEL_UNAVAILABLE)
    assert error.retryable
    return error


async def test_other_services_models_may_lie_in_the_same_folder(serve: Serve, model_dir: Path) -> None:
    (model_dir / "qwen2.5-1.5b-instruct").mkdir()
    for name in ("config.json", "model.safetensors"):
        (model_dir / "qwen2.5-1.5b-instruct" / name).touch()
    (model_dir / "diar_streaming_sortformer_4spk-v2.nemo").touch()
    async with serve(model_dir=model_dir) as server:
        found = set(await server.models())
        assert {"first", "second", "third"} <= found
        assert not [name for name in found if "qwen" in name or "sortformer" in name]


async def test_a_model_that_is_loaded_from_the_start_answers_to_its_name(serve: Serve, model_dir: Path) -> None:
    async with serve(model_dir=model_dir, models=("first",)) as server:
        assert (await server.models())["first"].available
        assert await transcribed(server, "first") == ("first", UNTRAINED_TEXT, [])


async def test_a_model_on_demand_is_loaded_for_the_first_who_asks(
    serve: Serve, model_dir: Path, loader: TestLoader
) -> None:
    async with serve(loader=loader, model_dir=model_dir, models_on_demand=("first",)) as server:
        assert not (await server.models())["first"].available
        assert await transcribed(server, "first") == ("first", UNTRAINED_TEXT, [])
        assert (await server.models())["first"].available
        await transcribed(server, "first")
    assert loader.loads == ["first"]


async def test_two_who_ask_for_a_model_that_is_being_loaded_share_the_loading(
    serve: Serve, model_dir: Path, loader: TestLoader
) -> None:
    loader.go.clear()
    async with serve(loader=loader, model_dir=model_dir, models_on_demand=("first",)) as server:
        both = [asyncio.ensure_future(transcribed(server, "first")) for _ in range(2)]
        await loader.loading.wait()
        loader.go.set()
        assert await asyncio.gather(*both) == [("first", UNTRAINED_TEXT, [])] * 2
    assert loader.loads == ["first"]


async def test_while_a_model_is_being_loaded_it_is_not_offered_and_others_answer(
    serve: Serve, model_dir: Path, loader: TestLoader
) -> None:
    loader.go.clear()
    config = {"model_dir": model_dir, "models_on_demand": ("first",), "fallback_models": (), "load_wait_s": 0.1}
    async with serve(loader=loader, **config) as server:
        assert "is being loaded" in (await refused(server, "first")).message
        assert not (await server.models())["first"].available
        assert (await transcribed(server, "moonshine-tiny-en"))[0] == "moonshine-tiny-en"
        loader.go.set()


async def test_who_does_not_wait_for_a_loading_does_not_end_it(
    serve: Serve, model_dir: Path, loader: TestLoader
) -> None:
    loader.go.clear()
    async with serve(loader=loader, model_dir=model_dir, models_on_demand=("first",)) as server:
        gone = asyncio.ensure_future(transcribed(server, "first"))
        await loader.loading.wait()
        gone.cancel()
        loader.go.set()
        assert await transcribed(server, "first") == ("first", UNTRAINED_TEXT, [])
    assert loader.loads == ["first"]


async def test_a_local_server_answers_with_its_fallback_until_the_model_is_there(
    serve: Serve, model_dir: Path, loader: TestLoader
) -> None:
    loader.go.clear()
    async with serve(loader=loader, model_dir=model_dir, models_on_demand=("first",), load_wait_s=0.1) as server:
        model, _, warnings = await transcribed(server, "first")
        assert (model, warnings) == ("moonshine-tiny-en", ["FALLBACK_MODEL"])
        loader.go.set()
        await until(lambda: available(server, "first"))
        assert await transcribed(server, "first") == ("first", UNTRAINED_TEXT, [])


async def test_a_live_session_does_not_wait_long_for_a_model(serve: Serve, model_dir: Path, loader: TestLoader) -> None:
    loader.go.clear()
    config = {"model_dir": model_dir, "models_on_demand": ("first",), "fallback_models": ()}
    async with serve(loader=loader, **config) as server:
        _, error = await server.error(live([], model="first"))
        loader.go.set()
    assert error.reason == Reason.MODEL_UNAVAILABLE


async def test_an_idle_model_makes_room_for_one_that_is_asked_for(
    serve: Serve, model_dir: Path, loader: TestLoader
) -> None:
    on_demand = ("first", "second", "third")
    async with serve(loader=loader, model_dir=model_dir, models_on_demand=on_demand, max_models=2) as server:
        for model in ("first", "second", "first", "third"):
            await transcribed(server, model)
        models = await server.models()
    assert {model: models[model].available for model in on_demand} == {"first": True, "second": False, "third": True}


async def test_what_is_being_used_is_not_unloaded_and_who_finds_no_room_may_ask_again(
    serve: Serve, model_dir: Path
) -> None:
    config = {"model_dir": model_dir, "models_on_demand": ("first", "second"), "fallback_models": (), "max_models": 1}
    async with serve(**config, load_retry_s=0.05) as server:
        call = server.stub.Transcribe()
        for request in requests(b"", model="first", language="en"):
            await call.write(request)
        await call.read()
        assert "no room" in (await refused(server, "second")).message
        await call.done_writing()
        assert (await call.read()).WhichOneof("event") == "finished"
        assert await call.read() is grpc.aio.EOF
        await until(lambda: answers(server, "second"))


@pytest.mark.parametrize("why", ["budget", "device"])
async def test_a_model_for_which_there_is_not_enough_memory_is_refused_and_others_answer(
    serve: Serve, model_dir: Path, loader: TestLoader, why: str
) -> None:
    config: dict[str, Any] = {"model_dir": model_dir, "models": ("first",), "models_on_demand": ("second",)}
    if why == "budget":
        config |= {"memory_mib": 8, "max_batch": 1}
    async with serve(loader=loader, **config, fallback_models=()) as server:
        loader.free = float("inf") if why == "budget" else 1.0
        assert "no room" in (await refused(server, "second")).message
        assert await transcribed(server, "first") == ("first", UNTRAINED_TEXT, [])


async def test_nobody_leaves_for_a_model_that_does_not_fit_all_the_same(
    serve: Serve, model_dir: Path, loader: TestLoader
) -> None:
    config = {"model_dir": model_dir, "models_on_demand": ("first", "second"), "fallback_models": ()}
    async with serve(loader=loader, **config) as server:
        await transcribed(server, "first")
        loader.free = -100.0
        assert "no room" in (await refused(server, "second")).message
        assert (await server.models())["first"].available


async def test_of_two_who_want_the_only_place_at_once_one_gets_it_and_the_other_may_ask_again(
    serve: Serve, model_dir: Path, loader: TestLoader
) -> None:
    loader.go.clear()
    config = {"model_dir": model_dir, "models_on_demand": ("first", "second"), "fallback_models": (), "max_models": 1}
    async with serve(loader=loader, **config, load_retry_s=0.05) as server:
        first = asyncio.ensure_future(transcribed(server, "first"))
        await loader.loading.wait()
        second = asyncio.ensure_future(refused(server, "second"))
        loader.go.set()
        assert await first == ("first", UNTRAINED_TEXT, [])
        assert "no room" in (await second).message
        await until(lambda: answers(server, "second"))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1_000_000])


def emptied(path: Path) -> None:
    path.write_text("{}")


def listed(path: Path) -> None:
    path.write_text("[]")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.bin", cut_short),
        ("model.bin", Path.unlink),
        ("tokenizer.json", emptied),
        ("preprocessor_config.json", listed),
    ],
)
async def test_a_damaged_model_is_unavailable_until_it_is_mended(
    serve: Serve, model_dir: Path, untrained: Path, file: str, damage: Callable[[Path], None]
) -> None:
    (model_dir / "first").unlink()
    shutil.copytree(untrained, model_dir / "first")
    damage(model_dir / "first" / file)
    async with serve(model_dir=model_dir, models=("first", "second"), fallback_models=(), load_retry_s=0.1) as server:
        error = await refused(server, "first")
        assert "could not be loaded" in error.message
        assert str(model_dir) not in error.message
        assert await transcribed(server, "second") == ("second", UNTRAINED_TEXT, [])
        shutil.copy(untrained / file, model_dir / "first" / file)
        await until(lambda: answers(server, "first"))


class LostGpu:
    """What CTranslate2 is like when its GPU has gone."""

    device = "cuda"

    def __init__(self, network: Network) -> None:
        self._network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def encode(self, *_: Any) -> Any:
        raise RuntimeError("CUDA failed with error unspecified launch failure")


class FallingLoader(TestLoader):
    """Its first engine loses its GPU at once."""

    def load(self, model: Model) -> Engine:
        engine = super().load(model)
        if self.loads == ["first"] and isinstance(engine, Whisper):
            engine._model.model = LostGpu(engine._model.model)
        return engine


async def test_a_model_whose_gpu_disappears_is_loaded_again_and_others_answer_meanwhile(
    serve: Serve, model_dir: Path, engine: Moonshine
) -> None:
    loader = FallingLoader(engine)
    async with serve(loader=loader, model_dir=model_dir, models=("first",), load_retry_s=0.2) as server:
        _, error = await server.error(requests(SPEECH.tobytes(), model="first", language="en"))
        assert error.reason == Reason.MODEL_UNAVAILABLE
        loader.go.clear()
        assert (await transcribed(server, "moonshine-tiny-en"))[0] == "moonshine-tiny-en"
        loader.go.set()
        await until(lambda: answers(server, "first"))
    assert loader.loads == ["first", "first"]


async def test_a_model_that_nobody_knows_ends_the_program_with_a_sentence(serve: Serve) -> None:
    with pytest.raises(OSError, match="there is no model large-v9"):
        async with serve(models=("large-v9",)):
            pass


async def answers(server: Server, model: str) -> bool:
    events = [event async for event in server.stub.Transcribe(requests(b"", model=model, language="en"), timeout=60)]
    return bool(events[0].started.model == model)


async def available(server: Server, model: str) -> bool:
    return bool((await server.models())[model].available)


async def until(holds: Callable[[], Any]) -> None:
    """Ask again until it holds; what the service refuses does not hold yet."""
    async with asyncio.timeout(20):
        while True:
            with suppress(grpc.aio.AioRpcError):
                if await holds():
                    return
            await asyncio.sleep(0.02)
