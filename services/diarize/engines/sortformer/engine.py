"""The Sortformer engine: recordings and live sessions as streams of chunks, which share the network's batches."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from services.common.audio import Flush
from services.diarize.engine import Turn, Update
from services.diarize.engines.sortformer.batches import Batches
from services.diarize.engines.sortformer.channels import Mask, Probabilities, activity, smooth, strongest, turns
from services.diarize.engines.sortformer.presets import FRAME_S, Preset
from services.diarize.engines.sortformer.stream import Stream


@dataclass(frozen=True, slots=True)
class Sortformer:
    """A loaded network; recordings and live sessions are cut as their presets say."""

    model_id: str
    max_speakers: int
    is_live: bool
    batches: Batches
    recordings: Preset
    sessions: Preset

    @property
    def is_lost(self) -> bool:
        """Whether the network's device failed for good."""
        return self.batches.is_lost

    def open(self, speakers: int, expected_duration_s: float) -> "Recording":
        """Begin a recording."""
        return Recording(Stream(self.batches, self.recordings, is_live=False), speakers)

    async def listen(self, audio: AsyncIterator[bytes | Flush], speakers: int) -> AsyncGenerator[Update, None]:
        """Yield the turns of every chunk as it is heard; a flush is answered with what the next one may change."""
        stream = Stream(self.batches, self.sessions, is_live=True)
        telling = _Telling(speakers, self.max_speakers)
        # What was heard since the last update: after a flush more than a chunk, until it goes beyond what that told.
        heard: list[Probabilities] = []
        glanced_s = 0.0
        async for piece in audio:
            if isinstance(piece, Flush):
                rest = await stream.glance()
                glanced_s = stream.duration_s
                yield telling.glance(heard if rest is None else [*heard, rest], glanced_s)
                continue
            stream.add(piece)
            while (chunk := await stream.advance()) is not None:
                heard.append(chunk)
                if (stream.frames - 1) * FRAME_S >= glanced_s:
                    yield telling.update(np.concatenate(heard), stream.duration_s)
                    heard.clear()
        while (chunk := await stream.advance(at_end=True)) is not None:
            heard.append(chunk)
        if stream.frames:
            yield telling.end(heard, stream.duration_s)


class Recording:
    """One recording: kept of it are the probabilities, 100 bytes a second."""

    def __init__(self, stream: Stream, speakers: int) -> None:
        self._stream = stream
        self._speakers = speakers
        self._heard: list[Probabilities] = []

    @property
    def processed_s(self) -> float:
        """Seconds of audio that have been dealt with."""
        return self._stream.processed_s

    async def feed(self, pcm: bytes) -> None:
        """Take the next whole samples, waiting while a chunk of them is heard."""
        self._stream.add(pcm)
        while (heard := await self._stream.advance()) is not None:
            self._heard.append(heard)

    async def finish(self) -> list[Turn]:
        """Hear what is left and return all turns, in the order of their starts."""
        while (heard := await self._stream.advance(at_end=True)) is not None:
            self._heard.append(heard)
        if not self._heard:
            return []
        probabilities = np.concatenate(self._heard)
        active = smooth(activity(probabilities, strongest(probabilities, self._speakers)))
        return turns(active, 0, self._stream.duration_s, {})

    def close(self) -> None:
        """Nothing runs but what `feed` and `finish` wait for."""


class _Telling:
    """What a session is told: each frame once, when the one after it has shown whether it stands alone."""

    def __init__(self, speakers: int, channels: int) -> None:
        self._speakers = speakers
        self._channels: list[int] = []
        self._numbers: dict[int, int] = {}
        # The last frames that were heard; of two the first was told of.
        self._last: Mask = np.zeros((0, channels), bool)
        self._told = 0

    def update(self, heard: Probabilities, duration_s: float) -> Update:
        """Return what chunks add, but for their last frame."""
        joined = self._joined([heard])
        update = self._update(joined, len(joined) - 1, duration_s)
        self._last = joined[-2:]
        self._told += len(heard) - (self._told == 0)
        return update

    def glance(self, heard: Sequence[Probabilities], duration_s: float) -> Update:
        """Return all that is known with chunks that will be heard again."""
        ahead = copy(self)
        ahead._channels = self._channels.copy()
        joined = ahead._joined(heard)
        # Who is told a number keeps it.
        return ahead._update(joined, len(joined), duration_s)

    def end(self, heard: Sequence[Probabilities], duration_s: float) -> Update:
        """Return what is left to be told."""
        joined = self._joined(heard)
        return self._update(joined, len(joined), duration_s)

    def _joined(self, heard: Sequence[Probabilities]) -> Mask:
        """Return who is active; where a number was asked for, it is the first so many who came up."""
        joined = [self._last]
        for part in heard:
            kept: Sequence[int] = range(part.shape[1])
            if self._speakers:
                # Not with a frame alone, which is none.
                active = smooth(activity(part, kept))
                for channel in np.argsort(active.argmax(axis=0), kind="stable").tolist():
                    if active[:, channel].any() and channel not in self._channels:
                        self._channels.append(channel)
                kept = self._channels[: self._speakers]
            joined.append(activity(part, kept))
        return np.concatenate(joined)

    def _update(self, joined: Mask, length: int, end_s: float) -> Update:
        """Return the turns of the first `length` frames, but for one that was told of and is there for company."""
        before = min(self._told, 1)
        first = self._told - before
        until_s = min((first + length) * FRAME_S, end_s)
        found = turns(smooth(joined)[before:length], self._told, until_s, self._numbers)
        return Update(self._told * FRAME_S, until_s, tuple(found))
