"""What tests say to the small Whisper model: digits in voices it never heard, at known times."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.models.evaluation import Sample, joined, say
from tests.models.voices import Audio, Clip, of_voices, saved

MODELS = Path(__file__).parents[1] / "models"
DIGITS = MODELS / "digits"

_VOICES = {"en": "en-us+m4", "de": "de+m4", "es": "es+m4"}


def spoken(language: str, digits: Sequence[int], gap_s: float = 0.3) -> Sample:
    """Return the digits said in one voice."""
    return say(language, _takes(language), digits, [gap_s] * (len(digits) - 1))


def sayings(language: str, count: int, *, digits: tuple[int, int] = (3, 8), seed: int = 0) -> list[Sample]:
    """Return random digits with random gaps, in two voices."""
    clips = [clip for clip in _clips() if clip.language == language]
    return list(joined(clips, count=count, digits=digits, seed=seed))


@cache
def _clips() -> list[Clip]:
    return saved(MODELS / "voices.npz")


def _takes(language: str) -> list[list[Audio]]:
    return of_voices(_clips())[language, _VOICES[language]]
