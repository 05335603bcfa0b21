"""What a transcription consists of: words with times, and the segments they make."""

from dataclasses import dataclass
from enum import Enum, auto

from services.asr.engine import join


class Timing(Enum):
    """Where the times of words come from."""

    ALIGNED = auto()
    ESTIMATED = auto()


@dataclass(frozen=True, slots=True)
class Word:
    """A written word; times in seconds from the recording's first sample, confidence 0 to 1.

    `attached`: no space stands between it and the word before it.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float
    attached: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """A sentence, or as much of one as was said in a breath, in one language (ISO 639-1); never empty."""

    words: tuple[Word, ...]
    confidence: float
    timing: Timing
    language: str

    @property
    def start_s(self) -> float:
        """Return the first word's start."""
        return self.words[0].start_s

    @property
    def end_s(self) -> float:
        """Return the last word's end."""
        return self.words[-1].end_s

    @property
    def text(self) -> str:
        """Return the words joined."""
        return join(self.words)
