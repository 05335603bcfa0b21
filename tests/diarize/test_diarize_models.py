"""The models as they come out of the wheel, and how a recording waits for them."""

import asyncio
import importlib.metadata
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from threading import Event

import numpy as np
import onnxruntime as ort
import pytest

from services.diarize.engines.community1 import STRETCH_BYTES, Community1
from services.diarize.engines.libmoonshine import ModelFilesError, read_community1
from services.diarize.engines.networks import LOOKBACK_SAMPLES, Networks
from services.diarize.settings import DiarizeSettings
from tests.diarize.conftest import Pcm


def test_the_cut_network_gives_the_original_ones_embeddings(
    networks: Networks, recording: Callable[[str], Pcm], monkeypatch: pytest.MonkeyPatch
) -> None:
    pcm = recording("two_cities.wav")[: 10 * 16_000 + LOOKBACK_SAMPLES]
    fbank: list[np.ndarray] = []
    run = networks._convolutions.run
    monkeypatch.setattr(
        networks, "_convolutions", type("Spy", (), {"run": lambda _, o, i: fbank.append(i["fbank"]) or run(o, i)})()
    )
    features = networks.features(pcm, np.ones(1000, bool))
    weights = np.zeros((1, 125), np.float32)
    weights[0, 10:40] = 1
    original = ort.InferenceSession(read_community1().embedding, providers=["CPUExecutionProvider"])
    expected = original.run(None, {"fbank": fbank[0], "weights": np.repeat(weights, 8, axis=1)})[0]
    np.testing.assert_allclose(networks.embed(features, weights), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("version", "said"), [("0.1.1", "only 0.1.0 carries the models"), (None, "moonshine-voice==0.1.0 is not installed")]
)
def test_another_wheel_is_refused_with_a_clear_sentence(
    monkeypatch: pytest.MonkeyPatch, version: str | None, said: str
) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", installed)
    with pytest.raises(ModelFilesError, match=said):
        read_community1()


async def test_a_recording_waits_while_the_engine_is_behind(networks: Networks) -> None:
    release = Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(release.wait)
        diarization = Community1(networks, executor, {0: 5.0}, ahead=2).open(0, 0)
        fed = 0

        async def feed() -> None:
            nonlocal fed
            for _ in range(8):
                await diarization.feed(bytes(STRETCH_BYTES))
                fed += 1

        feeding = asyncio.create_task(feed())
        for _ in range(100):
            await asyncio.sleep(0)
        assert fed == 2
        release.set()
        await feeding
        assert await diarization.finish() == []
        assert diarization.processed_s == 80


async def test_what_has_not_begun_is_given_up_on_close(networks: Networks) -> None:
    release = Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(release.wait)
        diarization = Community1(networks, executor, {0: 5.0}, ahead=2).open(0, 0)
        for _ in range(2):
            await diarization.feed(bytes(STRETCH_BYTES))
        diarization.close()
        with pytest.raises(asyncio.CancelledError):
            await diarization.finish()
        release.set()
    assert diarization.processed_s == 0


def test_longer_recordings_are_looked_at_in_longer_steps(networks: Networks, executor: Executor) -> None:
    engine = Community1(networks, executor, {0: 1.0, 120: 2.5, 3600: 5.0}, ahead=2)
    assert [engine.step_s(seconds) for seconds in (0, 119.9, 120, 3599, 36_000)] == [1.0, 1.0, 2.5, 2.5, 5.0]


@pytest.mark.parametrize("steps_s", [{}, {60: 1.0}, {0: 3.0}, {0: 0.0}, {0: 20.0}])
def test_steps_that_do_not_fit_a_window_are_refused(steps_s: Mapping[float, float]) -> None:
    with pytest.raises(ValueError, match="steps_s"):
        DiarizeSettings(steps_s=dict(steps_s))
