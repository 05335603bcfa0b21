"""Which engine answers, and what is said while the one that was asked for is not there yet."""

import asyncio
import importlib.util
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from services.common.errors import Reason
from services.summarize.choice import choose, chosen
from services.summarize.engine import Delta, Engine, Event, Progress, Style, UnavailableError
from services.summarize.engines.qwen.files import MODEL, problem
from services.summarize.keeper import KeptEngine
from services.summarize.settings import SummarizeSettings
from tests.summarize.client import Client, serving

without_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")


class Ready:
    """Says what it was given, in two parts."""

    model = "ready"

    async def summarize(self, text: str, style: Style) -> AsyncGenerator[Event, None]:
        yield Progress(1, 2)
        yield Delta(text)


class Loading:
    """Loads as it is told: each time a failure that is raised, or an engine; then waits for ever."""

    def __init__(self, *outcomes: Exception | Engine) -> None:
        self.outcomes = list(outcomes)
        self.hung, self.ended = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> Engine:
        if not self.outcomes:
            self.hung.set()
            await asyncio.Event().wait()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        # When who asked for it has taken it.
        asyncio.get_running_loop().call_soon(self.ended.set)
        return outcome


@asynccontextmanager
async def kept(load: Callable[[], Awaitable[Engine]], wait_s: float = 30) -> AsyncIterator[Client]:
    async with KeptEngine("kept", load, retry_s=0.01, wait_s=wait_s) as engine, serving(engine, 8) as client:
        yield client


async def test_requests_wait_for_an_engine_that_is_being_loaded() -> None:
    async with kept(Loading(Ready())) as client:
        progress, delta, last = await client.events("Hello.")
    assert (progress.progress.parts_done, progress.progress.parts) == (1, 2)
    assert delta.delta == "Hello."
    assert last.finished.model == "kept"


async def test_loading_that_takes_long_is_unavailable_for_a_while() -> None:
    async with kept(Loading(), wait_s=0) as client:
        code, error = await client.error("Hello.")
    assert (code, error.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.MODEL_UNAVAILABLE)
    assert error.message == "The model kept is being loaded; try again soon."
    assert error.retryable


async def test_what_failed_is_said_and_tried_again_until_it_works() -> None:
    load = Loading(UnavailableError("The hub is away."), UnavailableError("The hub is away."))
    async with kept(load) as client:
        await load.hung.wait()
        _, error = await client.error("Hello.")
        assert error.message == "The model kept could not be loaded and will be tried again: The hub is away."
        assert error.retryable


async def test_what_nobody_expected_is_not_shown_to_callers_and_tried_again_too() -> None:
    load = Loading(RuntimeError("secret path"), RuntimeError("secret path"))
    async with kept(load) as client:
        await load.hung.wait()
        _, error = await client.error("Hello.")
    assert "secret" not in error.message
    assert error.reason is Reason.MODEL_UNAVAILABLE


async def test_an_engine_that_could_be_loaded_at_last_answers() -> None:
    load = Loading(UnavailableError("Not yet."), Ready())
    async with kept(load) as client:
        await load.ended.wait()
        assert await client.summary("Hello.") == "Hello."


@without_torch
async def test_without_pytorch_the_extractive_engine_is_chosen_and_named(tmp_path: Path) -> None:
    settings = SummarizeSettings(model_dir=tmp_path)
    assert choose(settings) == "extractive-lexrank"
    async with chosen(settings) as engine, serving(engine, 8) as client:
        assert (await client.events("The boat sank."))[-1].finished.model == "extractive-lexrank"


@without_torch
async def test_qwen_that_was_asked_for_says_that_pytorch_is_missing(tmp_path: Path) -> None:
    async with chosen(SummarizeSettings(model=MODEL, model_dir=tmp_path)) as engine, serving(engine, 8) as client:
        code, error = await client.error("The boat sank.")
    assert (code, error.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.MODEL_UNAVAILABLE)
    assert "torch" in error.message
    assert "summarize-qwen" in error.message


async def test_the_extractive_engine_can_be_asked_for() -> None:
    async with chosen(SummarizeSettings(model="extractive-lexrank")) as engine:
        assert engine.model == "extractive-lexrank"


def test_a_model_that_nobody_knows_is_a_bad_setting() -> None:
    with pytest.raises(ValidationError):
        SummarizeSettings.model_validate({"model": "gpt-2"})


@pytest.mark.parametrize("tokens", [-1, 1, 999, 31_001])
def test_passes_too_short_or_too_long_are_a_bad_setting(tokens: int) -> None:
    with pytest.raises(ValidationError):
        SummarizeSettings.model_validate({"max_input_tokens": tokens})


@pytest.mark.parametrize("tokens", [0, 1_000, 31_000])
def test_passes_are_as_long_as_asked_for_or_as_suits_the_device(tokens: int) -> None:
    assert SummarizeSettings.model_validate({"max_input_tokens": tokens}).max_input_tokens == tokens


async def test_the_log_says_that_loading_began() -> None:
    with capture_logs() as logs:
        async with kept(Loading(Ready())) as client:
            await client.summary("Hello.")
    assert logs[0] == {"event": "model being loaded", "model": "kept", "log_level": "info"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "There is no config.json."),
        ({"config.json": "{}"}, "There is no tokenizer.json."),
        ({"config.json": "{", "tokenizer.json": "{}", "tokenizer_config.json": "{}"}, "config.json is not"),
        ({"config.json": "[]", "tokenizer.json": "{}", "tokenizer_config.json": "{}"}, "config.json is not"),
        (
            {"config.json": "{}", "tokenizer.json": "{}", "tokenizer_config.json": "{}"},
            "There is no model.safetensors.",
        ),
        (
            {
                **dict.fromkeys(("config.json", "tokenizer.json", "tokenizer_config.json"), "{}"),
                "model.safetensors.index.json": '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}',
                "1.safetensors": "",
            },
            "There is no 2.safetensors.",
        ),
        (
            {
                **dict.fromkeys(("config.json", "tokenizer.json", "tokenizer_config.json"), "{}"),
                "model.safetensors.index.json": '{"weight_map": 3}',
            },
            "model.safetensors.index.json is not",
        ),
        (dict.fromkeys(("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"), "{}"), None),
    ],
)
def test_a_quick_look_tells_what_files_lack(tmp_path: Path, files: dict[str, str], said: str | None) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    found = problem(tmp_path)
    assert found is None if said is None else (found or "").startswith(said)
