"""The embedded engine: pyannote community-1 on a CPU, stretch by stretch as the audio arrives.

Kept of a recording are its voices (some 1.2 KB each) and 20 s of audio; the voices are clustered when it ends. What the
networks compute, how voices are taken, clustered and made turns, and live sessions stand in their own modules.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np

from services.common import engine_work
from services.common.audio import SAMPLE_BYTES, SAMPLE_RATE, Flush
from services.diarize.engine import Turn, Update
from services.diarize.engines.community1_live import LiveSession
from services.diarize.engines.libmoonshine import read_community1
from services.diarize.engines.networks import (
    FBANK_S,
    FEATURE_CHANNELS,
    FEATURE_S,
    LOOKBACK_SAMPLES,
    WINDOW_SAMPLES,
    Floats,
    Networks,
    Samples,
)
from services.diarize.engines.windows import MIN_SAMPLES, group, window_voices
from services.diarize.turns import recording_frames, turns
from services.diarize.voices import Mask, Voice, at_times

STRETCH_BYTES = WINDOW_SAMPLES * SAMPLE_BYTES

P = ParamSpec("P")
R = TypeVar("R")


class Community1:
    """The loaded networks and the threads of `executor`, both shared by all recordings.

    `steps_s` maps a length of recordings to the step of windows from there on, in seconds; a step divides 10 s.
    `ahead` is how many stretches of 10 s of one recording may be waiting or at work.
    """

    model_id = "pyannote-community-1"
    max_speakers = 0
    is_live = True
    is_lost = False

    def __init__(self, networks: Networks, executor: Executor, steps_s: Mapping[float, float], ahead: int) -> None:
        self.networks = networks
        self._executor = executor
        self.ahead = ahead
        self._steps_s = sorted(steps_s.items())

    def open(self, speakers: int, expected_duration_s: float) -> "Recording":
        """Begin a recording."""
        return Recording(self, speakers, expected_duration_s)

    async def listen(self, audio: AsyncIterator[bytes | Flush], speakers: int) -> AsyncGenerator[Update, None]:
        """Yield what is known of a live session with every step of its audio, at a flush, and at its end."""
        session = LiveSession(self.networks, speakers)
        pcm = bytearray()

        async def hear(length: int, everything: bool = False) -> Update:
            new = bytes(pcm[:length])
            del pcm[:length]
            return await self.run("live", session.hear, new, everything)

        async for piece in audio:
            if isinstance(piece, Flush):
                yield await hear(len(pcm), everything=True)
                continue
            pcm += piece
            while len(pcm) >= (step_bytes := session.step_bytes):
                yield await hear(step_bytes)
        if pcm or not session.is_told:
            yield await hear(len(pcm), everything=True)

    def run(self, kind: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Have one of the threads do some work of a recording ("recording") or a session ("live")."""
        return engine_work.run(self._executor, self.model_id, kind, work, *args, **kwargs)

    def step_s(self, duration_s: float) -> float:
        """Return the step of windows for recordings of this length."""
        return next(step for since, step in reversed(self._steps_s) if since <= duration_s)


def load_community1(executor: Executor, steps_s: Mapping[float, float], ahead: int) -> Community1:
    """Load the networks from the installed wheel, in under a second. Raises ModelFilesError."""
    return Community1(Networks(read_community1()), executor, steps_s, ahead)


@dataclass(frozen=True)
class _Look:
    """A stretch, the windows that end in it, and what the networks say of both."""

    windows_s: list[float]
    active: Mask
    features: Floats
    end_s: float


