"""The model's files become an engine, or a sentence that says why not; the rest is served meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from structlog.testing import capture_logs
from stt.summarize.v1 import summarize_pb2 as pb
from transformers import Qwen2Config

from services.common.errors import Reason
from services.summarize.choice import choose, chosen
from services.summarize.engine import UnavailableError
from services.summarize.engines.qwen.engine import QwenEngine
from services.summarize.engines.qwen.files import MODEL, REPOSITORY
from services.summarize.engines.qwen.loading import load
from services.summarize.engines.qwen.running import Running
from services.summarize.engines.qwen.sizing import PAGE_TOKENS, Sizes
from services.summarize.engines.qwen.start import start
from services.summarize.settings import SummarizeSettings
from tests.models.qwen import save
from tests.summarize.client import Client, serving

TEXT = "Speaker 1: We talk about the launch of the app. Speaker 2: Okay, thanks everyone."


@asynccontextmanager
async def served(model_dir: Path | None, **settings: object) -> AsyncIterator[Client]:
    given = SummarizeSettings.model_validate(
        {"model_dir": model_dir, "load_wait_s": 30, "load_retry_s": 0.05, **settings}
    )
    async with chosen(given) as engine, serving(engine, 8) as client:
        yield client


def weights_of(folder: Path) -> Path:
    return folder / "model.safetensors"


def cut_off(folder: Path) -> None:
    weights = weights_of(folder)
    weights.write_bytes(weights.read_bytes()[:10_000])


def scramble(folder: Path) -> None:
    weights_of(folder).write_bytes(b"\xff" * 5_000)


def drop_a_layer(folder: Path) -> None:
    """Say that there are more layers than the weights are of."""
    config = json.loads((folder / "config.json").read_bytes())
    config["num_hidden_layers"] += 1
    config["layer_types"].append("full_attention")
    (folder / "config.json").write_text(json.dumps(config))


def make_foreign(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_bytes()) | {"model_type": "llama"}
    (folder / "config.json").write_text(json.dumps(config))


def garble_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')


def lose_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def shorten(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_bytes()) | {"max_position_embeddings": 2_048}
    (folder / "config.json").write_text(json.dumps(config))


def lose(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (cut_off, "Its weights cannot be loaded."),
    (scramble, "Its weights cannot be loaded."),
    (drop_a_layer, "of its weights are missing."),
    (make_foreign, "It is a llama model, not qwen2."),
    (shorten, "It has 2048 positions, and 4096 are needed."),
    (garble_tokenizer, "Its tokenizer cannot be loaded, or has no chat template."),
    (lose_template, "Its tokenizer cannot be loaded, or has no chat template."),
    (lose("tokenizer.json"), "Its files are not whole: There is no tokenizer.json."),
    (lose("config.json"), "Its files are not whole: There is no config.json."),
    (lose("model.safetensors"), "Its files are not whole: There is no model.safetensors."),
]


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES)
async def test_what_is_wrong_with_the_files_is_said_in_a_sentence(
    tmp_path: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    damage(save(tmp_path / MODEL))
    async with served(tmp_path, model=MODEL) as client:
        code, error = await client.error(TEXT)
    assert (code, error.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.MODEL_UNAVAILABLE)
    assert sentence in error.message
    assert str(tmp_path) not in error.message
    assert error.retryable


async def test_files_that_are_mended_are_loaded_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = asyncio.Event()

    async def watched(*args: Any) -> QwenEngine:
        engine = await start(*args)
        # When who asked for it has taken it.
        asyncio.get_running_loop().call_soon(loaded.set)
        return engine

    monkeypatch.setattr("services.summarize.choice.start", watched)
    folder = save(tmp_path / MODEL, ends_every=20)
    tokenizer = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").unlink()
    async with served(tmp_path, model=MODEL) as client:
        with pytest.raises(grpc.aio.AioRpcError):
            await client.summary(TEXT)
        (folder / "tokenizer.json").write_bytes(tokenizer)
        await loaded.wait()
        assert await client.summary(TEXT, pb.STYLE_HEADLINE)


async def test_a_damaged_model_is_not_chosen_and_the_log_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    lose("tokenizer.json")(save(tmp_path / MODEL))
    with capture_logs() as logs:
        assert choose(SummarizeSettings(model_dir=tmp_path)) == "extractive-lexrank"
    assert [(log["log_level"], log["why"]) for log in logs] == [("warning", "There is no tokenizer.json.")]


def test_a_model_that_does_not_fit_into_the_memory_is_refused_before_it_is_loaded(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.summarize.engines.qwen.loading.available_mib", lambda: 12.3)
    with pytest.raises(UnavailableError, match=r"It needs \d\d MiB of memory, and 12 MiB are free\."):
        load(model_dir / MODEL, Running("cpu", "float32", 8, 0))


def test_the_true_model_needs_what_was_measured() -> None:
    config = Qwen2Config(hidden_size=1536, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2)
    sizes = Sizes.on("cpu", 0, 32_768, 8)
    assert (sizes.max_input_tokens, sizes.max_tokens) == (6_000, 10_096)
    # 28 KiB a token are the cache, the rest is read at once in one layer.
    assert 28 < sizes.cache_mib(config, 2) * 1024 / sizes.cache_tokens < 36
    assert Sizes.on("cuda", 0, 32_768, 8).max_input_tokens == 30_000


@pytest.mark.parametrize("max_batch", [1, 8, 256])
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("max_input_tokens", [0, 1_000, 31_000])
def test_the_longest_text_has_room_and_a_step_fits_into_the_margin(
    kind: str, max_input_tokens: int, max_batch: int
) -> None:
    sizes = Sizes.on(kind, max_input_tokens, 32_768, max_batch)
    assert sizes.pages * PAGE_TOKENS >= sizes.max_tokens
    margin = sizes.cache_pages - sizes.pages
    assert margin * PAGE_TOKENS >= sizes.step_tokens
    assert margin >= min(max_batch, sizes.step_tokens)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_it_computes_with_what_was_asked_for(model_dir: Path, dtype: str) -> None:
    with capture_logs() as logs:
        model = load(model_dir / MODEL, Running("cpu", dtype, 8, 0))
    assert model.manager().model.dtype == getattr(torch, dtype)
    (log,) = [log for log in logs if log["event"] == "weights loaded"]
    assert (log["device"], log["dtype"], log["cache_tokens"]) == ("cpu", dtype, model.sizes.cache_tokens)
    assert log["cache_mib"] > 0


async def test_a_model_in_the_folder_of_models_is_chosen_and_answers(model_dir: Path) -> None:
    assert choose(SummarizeSettings(model_dir=model_dir)) == MODEL
    async with served(model_dir) as client:
        events = await client.events(TEXT, pb.STYLE_HEADLINE)
    assert events[-1].finished.model == MODEL


async def test_a_model_in_the_cache_of_the_hub_is_chosen_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / f"models--{REPOSITORY.replace('/', '--')}"
    save(home / "snapshots" / "abc", ends_every=20)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert choose(SummarizeSettings()) == MODEL
    async with served(None) as client:
        assert await client.summary(TEXT, pb.STYLE_HEADLINE)


async def test_without_files_the_extractive_engine_is_chosen_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    async with served(tmp_path) as client:
        events = await client.events(TEXT)
    assert events[-1].finished.model == "extractive-lexrank"


async def test_a_hub_that_cannot_be_reached_is_named_and_the_service_stays_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    async with served(None, model=MODEL) as client:
        code, error = await client.error(TEXT)
        _, again = await client.error(TEXT)
    assert (code, error.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.MODEL_UNAVAILABLE)
    assert "http://127.0.0.1:9" in error.message
    assert again.retryable


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(model_dir: Path) -> None:
    with pytest.raises(UnavailableError, match="No GPU"):
        load(model_dir / MODEL, Running("cuda", "auto", 8, 0))
