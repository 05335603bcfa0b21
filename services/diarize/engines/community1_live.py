"""A live session on the embedded engine: what the networks say of the newest window, and what is known by it.

With every step all voices of the last two minutes are grouped anew, together with some of those from before. Kept of a
session are these voices (some 1.2 KB each) and 10 s of audio and features.
"""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from services.common.audio import SAMPLE_BYTES, SAMPLE_RATE
from services.diarize.continuity import Memory, Named, Numbers
from services.diarize.engine import Turn, Update
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
from services.diarize.voices import FRAME_S, WINDOW_S, Mask, Voice, at_times

HORIZON_S = 120.0
"""How far back turns are corrected; by then it is known who of two was heard for the first time."""
_STEP_SAMPLES = 5 * SAMPLE_RATE // 4
"""Twice as far, turns are told a second later for two thirds of the CPU, and no better at last."""
_EDGE_S = 0.25
"""What a window says of its last moments is often taken back."""
_MEMORY = 150
"""Voices kept from before: 25 minutes of one voice; with more, newcomers had to say more to be taken for speakers."""
_FEATURES = WINDOW_SAMPLES // round(FEATURE_S * SAMPLE_RATE) + 1
"""Features kept: a window's, wherever it begins between two."""
_FEATURE_SAMPLES = round(FEATURE_S * SAMPLE_RATE)
_FBANK_FRAMES = round(FEATURE_S / FBANK_S)
_CONTEXT = 8
"""Features computed once more, now with what came after them. The first half of them lacks what came before."""


