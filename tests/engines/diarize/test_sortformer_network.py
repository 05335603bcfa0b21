"""The network, chunk by chunk: what comes out is what NeMo makes of the whole recording, whoever shares a batch."""

import asyncio
from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from services.diarize.engines.sortformer.batches import Batches
from services.diarize.engines.sortformer.network import Network
from services.diarize.engines.sortformer.presets import PRESETS, Preset
from services.diarize.engines.sortformer.stream import Stream
from tests.diarize.conftest import Pcm

# Half of what 16 bits of a probability can tell apart.
TOLERANCE = 5e-4

Found = npt.NDArray[np.floating[Any]]


def offline(network: Network, preset: Preset, pcm: Pcm) -> Found:
    """Return what NeMo's own loop over the features of the whole recording finds."""
    model, modules = network._model, network._model.sortformer_modules
    modules.chunk_len, modules.chunk_left_context, modules.chunk_right_context = preset.chunk, preset.left, preset.right
    modules.fifo_len, modules.spkcache_update_period, modules.spkcache_len = preset.fifo, preset.update, preset.cache
    samples = torch.from_numpy(pcm.astype(np.float32) / 32768)[None]
    with torch.inference_mode():
        found: Found = model.forward(samples, torch.tensor([samples.shape[1]]))[0].numpy()
    return found


async def streamed(batches: Batches, preset: Preset, pcm: Pcm, portion: int) -> Found:
    stream = Stream(batches, preset, is_live=False)
    found = []
    for start in range(0, len(pcm), portion):
        stream.add(pcm[start : start + portion].tobytes())
        while (heard := await stream.advance()) is not None:
            found.append(heard)
    while (heard := await stream.advance(at_end=True)) is not None:
        found.append(heard)
    return np.concatenate(found)


# Several chunks of each, so that what was heard before has been compressed at least once.
@pytest.mark.parametrize(("latency_s", "seconds"), [(30.4, 56.0), (10.0, 56.0), (1.04, 20.0), (0.32, 12.0)])
async def test_a_stream_is_heard_as_the_whole_recording_is(
    loaded: Network, thread: Executor, voices: Pcm, latency_s: float, seconds: float
) -> None:
    preset, pcm = PRESETS[latency_s], voices[: int(seconds * 16_000) - 1234]
    whole = offline(loaded, preset, pcm)
    found = await streamed(Batches(loaded, thread, 1), preset, pcm, 7_777)
    assert found.shape == whole.shape
    assert np.abs(found - whole).max() < TOLERANCE
    # What is compared depends on what is said.
    assert whole.std(axis=0).min() > 0.1


async def test_streams_that_share_batches_are_heard_as_each_alone(
    loaded: Network, thread: Executor, voices: Pcm
) -> None:
    preset = PRESETS[10.0]
    # Of different lengths and voices, one of them shorter than a chunk.
    recordings = [voices[: 40 * 16_000], voices[16_000 * 9 : 16_000 * 35 + 77], voices[-70_000:], voices[: 16_000 * 11]]
    alone = [await streamed(Batches(loaded, thread, 1), preset, pcm, 64_000) for pcm in recordings]
    batches = Batches(loaded, thread, 8)
    together = await asyncio.gather(*(streamed(batches, preset, pcm, 64_000) for pcm in recordings))
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() < TOLERANCE


@pytest.mark.parametrize("samples", [1, 159, 160, 255, 256, 400, 1_279, 1_280, 1_281, 7_680, 7_681, 16_640, 16_800])
async def test_a_recording_of_any_length_has_a_frame_for_every_80_ms(
    loaded: Network, thread: Executor, voices: Pcm, samples: int
) -> None:
    stream = Stream(Batches(loaded, thread, 1), PRESETS[1.04], is_live=False)
    stream.add(voices[:samples].tobytes())
    frames = 0
    while (heard := await stream.advance(at_end=True)) is not None:
        frames += len(heard)
    assert frames == -(-(samples // 160) // 8)


async def test_audio_without_a_sample_has_no_frames(loaded: Network, thread: Executor) -> None:
    assert await Stream(Batches(loaded, thread, 1), PRESETS[1.04], is_live=False).advance(at_end=True) is None
