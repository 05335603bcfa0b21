"""What every recognizer offers: voiced chunks in, hypotheses out.

Only the Protocol and its dataclasses live here; engines are in `engines/`, the choice between them in `models`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000

Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of voiced audio for an engine: 16 kHz mono samples and the language to expect (ISO 639-1).

    `draft` is what the same engine heard in a shorter look at it (`Hypothesis.tokens`): it may save work, but what is
    heard now decides.
    """

    samples: Pcm
    language: str
    draft: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """One written word of a hypothesis with the log-probabilities of its tokens (natural logarithm)."""

    text: str
    logprobs: tuple[float, ...]

    @property
    def confidence(self) -> float:
        """Return the geometric mean of the tokens' probabilities, 0 to 1."""
        return mean_probability(self.logprobs)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What an engine heard in one utterance; no words when it heard none. `tokens` mean something to it alone."""

    words: tuple[SpokenWord, ...]
    tokens: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """Return the words joined by spaces."""
        return " ".join(word.text for word in self.words)


class Engine(Protocol):
    """A loaded recognizer; `decode` blocks, and may run in `workers` threads at once."""

    @property
    def id(self) -> str:
        """The model's id, as callers name it."""

    @property
    def languages(self) -> Sequence[str]:
        """ISO 639-1 codes of the languages it knows."""

    @property
    def workers(self) -> int:
        """How many `decode` calls run best at once."""

    @property
    def max_batch(self) -> int:
        """The most utterances one `decode` call takes."""

    @property
    def max_chunk_s(self) -> float:
        """The longest utterance it transcribes well, in seconds."""

    @property
    def max_live_chunk_s(self) -> float:
        """The longest utterance of a live session, which is decoded again and again while it grows, in seconds."""

    def decode(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """Transcribe at most `max_batch` utterances, one hypothesis each, in their order."""


def mean_probability(logprobs: Sequence[float]) -> float:
    """Return the geometric mean of probabilities given as natural logarithms; 0 for none."""
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0