class Recording:
    """One recording: windows are looked at on the executor's threads, a few stretches ahead of taking their voices."""

    def __init__(self, engine: Community1, speakers: int, expected_duration_s: float) -> None:
        self._engine = engine
        self._speakers = speakers
        self._expected_s = expected_duration_s
        self._pcm = bytearray()
        self._before = np.zeros(WINDOW_SAMPLES, np.int16)
        self._heard_samples = 0
        self._looks: deque[asyncio.Future[_Look]] = deque()
        self._features = np.zeros((FEATURE_CHANNELS, 0), np.float32)
        self._windows_s: list[float] = []
        self._voices: list[Voice] = []
        self.processed_s = 0.0

    async def feed(self, pcm: bytes) -> None:
        """Take the next whole samples, waiting while the engine is behind."""
        self._pcm += pcm
        while len(self._pcm) >= STRETCH_BYTES:
            stretch = np.frombuffer(bytes(self._pcm[:STRETCH_BYTES]), np.int16)
            del self._pcm[:STRETCH_BYTES]
            self._look(stretch)
            while len(self._looks) > self._engine.ahead:
                await self._take_voices()

    async def finish(self) -> list[Turn]:
        """Work off what is left and return all turns, in the order of their starts."""
        if self._pcm and (self._heard_samples or len(self._pcm) >= MIN_SAMPLES * SAMPLE_BYTES):
            self._look(np.frombuffer(bytes(self._pcm), np.int16))
        while self._looks:
            await self._take_voices()
        return await self._engine.run("recording", self._turns)

    def close(self) -> None:
        """Give up what has not begun; what runs ends within a stretch's work."""
        for look in self._looks:
            look.cancel()

    def _look(self, stretch: Samples) -> None:
        """Have the networks look at a stretch and at the windows that end in it."""
        start, self._heard_samples = self._heard_samples, self._heard_samples + len(stretch)
        audio = np.concatenate([self._before, stretch])
        self._before = audio[-WINDOW_SAMPLES:]
        step = round(self._engine.step_s(max(self._expected_s, start / SAMPLE_RATE)) * SAMPLE_RATE)
        ends = list(range(max(start + step, WINDOW_SAMPLES), self._heard_samples + 1, step))
        if not ends or ends[-1] < self._heard_samples:
            ends.append(max(self._heard_samples, WINDOW_SAMPLES))
        windows = [end - WINDOW_SAMPLES for end in ends]
        look = self._engine.run("recording", self._run_networks, audio, start, windows, len(stretch))
        self._looks.append(look)

    def _run_networks(self, audio: Samples, start: int, windows: list[int], length: int) -> _Look:
        """Look at the last `length` samples of `audio`, which begin at sample `start` of the recording."""
        networks = self._engine.networks
        first, end = start - WINDOW_SAMPLES, start + length
        padded = np.concatenate([audio, np.zeros(max(0, WINDOW_SAMPLES - length), np.int16)])
        active = networks.segment(np.stack([padded[w - first : w - first + WINDOW_SAMPLES] for w in windows]))
        features = np.zeros((FEATURE_CHANNELS, -(-length // round(FEATURE_S * SAMPLE_RATE))), np.float32)
        if active.any():
            # Their mean is taken off the features, so a short last stretch is heard with what came before it.
            context = WINDOW_SAMPLES if start else length
            times_s = np.arange(0, context / SAMPLE_RATE, FBANK_S) + (end - context) / SAMPLE_RATE
            somebody: Mask = active.max(axis=2)
            spoken = [at_times(a, times_s - w / SAMPLE_RATE) for a, w in zip(somebody, windows, strict=True)]
            heard = networks.features(audio[-context - LOOKBACK_SAMPLES :], np.max(spoken, axis=0))
            features = heard[:, -features.shape[1] :]
        return _Look([w / SAMPLE_RATE for w in windows], active, features, end / SAMPLE_RATE)

    async def _take_voices(self) -> None:
        """Wait for the oldest stretch and take the voices out of its windows."""
        look = await self._looks.popleft()
        features = np.concatenate([self._features, look.features], axis=1)
        self._features = look.features
        self._voices += await self._engine.run("recording", self._pool, look, features)
        self._windows_s += look.windows_s
        self.processed_s = look.end_s

    def _pool(self, look: _Look, features: Floats) -> list[Voice]:
        found: list[Voice] = []
        for window_s, active in zip(look.windows_s, look.active, strict=True):
            first = max(0, features.shape[1] - round((look.end_s - window_s) / FEATURE_S))
            found += window_voices(self._engine.networks, window_s, active, features[:, first:])
        return found

    def _turns(self) -> list[Turn]:
        if not self._voices:
            return []
        frames = recording_frames(self._windows_s, self._voices, group(self._voices, self._speakers))
        return turns(frames, self._heard_samples / SAMPLE_RATE)
