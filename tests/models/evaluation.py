"""Measures an exported model on voices it was not trained with, as the service runs it; the model card's figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from services.asr.engine import Utterance
from services.asr.engines.whisper import Running, Whisper
from services.asr.segmenter import Chunk, Cutting, Segmenter
from services.asr.timing import place, within_speech
from services.asr.transcript import Word
from services.asr.vad import SileroModel, SileroStream, bundled_silero_path
from tests.models.voices import SAMPLE_RATE, WORDS, Audio, Clip, of_voices

_SILENCE_S = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """Digits of one voice behind each other; `spans` are where they are, in samples."""

    language: str
    audio: Audio
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]

    @property
    def pcm(self) -> npt.NDArray[np.int16]:
        """Return the audio in 16 bits."""
        return (self.audio * 32767).clip(-32768, 32767).astype(np.int16)


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; times in milliseconds."""

    utterances: int
    words: int
    word_error_rate: float
    onset_ms: float
    end_ms: float
    languages_right: float


def say(language: str, takes: Sequence[Sequence[Audio]], digits: Sequence[int], gaps_s: Sequence[float]) -> Sample:
    """Put the first take of each digit behind the other, `gaps_s` before each but the first, silence around it."""
    silence = np.zeros(round(_SILENCE_S * SAMPLE_RATE), np.float32)
    parts: list[Audio] = [silence]
    spans: list[tuple[int, int]] = []
    position = len(silence)
    for digit, gap_s in zip(digits, [0.0, *gaps_s], strict=True):
        gap, clip = np.zeros(round(gap_s * SAMPLE_RATE), np.float32), takes[digit][0] * np.float32(0.5)
        parts += [gap, clip]
        position += len(gap)
        spans.append((position, position + len(clip)))
        position += len(clip)
    audio = np.concatenate([*parts, silence])
    # As every microphone does; digital silence is nothing that was ever recorded.
    audio += np.random.default_rng(len(audio)).standard_normal(len(audio), np.float32) * np.float32(0.002)
    return Sample(language, audio, tuple(WORDS[language][digit] for digit in digits), tuple(spans))


def joined(clips: Sequence[Clip], *, count: int, digits: tuple[int, int], seed: int) -> Iterator[Sample]:
    """Yield utterances of from `digits[0]` to `digits[1]` random digits with gaps of 0.1 to 0.6 s, voice by voice."""
    chance = np.random.default_rng(seed)
    voices = of_voices(clips)
    names = sorted(voices)
    for number in range(count):
        language, voice = names[number % len(names)]
        takes = [[all_takes[chance.integers(len(all_takes))]] for all_takes in voices[language, voice]]
        said = chance.integers(0, 10, chance.integers(digits[0], digits[1] + 1)).tolist()
        yield say(language, takes, said, chance.uniform(0.1, 0.6, len(said) - 1).tolist())


def measure(folder: Path, samples: Sequence[Sample]) -> Figures:
    """Transcribe `samples` with the model in `folder`, the language given, and compare."""
    engine = Whisper("digits", folder, Running("cpu", "int8", workers=1, max_batch=1, beam_size=5))
    wrong = words = languages = 0
    onsets: list[float] = []
    ends: list[float] = []
    voice = SileroModel(bundled_silero_path())
    for sample in samples:
        segmenter = Segmenter(SileroStream(voice), Cutting(max_chunk_s=engine.max_chunk_s))
        chunks = [*segmenter.push(sample.pcm), *segmenter.finish()]
        heard = [word for chunk in chunks for word in _transcribe(engine, chunk, sample.language)]
        wrong += edits([word.text for word in heard], sample.words)
        words += len(sample.words)
        first = engine.decode([Utterance(chunk.samples, "") for chunk in chunks[:1]])
        languages += [each.language for each in first] == [sample.language]
        if tuple(word.text for word in heard) == sample.words:
            pairs = list(zip(heard, sample.spans, strict=True))
            onsets += [abs(word.start_s * SAMPLE_RATE - start) for word, (start, _) in pairs]
            ends += [abs(word.end_s * SAMPLE_RATE - end) for word, (_, end) in pairs]
    in_ms = 1000 / SAMPLE_RATE
    return Figures(
        utterances=len(samples),
        words=words,
        word_error_rate=wrong / words,
        onset_ms=float(np.median(onsets or [np.nan])) * in_ms,
        end_ms=float(np.median(ends or [np.nan])) * in_ms,
        languages_right=languages / len(samples),
    )


def edits(found: Sequence[str], true: Sequence[str]) -> int:
    """Return how many words must be changed, put in or taken out to make `true` of `found`."""
    costs = list(range(len(found) + 1))
    for word in true:
        above, costs = costs, [costs[0] + 1]
        for position, other in enumerate(found):
            costs.append(min(above[position] + (other != word), above[position + 1] + 1, costs[position] + 1))
    return costs[-1]


def _transcribe(engine: Whisper, chunk: Chunk, language: str) -> list[Word]:
    """Do what `services.asr.recognizer` does of a chunk."""
    (heard,) = engine.decode([Utterance(chunk.samples, language)])
    return place(chunk, heard, within_speech(heard.spans or (), chunk))[0] if heard.words else []
