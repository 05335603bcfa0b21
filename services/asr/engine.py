"""What every recognizer offers: voiced chunks in, hypotheses out.

Only the Protocol and its dataclasses live here; engines are in `engines/`, the choice between them in `models/`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.common.errors import Reason, SttError

SAMPLE_RATE = 16_000
_RELOAD_AFTER_S = 10.0

Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller asked of one recording or session.

    `language` is an ISO 639-1 code, empty to find it out, among `languages` where there are any. `translate` asks for
    English text whatever is spoken. `prompt` and `keywords` bias every utterance; an engine that cannot use them is
    given none.
    """

    language: str = ""
    languages: tuple[str, ...] = ()
    translate: bool = False
    prompt: str = ""
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of voiced audio for an engine: 16 kHz mono samples and the language to expect (ISO 639-1).

    No language: the engine is to find it out among the languages that `options` allow. `draft` is what the same engine
    heard in a shorter part of it (`Hypothesis.tokens`): it may save work, but what is heard now decides. `interim` says
    that more of it is being spoken: an answer soon is worth more than a second try.
    """

    samples: Pcm
    language: str
    options: Options = Options()
    draft: tuple[int, ...] = ()
    interim: bool = False


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """One written word of a hypothesis with the log-probabilities of its tokens (natural logarithm).

    `attached`: no space stands between it and the word before it.
    """

    text: str
    logprobs: tuple[float, ...]
    attached: bool = False

    @property
    def confidence(self) -> float:
        """Return the geometric mean of the tokens' probabilities, 0 to 1."""
        return mean_probability(self.logprobs)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What an engine heard in one utterance; no words when it heard none. `tokens` mean something to it alone.

    `spans` are the words' places, in samples from the utterance's first, where the engine can tell them. `language` is
    what it took the speech for, where that was left to it, and `certainty` the probability that it is that. Above
    `temperature` 0 it was chosen by chance among likely words, since the likeliest did not convince.
    """

    words: tuple[SpokenWord, ...]
    tokens: tuple[int, ...] = ()
    spans: tuple[tuple[int, int], ...] | None = None
    language: str = ""
    certainty: float = 0.0
    temperature: float = 0.0

    @property
    def text(self) -> str:
        """Return the words joined."""
        return join(self.words)


class Engine(Protocol):
    """A loaded recognizer; `decode` blocks, and may run in several threads at once, of which each keeps a core busy."""

    @property
    def id(self) -> str:
        """The model's id, as callers name it."""

    @property
    def languages(self) -> Sequence[str]:
        """ISO 639-1 codes of the languages it knows."""

    @property
    def max_batch(self) -> int:
        """The most utterances one `decode` call takes."""

    @property
    def max_chunk_s(self) -> float:
        """The longest utterance it transcribes well, in seconds."""

    @property
    def max_live_chunk_s(self) -> float:
        """The longest utterance of a live session, which is decoded again and again while it grows, in seconds."""

    @property
    def live_tail_s(self) -> float:
        """The silence it needs behind an utterance of a live session, in seconds."""

    def decode(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """Transcribe at most `max_batch` utterances, one hypothesis each, in their order.

        Raises SttError where it cannot go on; EngineLostError where it will not before it is loaded anew.
        """


class EngineLostError(SttError):
    """An engine that was loaded cannot be used any more, as when its GPU has gone."""

    def __init__(self, model: str) -> None:
        message = f"The model {model} stopped working; it is being loaded again."
        super().__init__(Reason.MODEL_UNAVAILABLE, message, retry_after_s=_RELOAD_AFTER_S)


class _Written(Protocol):
    @property
    def text(self) -> str: ...

    @property
    def attached(self) -> bool: ...


def join(words: Iterable[_Written]) -> str:
    """Return the words as text, a space before each that is not attached to what it follows."""
    return "".join(word.text if word.attached else f" {word.text}" for word in words).removeprefix(" ")


def mean_probability(logprobs: Sequence[float]) -> float:
    """Return the geometric mean of probabilities given as natural logarithms; 0 for none."""
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0
