"""How a Sortformer gets here, or not: whatever is wrong with it, the embedded engine answers and says why."""

import asyncio
import io
import json
import os
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import grpc
import pytest
from huggingface_hub import constants
from stt.diarize.v1 import diarize_pb2_grpc

from services.diarize import sortformers
from services.diarize.loading import Loading
from services.diarize.settings import DiarizeSettings
from tests.diarize.conftest import Answer, Pcm, Server
from tests.engines.diarize.conftest import MODEL
from tests.hub import Hub, hub
from tests.models import sortformer
from tests.outside import metrics

NEMO = f"{MODEL}.nemo"
REPOSITORY = f"nvidia/{MODEL}"


@pytest.fixture
def answer_with(
    serve_engines: Callable[..., Any], thread: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Let a service load what is in a folder, and give its answer to a second of silence."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    async def answer(folder: Path) -> Answer:
        tries = 0
        has_failed = asyncio.Event()

        async def fetch() -> None:
            nonlocal tries
            tries += 1
            if tries > 1:
                has_failed.set()
                await asyncio.Event().wait()

        def loading(settings: DiarizeSettings) -> Loading:
            made = Loading(MODEL, fetch, sortformers.loader(MODEL, thread, settings), retry_s=0.0)
            tasks.add(asyncio.create_task(made.run()))
            return made

        tasks: set[asyncio.Task[Any]] = {asyncio.create_task(has_failed.wait())}
        async with serve_engines(loading, model_dir=folder, device="cpu") as server, asyncio.timeout(60):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            found: Answer = await server.diarize(bytes(32_000))
            for task in tasks:
                task.cancel()
            return found

    return answer


def problem(answer: Answer) -> str:
    assert answer.finished.model == "pyannote-community-1"
    (warning,) = answer.finished.warnings
    assert warning.reason == "FALLBACK_MODEL"
    assert "\n" not in warning.message
    assert warning.message.endswith(" pyannote-community-1 answered.")
    return warning.message


async def test_a_file_in_the_model_folder_is_loaded(answer_with: Callable[..., Any], model_dir: Path) -> None:
    answer = await answer_with(model_dir)
    assert answer.finished.model == MODEL
    assert not answer.finished.warnings


async def test_a_file_may_lie_in_a_folder_of_its_name(
    answer_with: Callable[..., Any], model_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / MODEL).mkdir()
    (tmp_path / MODEL / NEMO).symlink_to(model_dir / NEMO)
    assert (await answer_with(tmp_path)).finished.model == MODEL


@pytest.mark.parametrize("share", [0.001, 0.5, 0.9])
async def test_a_file_that_is_cut_off_is_said_to_be(
    answer_with: Callable[..., Any], model_dir: Path, tmp_path: Path, share: float
) -> None:
    content = (model_dir / NEMO).read_bytes()
    (tmp_path / NEMO).write_bytes(content[: int(len(content) * share)])
    assert NEMO in problem(await answer_with(tmp_path))


async def test_a_file_with_damaged_weights_is_said_to_be(
    answer_with: Callable[..., Any], model_dir: Path, tmp_path: Path
) -> None:
    content = bytearray((model_dir / NEMO).read_bytes())
    start = content.index(b"model_weights.ckpt") + 2_048
    content[start : start + 4_096] = bytes(4_096)
    (tmp_path / NEMO).write_bytes(content)
    assert "cannot be loaded" in problem(await answer_with(tmp_path))


@pytest.mark.parametrize("content", [b"", b"<html>not here</html>", os.urandom(5_000)], ids=["empty", "page", "noise"])
async def test_a_file_that_is_no_archive_is_said_to_be(
    answer_with: Callable[..., Any], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / NEMO).write_bytes(content)
    assert f"{NEMO} is damaged, or no .nemo file" in problem(await answer_with(tmp_path))


async def test_a_model_of_another_kind_is_said_to_be(answer_with: Callable[..., Any], tmp_path: Path) -> None:
    config = b"target: nemo.collections.asr.models.EncDecCTCModelBPE\n"
    with tarfile.open(tmp_path / NEMO, "w") as archive:
        info = tarfile.TarInfo("./model_config.yaml")
        info.size = len(config)
        archive.addfile(info, io.BytesIO(config))
    assert f"{NEMO} holds no Sortformer" in problem(await answer_with(tmp_path))


async def test_a_model_that_cannot_be_streamed_is_refused(
    answer_with: Callable[..., Any], tmp_path: Path, voices: Pcm
) -> None:
    sortformer.save(tmp_path / NEMO, sortformer.SMALL, voices, preprocessor={"normalize": "per_feature"})
    assert "cannot be streamed" in problem(await answer_with(tmp_path))


async def test_a_model_that_is_not_here_is_said_not_to_be(answer_with: Callable[..., Any], tmp_path: Path) -> None:
    assert f"there is no {NEMO}" in problem(await answer_with(tmp_path))


@pytest.fixture
def mirror(model_dir: Path) -> Iterator[Hub]:
    with hub({REPOSITORY: model_dir}) as running:
        yield running


class Program:
    """The service as it is started."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def until(self, event: str) -> dict[str, Any]:
        """Return the next such line of its log."""
        assert self._process.stderr is not None
        async with asyncio.timeout(60):
            while line := await self._process.stderr.readline():
                if line.startswith(b"{") and (entry := json.loads(line))["event"] == event:
                    found: dict[str, Any] = entry
                    return found
        raise AssertionError(f"the program ended before it said {event!r}")


@pytest.fixture
async def start(tmp_path: Path) -> Any:
    """Start the program with these variables."""
    running = []

    async def program(**variables: str) -> Program:
        environment = {"DIARIZE_PORT": "0", "LOG_FORMAT": "json", "HF_HUB_CACHE": str(tmp_path / "cache")} | variables
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.diarize",
            env={**os.environ, **environment}, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        running.append(process)
        return Program(process)

    yield program
    for process in running:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.communicate()


async def ask(port: int) -> Answer:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        return await Server(diarize_pb2_grpc.DiarizeServiceStub(channel)).diarize(bytes(32_000))


async def test_by_default_the_program_takes_the_model_that_is_here(start: Any, model_dir: Path) -> None:
    program = await start(MODEL_DIR=str(model_dir))
    port = (await program.until("ready"))["port"]
    assert (await program.until("loaded"))["model"] == MODEL
    assert (await ask(port)).finished.model == MODEL


async def test_by_default_nothing_is_fetched(start: Any, mirror: Hub, tmp_path: Path) -> None:
    program = await start(**mirror.environment(tmp_path))
    answer = await ask((await program.until("ready"))["port"])
    assert answer.finished.model == "pyannote-community-1"
    assert not answer.finished.warnings
    assert not mirror.requests


async def test_a_model_that_is_asked_for_is_fetched_from_a_mirror(start: Any, mirror: Hub, tmp_path: Path) -> None:
    program = await start(DIARIZE_MODEL=MODEL, **mirror.environment(tmp_path))
    port = (await program.until("ready"))["port"]
    await program.until("loaded")
    assert (await ask(port)).finished.model == MODEL


async def test_while_a_hub_cannot_be_reached_the_embedded_engine_answers(
    start: Any, mirror: Hub, tmp_path: Path
) -> None:
    mirror.stop()
    variables = {"DIARIZE_MODEL": MODEL, "DIARIZE_DEVICE": "cpu", "DIARIZE_LOAD_RETRY_S": "0.5"}
    program = await start(**variables, **mirror.environment(tmp_path))
    ready = await program.until("ready")
    port = ready["port"]
    await program.until("not loaded")
    assert "cannot be reached" in problem(await ask(port))
    shown = f'stt_model_loaded{{device="cpu",model="{MODEL}"}}'
    assert f"{shown} 0.0" in await metrics(ready["metrics_port"])
    mirror.start()
    await program.until("loaded")
    assert f"{shown} 1.0" in await metrics(ready["metrics_port"])
    assert (await ask(port)).finished.model == MODEL
