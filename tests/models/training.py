"""Trains the network: single digits first, then longer utterances; the curriculum and the batches are here."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from tests.models import vocabulary
from tests.models.mixing import Mix, Mixer, Utterance
from tests.models.network import FRAME, MELS, Batch, Helpers, Whisper, log_mel, losses
from tests.models.voices import SAMPLE_RATE, WORDS

MOST_DIGITS = 10
LONGEST_S = 7
_WEIGHTS = {"text": 1.0, "word": 1.0, "ordinal": 0.5, "look": 0.5}
_SMOOTHING = 0.02
_SHOWN_EVERY = 50


@dataclass(frozen=True, slots=True)
class Lesson:
    """So many steps with utterances of at most so many seconds and digits; `padded_s` is what they are padded to."""

    steps: int
    batch: int
    longest_s: float
    max_digits: int
    padded_s: tuple[float, ...]
    puffs: float = 0.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Lessons on one cycle of the learning rate, which rises to its peak and falls to nothing."""

    peak_rate: float
    lessons: tuple[Lesson, ...]

    @property
    def steps(self) -> int:
        """Return how many steps it has."""
        return sum(lesson.steps for lesson in self.lessons)


# Counting what was said before is what is hard to learn: half as many digits again took three times as long.
CURRICULUM = (
    Stage(
        1.5e-3,
        (
            Lesson(steps=1000, batch=48, longest_s=1.6, max_digits=1, padded_s=(1.6,)),
            Lesson(steps=1000, batch=32, longest_s=4.0, max_digits=4, padded_s=(4.0,)),
            Lesson(steps=1400, batch=24, longest_s=7.0, max_digits=MOST_DIGITS, padded_s=(5.0, 7.0)),
        ),
    ),
    # Any length, in worse recordings: without this, breaths behind a word were heard as words.
    Stage(
        6e-4,
        (
            Lesson(
                steps=1200,
                batch=24,
                longest_s=7.0,
                max_digits=MOST_DIGITS,
                padded_s=(2.0, 4.0, 7.0, 7.0, 30.0),
                puffs=0.6,
            ),
        ),
    ),
)


