"""Spoken digits for the tests' Whisper model, which knows nothing else: recordings, short requests, and live speech.

In English voices that it was not trained with. What is said, and where, is known from the joining: sayings of a few
digits with pauses between them, over the quiet noise of a microphone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from services.common.audio import SAMPLE_RATE
from tests.bench.data import Samples, Span
from tests.bench.microphone import Speech, Talk
from tests.models.evaluation import say
from tests.models.voices import Audio, of_voices, saved

MODELS = Path(__file__).resolve().parents[1] / "models"
MODEL = "digits"
SETTINGS = {"MODEL_DIR": str(MODELS), "ASR_MODELS": MODEL, "ASR_FALLBACK_MODELS": "", "ASR_DEVICE": "cpu"}
_SAYING = (3, 8)
_SHORT = 2
_GAP_S = (0.1, 0.4)
_PAUSE_S = (0.6, 3.0)
# As `microphone` lays out other speech.
_LIVE_PAUSE_S, _TAIL_S = (1.0, 1.8), 2.0


@dataclass(frozen=True)
class Recording:
    """Sayings of one voice; `spans` (seconds) are where they are."""

    samples: Samples
    text: str
    spans: tuple[Span, ...]

    @property
    def seconds(self) -> float:
        """Return its length."""
        return len(self.samples) / SAMPLE_RATE


def recordings(count: int, seconds: tuple[float, float]) -> list[Recording]:
    """Return so many recordings, from the shortest to the longest that `seconds` allows, evenly."""
    rng = np.random.default_rng(5)
    return [_said(rng, _PAUSE_S, seconds=length) for length in np.linspace(*seconds, count)]


def short_recordings(count: int) -> list[Recording]:
    """Return single sayings of two digits: about two seconds, of which recognition makes one chunk."""
    rng = np.random.default_rng(6)
    return [_said(rng, _PAUSE_S, saying=(_SHORT, _SHORT)) for _ in range(count)]


def speeches(count: int, seconds: float) -> list[Speech]:
    """Return what so many live sessions say."""
    rng = np.random.default_rng(7)
    said = [_said(rng, _LIVE_PAUSE_S, seconds=seconds) for _ in range(count)]
    return [Speech(np.pad(each.samples, (0, round(_TAIL_S * SAMPLE_RATE))), each.spans) for each in said]


TALK = Talk(MODEL, speeches)


def _said(
    rng: np.random.Generator, pause_s: Span, *, saying: tuple[int, int] = _SAYING, seconds: float = 0.0
) -> Recording:
    """Let one voice say one saying, and more until `seconds` are full."""
    takes = _voices()[int(rng.integers(len(_voices())))]
    digits: list[int] = []
    gaps_s: list[float] = []
    begins: list[int] = []
    length_s = 0.0
    while not digits or length_s < seconds:
        begins.append(len(digits))
        for place in range(rng.integers(*saying, endpoint=True)):
            gaps_s.append(rng.uniform(*(_GAP_S if place else pause_s)) if digits else 0.0)
            digits.append(int(rng.integers(len(takes))))
            length_s += gaps_s[-1] + len(takes[digits[-1]][0]) / SAMPLE_RATE
    sample = say("en", takes, digits, gaps_s[1:])
    spans = tuple(
        (sample.spans[first][0] / SAMPLE_RATE, sample.spans[after - 1][1] / SAMPLE_RATE)
        for first, after in pairwise([*begins, len(digits)])
    )
    return Recording(sample.pcm, " ".join(sample.words), spans)


@cache
def _voices() -> Sequence[Sequence[Sequence[Audio]]]:
    voices = of_voices([clip for clip in saved(MODELS / "voices.npz") if clip.language == "en"])
    return [voices[name] for name in sorted(voices)]
