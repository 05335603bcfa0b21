"""Makes utterances of clips: digits of one voice behind each other, with known gaps, noise and loudness.

Which words were said when is known to the sample; what a network makes of it is `network`'s business.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.models.voices import SAMPLE_RATE, Audio, resample

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Utterance:
    """16 kHz audio of whole length; `digits` and `spans` (in samples) are what was said in it, and when."""

    language: str
    audio: Audio
    digits: tuple[int, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Mix:
    """How utterances are made; seconds unless the name says otherwise."""

    window_s: float
    max_digits: int
    # Shares of utterances in which nobody speaks, of which the upper half of the spectrum is missing, and with puffs.
    nobody: float = 0.08
    telephone: float = 0.4
    puffs: float = 0.0


class Mixer:
    """Makes random utterances of `voices`: (language, voice) -> digit -> takes; `recorded` voices come more often."""

    def __init__(
        self, voices: dict[tuple[str, str], list[list[Audio]]], recorded: Sequence[str], chance: np.random.Generator
    ) -> None:
        self._voices = voices
        self._chance = chance
        real = [voice for voice in voices if voice[1] in recorded]
        by_language = {
            language: [voice for voice in voices if voice[0] == language and voice not in real]
            for language in sorted({language for language, _ in voices})
        }
        # Half English, of which half is recorded; the rest is shared by the other languages.
        groups = [
            (real, 0.3),
            (by_language.pop("en", []), 0.25),
            *((group, 0.45 / 2) for group in by_language.values()),
        ]
        self._groups = [(group, weight) for group, weight in groups if group]

    def utterance(self, mix: Mix) -> Utterance:
        """Make one utterance of exactly `mix.window_s` seconds."""
        chance = self._chance
        length = round(mix.window_s * SAMPLE_RATE)
        weights = np.array([weight for _, weight in self._groups])
        group = self._groups[chance.choice(len(self._groups), p=weights / weights.sum())][0]
        language, voice = group[chance.integers(len(group))]
        audio = np.zeros(length, np.float32)
        digits: list[int] = []
        spans: list[Span] = []
        if chance.random() >= mix.nobody:
            takes = self._voices[language, voice]
            factor = float(np.exp(chance.uniform(np.log(0.85), np.log(1.2))))
            gap_s = float(np.exp(chance.uniform(np.log(0.04), np.log(0.8))))
            wanted = int(chance.integers(1, mix.max_digits + 1))
            clips = []
            for digit in chance.integers(0, 10, wanted):
                take = takes[digit][chance.integers(len(takes[digit]))]
                clips.append((int(digit), resample(take, factor * chance.uniform(0.95, 1.05))))
            gaps = [round(gap_s * chance.uniform(0.5, 1.8) * SAMPLE_RATE) for _ in clips]
            while clips and sum(len(clip) for _, clip in clips) + sum(gaps[1:]) > length:
                clips.pop()
                gaps.pop()
            spare = length - sum(len(clip) for _, clip in clips) - sum(gaps[1:])
            # Mostly as voice activity detection cuts: about half a second of silence before.
            position = int(chance.uniform(0, spare) if chance.random() < 0.4 else min(spare, chance.uniform(0, 12_000)))
            for number, ((digit, clip), gap) in enumerate(zip(clips, gaps, strict=True)):
                position += gap if number else 0
                audio[position : position + len(clip)] += clip * chance.uniform(0.5, 1.0)
                digits.append(digit)
                spans.append((position, position + len(clip)))
                position += len(clip)
        if chance.random() < mix.puffs:
            self._puff(audio, spans)
        audio = self._worsen(audio, has_voice=bool(digits), telephone=chance.random() < mix.telephone)
        return Utterance(language, audio, tuple(digits), tuple(spans))

    def _puff(self, audio: Audio, spans: Sequence[Span]) -> None:
        """Add breaths, pops and clicks, most of them right behind a word, as recorded voices have them."""
        chance = self._chance
        for _ in range(int(chance.integers(1, 5))):
            length = round(float(np.exp(chance.uniform(np.log(0.01), np.log(0.2)))) * SAMPLE_RATE)
            spectrum = np.fft.rfft(chance.standard_normal(length).astype(np.float32))
            spectrum *= np.linspace(1, 0.01, len(spectrum)) ** chance.uniform(-0.5, 2)
            puff = np.fft.irfft(spectrum, length) * np.exp(-np.linspace(0, chance.uniform(0, 5), length))
            puff *= chance.uniform(0.02, 0.3) / max(1e-6, float(np.abs(puff).max()))
            start = int(chance.integers(0, len(audio) - length))
            if spans and chance.random() < 0.7:
                start = spans[chance.integers(len(spans))][1] + int(chance.integers(0, SAMPLE_RATE // 10))
            start = min(start, len(audio) - length)
            audio[start : start + length] += puff.astype(np.float32)

    def _worsen(self, audio: Audio, *, has_voice: bool, telephone: bool) -> Audio:
        chance = self._chance
        spectrum = np.fft.rfft(audio)
        frequencies = np.linspace(0, 1, len(spectrum), dtype=np.float32)
        # A smooth random colour, as of another microphone: up to 12 dB between the ends, and a hump.
        colour_db = chance.uniform(-12, 12) * frequencies
        colour_db += chance.uniform(-8, 8) * np.exp(-(((frequencies - chance.uniform(0, 0.6)) / 0.15) ** 2))
        spectrum *= 10 ** (colour_db / 20)
        audio = np.asarray(np.fft.irfft(spectrum, len(audio)), np.float32)
        level = float(np.sqrt(np.mean(audio**2))) if has_voice else 0.05
        noise = np.fft.rfft(chance.standard_normal(len(audio)).astype(np.float32))
        noise *= np.maximum(frequencies, 1e-3) ** -chance.uniform(0, 0.7)
        noise = np.fft.irfft(noise, len(audio))
        snr_db = chance.uniform(5, 50)
        if has_voice or chance.random() < 0.7:
            audio = audio + noise / np.sqrt(np.mean(noise**2)) * level * 10 ** (-snr_db / 20)
        if telephone:
            spectrum = np.fft.rfft(audio)
            spectrum[len(spectrum) // 2 :] = 0
            audio = np.fft.irfft(spectrum, len(audio))
        peak = float(np.abs(audio).max(initial=1e-6))
        return np.asarray(audio / peak * 10 ** (chance.uniform(-30, 0) / 20), np.float32)
