"""One stream of audio on its way through the network, chunk by chunk; how the answers are read is not here."""

from copy import copy

import numpy as np
import numpy.typing as npt

from services.common.audio import SAMPLE_BYTES, SAMPLE_RATE
from services.diarize.engines.sortformer.batches import Batches
from services.diarize.engines.sortformer.channels import Probabilities
from services.diarize.engines.sortformer.chunks import (
    HOP_SAMPLES,
    LOOKBACK,
    REACH_SAMPLES,
    SUBSAMPLING,
    Chunk,
)
from services.diarize.engines.sortformer.presets import FRAME_S, Preset


class Stream:
    """Kept of it are the samples of a chunk and its surroundings, and what the network remembers."""

    def __init__(self, batches: Batches, preset: Preset, *, is_live: bool) -> None:
        self._batches = batches
        self._preset = preset
        self._is_live = is_live
        self._pcm = bytearray()
        self._dropped_samples = 0
        self._state: object | None = None
        self.frames = 0
        """How many frames have been answered."""

    @property
    def duration_s(self) -> float:
        """Seconds that have come."""
        return self._samples / SAMPLE_RATE

    @property
    def processed_s(self) -> float:
        """Seconds that have been answered."""
        return min(self.frames * FRAME_S, self.duration_s)

    def add(self, pcm: bytes) -> None:
        """Take the next samples; `advance` hears them."""
        self._pcm += pcm

    async def advance(self, *, at_end: bool = False) -> Probabilities | None:
        """Hear the next chunk and return its (frames, speakers) of probabilities; None where there is none yet.

        At the end a chunk need not be whole.
        """
        chunk = self._chunk(at_end=at_end)
        if chunk is None:
            return None
        heard = await self._batches.hear(chunk, is_live=self._is_live)
        self._state = heard.state
        self.frames += chunk.frames
        first_needed = ((self.frames - self._preset.left) * SUBSAMPLING - LOOKBACK) * HOP_SAMPLES
        drop = max(0, first_needed - self._dropped_samples)
        del self._pcm[: drop * SAMPLE_BYTES]
        self._dropped_samples += drop
        return heard.probabilities

    async def glance(self) -> Probabilities | None:
        """Return all that `advance` would at the end, and stay where it was."""
        ahead = copy(self)
        ahead._pcm = bytearray(self._pcm)
        found = []
        while (heard := await ahead.advance(at_end=True)) is not None:
            found.append(heard)
        return np.concatenate(found) if found else None

    @property
    def _samples(self) -> int:
        return self._dropped_samples + len(self._pcm) // SAMPLE_BYTES

    def _chunk(self, *, at_end: bool) -> Chunk | None:
        preset, start = self._preset, self.frames * SUBSAMPLING
        wanted = start + (preset.chunk + preset.right) * SUBSAMPLING
        # A feature is there once all is that it reaches to; at the end there is nothing more to come.
        whole = (self._samples - REACH_SAMPLES) // HOP_SAMPLES + 1
        features = self._samples // HOP_SAMPLES if at_end else whole
        if features <= start or (features < wanted and not at_end):
            return None
        left = preset.left if start else 0
        first = max(0, start - left * SUBSAMPLING - LOOKBACK)
        last_sample = self._samples if at_end and features <= wanted else (wanted - 1) * HOP_SAMPLES + REACH_SAMPLES
        return Chunk(
            preset=preset,
            samples=self._cut(first * HOP_SAMPLES, last_sample),
            skip=start - left * SUBSAMPLING - first,
            left=left,
            frames=min(preset.chunk, -(-(features - start) // SUBSAMPLING)),
            state=self._state,
        )

    def _cut(self, first: int, last: int) -> npt.NDArray[np.int16]:
        begin = (first - self._dropped_samples) * SAMPLE_BYTES
        end = (last - self._dropped_samples) * SAMPLE_BYTES
        return np.frombuffer(bytes(self._pcm[begin:end]), np.int16)