class LiveSession:
    """What was heard of a session of `speakers` at most (0: any number), and what is known; one thread at a time."""

    def __init__(self, networks: Networks, speakers: int) -> None:
        self._networks = networks
        self._audio = np.zeros(LOOKBACK_SAMPLES, np.int16)
        self._heard = 0
        self._features: Floats = np.zeros((FEATURE_CHANNELS, _FEATURES), np.float32)
        self._features_end = 0
        self._speech = _Speech(speakers)
        self._told = Update(0.0, 0.0, ())

    @property
    def step_bytes(self) -> int:
        """How much audio is missing to the end of the step."""
        return (_STEP_SAMPLES - self._heard % _STEP_SAMPLES) * SAMPLE_BYTES

    @property
    def is_told(self) -> bool:
        """Whether the last update was on everything that was heard."""
        return self._told.until_s == self._heard / SAMPLE_RATE

    def hear(self, pcm: bytes, everything: bool = False) -> Update:
        """Take up to `step_bytes` of audio and return what is known with it, a window's work.

        The newest _EDGE_S are told with the next step, or when `everything` is to be told.
        """
        if pcm:
            self._take(np.frombuffer(pcm, np.int16))
            if self._heard >= MIN_SAMPLES:
                self._look()
        if pcm or not self.is_told:
            edge_s = 0.0 if everything else _EDGE_S
            self._told = self._speech.tell(max(self._told.until_s, self._heard / SAMPLE_RATE - edge_s))
        return self._told

    def _take(self, new: Samples) -> None:
        self._heard += len(new)
        self._audio = np.concatenate([self._audio, new])[-WINDOW_SAMPLES - LOOKBACK_SAMPLES :]

    def _look(self) -> None:
        """Look at the newest window; the first ones, which begin with the session, are padded."""
        audio = self._audio[LOOKBACK_SAMPLES:]
        start = self._heard - len(audio)
        active = self._networks.segment(np.pad(audio, (0, WINDOW_SAMPLES - len(audio)))[None])[0]
        self._add_features(start, active.max(axis=1))
        first = round(start / _FEATURE_SAMPLES) - self._features_end
        found = window_voices(self._networks, start / SAMPLE_RATE, active, self._features[:, first:])
        lasting = self._heard >= WINDOW_SAMPLES and self._heard % _STEP_SAMPLES == 0
        self._speech.add(start / SAMPLE_RATE, found, lasting)

    def _add_features(self, start: int, somebody: Mask) -> None:
        """Compute the features of what is new in the window that begins at sample `start`."""
        known, self._features_end = self._features_end, -(-self._heard // _FEATURE_SAMPLES)
        added = np.zeros((FEATURE_CHANNELS, self._features_end - known), np.float32)
        self._features = np.concatenate([self._features, added], axis=1)[:, -_FEATURES:]
        if not somebody.any():
            return
        begin = -(-start // _FEATURE_SAMPLES)
        first = max(begin, known - _CONTEXT)
        samples = self._audio[begin * _FEATURE_SAMPLES - self._heard - LOOKBACK_SAMPLES :]
        times_s = np.arange(0, WINDOW_S, FBANK_S) + begin * FEATURE_S - start / SAMPLE_RATE
        heard = self._networks.features(samples, at_times(somebody, times_s), (first - begin) * _FBANK_FRAMES)
        # The first ones lack what came before them, and are known from before but at the session's start.
        skipped = min(first, _CONTEXT // 2)
        at = first + skipped - self._features_end + _FEATURES
        self._features[:, at : at + heard.shape[1] - skipped] = heard[:, skipped:]


class _Speech:
    """Who spoke when in the windows of a session: those of the horizon, and voices from before."""

    def __init__(self, speakers: int) -> None:
        self._speakers = speakers
        self._windows_s: list[float] = []
        self._recent: list[Named] = []
        self._lasting = True
        self._memory = Memory(_MEMORY)
        self._numbers = Numbers(speakers)

    def add(self, window_s: float, found: list[Voice], lasting: bool) -> None:
        """Take the newest window's start and voices; it makes room for the next where it is not `lasting`."""
        if not self._lasting:
            last_s = self._windows_s.pop()
            self._recent = [named for named in self._recent if named.voice.window_s != last_s]
        self._windows_s.append(window_s)
        self._recent += [Named(voice) for voice in found]
        self._lasting = lasting

    def tell(self, until_s: float) -> Update:
        """Group all voices anew, and tell who spoke by the numbers that were told before."""
        since_s = max(0.0, until_s - HORIZON_S)
        named = [*self._memory.voices, *self._recent] if self._recent else []
        groups = self._group([each.voice for each in named])
        recent = groups[len(groups) - len(self._recent) :]
        told_before = defaultdict[tuple[int, int], float](float)
        for each, speaker in zip(named, groups, strict=True):
            if each.number and each.voice.window_s < since_s:
                told_before[each.number, speaker] += each.voice.speech_s
        spoken = self._turns(recent, since_s, until_s)
        numbers = self._numbers.name(spoken, since_s, until_s, told_before)
        for each, speaker in zip(self._recent, recent, strict=True):
            each.number = numbers.get(speaker, each.number)
        self._forget(since_s)
        return Update(since_s, until_s, tuple(replace(turn, speaker=numbers[turn.speaker]) for turn in spoken))

    def _group(self, voices: list[Voice]) -> list[int]:
        if not voices:
            return []
        groups = group(voices, 0)
        if 0 < self._speakers <= groups.max():
            groups = group(voices, self._speakers)
        found: list[int] = groups.tolist()
        return found

    def _turns(self, groups: list[int], since_s: float, until_s: float) -> list[Turn]:
        """Return the turns between the two seconds, with groups for speakers."""
        if not groups:
            return []
        # Times from a whole frame on, so that frames lie the same whichever window is the first.
        zero_s = int(self._windows_s[0] / FRAME_S) * FRAME_S
        frames = recording_frames(
            [window_s - zero_s for window_s in self._windows_s],
            [replace(each.voice, window_s=each.voice.window_s - zero_s) for each in self._recent],
            np.array(groups),
        )
        found = [
            Turn(max(turn.start_s + zero_s, since_s), min(turn.end_s + zero_s, until_s), speaker)
            for speaker in range(frames.shape[1])
            for turn in turns(frames[:, [speaker]], until_s - zero_s)
            if turn.end_s + zero_s > since_s
        ]
        return sorted(found, key=lambda turn: turn.start_s)

    def _forget(self, since_s: float) -> None:
        """Let go of windows before the horizon; the voices of those that do not overlap are remembered."""
        for each in self._recent:
            window_s = each.voice.window_s
            if window_s + WINDOW_S <= since_s and window_s % WINDOW_S == 0 and each.number:
                self._memory.add(each)
        self._recent = [each for each in self._recent if each.voice.window_s + WINDOW_S > since_s]
        self._windows_s = [window_s for window_s in self._windows_s if window_s + WINDOW_S > since_s]