class Said:
    """The tokens that the network may say, numbered anew from 0; what it never says is no part of it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._pieces = {
            (language, digit): tokenizer.encode(f" {word}", add_special_tokens=False).ids
            for language, words in WORDS.items()
            for digit, word in enumerate(words)
        }
        languages = [f"<|{language}|>" for language in WORDS]
        marks = [vocabulary.START, *languages, vocabulary.TRANSCRIBE, vocabulary.NO_TIMESTAMPS, vocabulary.NO_SPEECH]
        self._marks = {mark: tokenizer.token_to_id(mark) for mark in (*marks, vocabulary.END)}
        self.ids: list[int] = sorted({*self._marks.values(), *(i for ids in self._pieces.values() for i in ids)})
        self.unsaid = tokenizer.get_vocab_size() - len(self.ids)
        self._number = {token: number for number, token in enumerate(self.ids)}

    def mark(self, text: str) -> int:
        """Return the number of a mark such as <|en|>."""
        return self._number[self._marks[text]]

    def word(self, language: str, digit: int) -> list[int]:
        """Return the numbers of the tokens of a word."""
        return [self._number[token] for token in self._pieces[language, digit]]


class Batches:
    """Makes batches of random utterances."""

    def __init__(self, mixer: Mixer, said: Said, chance: np.random.Generator) -> None:
        self._mixer = mixer
        self._said = said
        self._chance = chance

    def make(self, lesson: Lesson) -> Batch:
        """Make a batch; all its utterances are padded to the same length, in the features as faster-whisper does it."""
        chance = self._chance
        padded_s = float(chance.choice(lesson.padded_s))
        size = max(4, round(lesson.batch * min(1.0, lesson.longest_s / padded_s)))
        # Few lengths, so that utterances of one length go through the transform together.
        fractions = chance.choice([0.5, 0.7, 0.85, 1.0, 1.0], 2)
        windows_s = [round(min(lesson.longest_s, padded_s) * fraction, 2) for fraction in fractions]
        utterances: list[Utterance] = []
        features = torch.zeros(size, MELS, round(padded_s * SAMPLE_RATE / FRAME) * 2)
        for window_s in windows_s:
            group = [
                self._mixer.utterance(Mix(window_s, lesson.max_digits, puffs=lesson.puffs)) for _ in range(size // 2)
            ]
            mel = log_mel(torch.from_numpy(np.stack([each.audio for each in group])))
            features[len(utterances) : len(utterances) + len(group), :, : mel.shape[2]] = _masked(mel, chance)
            utterances += group
        return self._labelled(features[: len(utterances)], utterances)

    def _labelled(self, features: Tensor, utterances: Sequence[Utterance]) -> Batch:
        frames = features.shape[2] // 2
        written = [self._written(utterance) for utterance in utterances]
        length = max(len(tokens) for tokens, _, _ in written)
        end = self._said.mark(vocabulary.END)
        tokens = torch.full((len(utterances), length), end)
        targets = torch.full((len(utterances), length), -100)
        words = torch.zeros(len(utterances), frames, dtype=torch.long)
        ordinals = torch.zeros_like(words)
        focus = torch.zeros(len(utterances), length, frames)
        focused = torch.zeros(len(utterances), length)
        for row, (utterance, (given, asked, spans)) in enumerate(zip(utterances, written, strict=True)):
            tokens[row, : len(given)] = torch.tensor(given)
            targets[row, : len(asked)] = torch.tensor(asked)
            for position, span in enumerate(spans):
                if span is not None:
                    first, last = int(span[0] / FRAME), int(span[1] / FRAME)
                    focus[row, position, first : last + 1] = 1
                    focused[row, position] = 1
            language = list(WORDS).index(utterance.language)
            for ordinal, (digit, span) in enumerate(zip(utterance.digits, utterance.spans, strict=True)):
                first, last = round(span[0] / FRAME), round(span[1] / FRAME)
                words[row, first:last] = 1 + language * 10 + digit
                ordinals[row, first:last] = 1 + ordinal
        return Batch(features, tokens, targets, words, ordinals, focus, focused)

    def _written(self, utterance: Utterance) -> tuple[list[int], list[int], list[tuple[float, float] | None]]:
        """Return what the decoder is given, what it shall say, and where each of that is said."""
        said = self._said
        language = said.mark(f"<|{utterance.language}|>")
        prompt = [said.mark(vocabulary.START), language, said.mark(vocabulary.TRANSCRIBE)]
        prompt.append(said.mark(vocabulary.NO_TIMESTAMPS))
        # Where nobody speaks no language is heard, and whatever language is claimed, nothing is said.
        asked = [language if utterance.digits else said.mark(vocabulary.NO_SPEECH), -100, -100]
        spans: list[tuple[float, float] | None] = [None] * 3
        text: list[int] = []
        for digit, (start, end) in zip(utterance.digits, utterance.spans, strict=True):
            pieces = said.word(utterance.language, digit)
            step = (end - start) / len(pieces)
            spans += [(start + step * number, start + step * (number + 1)) for number in range(len(pieces))]
            text += pieces
        return [*prompt, *text], [*asked, *text, said.mark(vocabulary.END)], spans


def train(
    model: Whisper, batches: Batches, stages: Sequence[Stage], *, show: Callable[[int], None] = lambda _: None
) -> None:
    """Train `model` through the stages; `show` is told the step now and then."""
    helpers = Helpers(sum(map(len, WORDS.values())), MOST_DIGITS)
    parameters = [each for each in [*model.parameters(), *helpers.parameters()] if each.requires_grad]
    smooth: dict[str, float] = {}
    step, began = 0, time.monotonic()
    for stage in stages:
        optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, stage.peak_rate, stage.steps + 1, pct_start=0.05)
        for lesson in stage.lessons:
            for _ in range(lesson.steps):
                parts = losses(model, helpers, batches.make(lesson))
                loss = sum((_WEIGHTS[name] * part for name, part in parts.items()), torch.zeros(()))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                cycle.step()
                step += 1
                for name, part in parts.items():
                    smooth[name] = smooth.get(name, part.item()) * (1 - _SMOOTHING) + part.item() * _SMOOTHING
                if step % _SHOWN_EVERY == 0:
                    shown = " ".join(f"{name} {value:.3f}" for name, value in smooth.items())
                    print(f"step {step} {time.monotonic() - began:.0f} s: {shown}", flush=True)
                    show(step)


def _masked(mel: Tensor, chance: np.random.Generator) -> Tensor:
    """Hide random bands and moments of each utterance, as SpecAugment does."""
    for row in mel:
        for _ in range(2):
            low = int(chance.integers(0, MELS - 12))
            row[low : low + int(chance.integers(0, 12))] = row.mean()
        for _ in range(2):
            start = int(chance.integers(0, row.shape[1] - 10))
            row[:, start : start + int(chance.integers(0, 10))] = row.mean()
    return mel
