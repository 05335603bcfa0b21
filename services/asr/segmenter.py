"""Cuts a stream of audio into voiced chunks, at pauses; samples go in, chunks come out, as soon as they are whole.

It holds no more audio than the chunk that is open and a little before it, whatever the recording's length, and the
chunks are the same however the samples were portioned. Live sessions also look at the chunk that is still open.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.asr.engine import SAMPLE_RATE, Pcm
from services.asr.vad import FRAME

Span = tuple[int, int]
VoiceActivity = Callable[[Pcm], npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Cutting:
    """How to cut; seconds unless the name says otherwise."""

    max_chunk_s: float
    # A pause this long ends the chunk.
    max_pause_s: float = 1.5
    # What is kept of the silence around speech, and behind it; with less, Moonshine loses and invents words.
    pad_s: float = 0.5
    tail_s: float = 0.5
    # Chunks with less voice than this are clicks.
    min_voice_s: float = 0.1
    # Probabilities at which speech begins and is no longer.
    onset: float = 0.5
    offset: float = 0.35
    # How many frames of 32 ms go through the network at once: what comes in is decided upon after so long.
    block_frames: int = 32


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of audio with speech in it; positions are samples from the recording's first.

    Where pauses are shorter than the silence kept around speech, it begins with silence that ended the chunk before;
    what lies at `fresh` and later is in no chunk before it.
    """

    start: int
    samples: Pcm
    voiced: tuple[Span, ...]
    fresh: int

    @property
    def end(self) -> int:
        """Return the position behind the last sample."""
        return self.start + len(self.samples)


class Segmenter:
    """Cuts one recording; `voice_activity` gives a probability for each frame of whole frames, in order."""

    def __init__(self, voice_activity: VoiceActivity, cutting: Cutting) -> None:
        """Begin at sample 0."""
        self._voice_activity = voice_activity
        self._cutting = cutting
        self._max_frames = _frames(cutting.max_chunk_s)
        self._min_frames = -int(-cutting.min_voice_s * SAMPLE_RATE // FRAME)
        self._pause_frames = _frames(cutting.max_pause_s)
        self._pad_frames = _frames(cutting.pad_s)
        self._tail_frames = min(self._pad_frames, _frames(cutting.tail_s))
        self._block = cutting.block_frames * FRAME
        self._unheard = np.zeros(0, np.int16)
        self._samples = 0
        # The open chunk, or the silence that may become a chunk's beginning: its first frame's number, audio and voice.
        self._first = 0
        self._audio: list[Pcm] = []
        self._voice: list[bool] = []
        self._scores: list[float] = []
        self._voice_end = 0
        self._chunk_end = 0

    @property
    def samples(self) -> int:
        """Return how many samples were pushed."""
        return self._samples

    @property
    def settled(self) -> int:
        """Return the position up to which every chunk has been handed out."""
        return self._first * FRAME if any(self._voice) else self._samples - len(self._unheard)

    @property
    def speech(self) -> Span | None:
        """Return where voice began in the open chunk and was last heard, once there is more of it than a click."""
        if sum(self._voice) < self._min_frames:
            return None
        return (self._first + self._voice.index(True)) * FRAME, self._voice_end * FRAME

    @property
    def paused(self) -> bool:
        """Return whether no voice was heard for as long as a pause must be to end a chunk."""
        return self._first + len(self._voice) - self._voice_end >= self._pause_frames

    @property
    def is_whole(self) -> bool:
        """Return whether the open chunk will not change any more if no more voice is heard."""
        return self._first + len(self._voice) - self._voice_end >= self._tail_frames

    def peek(self) -> Chunk:
        """Return the open chunk as it is; there must be speech in it."""
        return self._cut_out(np.flatnonzero(self._voice), len(self._voice))

    def push(self, samples: Pcm) -> list[Chunk]:
        """Take the next samples and return the chunks they completed."""
        self._samples += len(samples)
        self._unheard = np.concatenate([self._unheard, samples])
        chunks: list[Chunk] = []
        whole = len(self._unheard) // self._block * self._block
        for start in range(0, whole, self._block):
            chunks += self._hear(self._unheard[start : start + self._block])
        self._unheard = self._unheard[whole:].copy()
        return chunks

    def flush(self) -> list[Chunk]:
        """End the open chunk where it is, but for less than a frame, and return what that completed."""
        whole = len(self._unheard) // FRAME * FRAME
        chunks = self._hear(self._unheard[:whole]) if whole else []
        self._unheard = self._unheard[whole:].copy()
        if any(self._voice):
            chunks += self._close(len(self._voice), len(self._voice))
        return chunks

    def finish(self) -> list[Chunk]:
        """End the recording and return the chunks that were still open."""
        self._unheard = np.pad(self._unheard, (0, -len(self._unheard) % FRAME))
        return self.flush()

    def _hear(self, block: Pcm) -> list[Chunk]:
        chunks: list[Chunk] = []
        for frame, score in zip(block.reshape(-1, FRAME), self._voice_activity(block).tolist(), strict=True):
            was_voice = bool(self._voice) and self._voice[-1]
            self._audio.append(frame)
            self._scores.append(score)
            self._voice.append(score >= (self._cutting.offset if was_voice else self._cutting.onset))
            heard = len(self._voice)
            if self._voice[-1]:
                self._voice_end = self._first + heard
            if not any(self._voice[-self._pause_frames :]):
                if any(self._voice):
                    chunks += self._close(heard - min(self._pad_frames, self._pause_frames), heard)
                else:
                    self._drop(max(0, heard - self._pad_frames))
            elif heard >= self._max_frames:
                cut = self._best_cut()
                chunks += self._close(cut, cut)
        return chunks

    def _best_cut(self) -> int:
        """Return where to cut a full chunk: in the longest pause of its latter part, else where voice is faintest."""
        begin = len(self._voice) // 3
        best, length, run = 0, 0, 0
        for frame in range(begin, len(self._voice)):
            run = 0 if self._voice[frame] else run + 1
            if run and run >= length:
                best, length = frame - run // 2, run
        if length:
            return best
        return begin + int(np.argmin(self._scores[begin:]))

    def _close(self, cut: int, end: int) -> list[Chunk]:
        """End the open chunk, which may reach to frame `end`; what is behind frame `cut` stays for the next."""
        voice = np.flatnonzero(self._voice[:cut])
        chunk: list[Chunk] = []
        if len(voice) >= self._min_frames:
            chunk = [self._cut_out(voice, end)]
            self._chunk_end = chunk[0].end
        self._drop(cut)
        return chunk

    def _cut_out(self, voice: npt.NDArray[np.intp], end: int) -> Chunk:
        """Return the frames of `voice` with the silence around them, up to frame `end`."""
        begin = max(0, int(voice[0]) - self._pad_frames)
        end = min(end, int(voice[-1]) + 1 + self._tail_frames)
        start = (self._first + begin) * FRAME
        samples = np.concatenate(self._audio[begin:end])[: self._samples - start]
        return Chunk(start, samples, self._spans(voice, start + len(samples)), max(start, self._chunk_end))

    def _spans(self, voice: npt.NDArray[np.intp], end: int) -> tuple[Span, ...]:
        runs = np.split(voice, np.flatnonzero(np.diff(voice) > 1) + 1)
        first = self._first
        return tuple(((first + int(run[0])) * FRAME, min(end, (first + int(run[-1]) + 1) * FRAME)) for run in runs)

    def _drop(self, frames: int) -> None:
        self._first += frames
        del self._audio[:frames], self._voice[:frames], self._scores[:frames]


def _frames(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / FRAME)
