"""What a transcript is made of. Who said what is decided in `joining`, how it is written down in `formats`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！", "؟", "।")
_CLOSERS = "\"')]»”’」』）"


@dataclass(frozen=True, slots=True)
class Word:
    """One word as written, with its punctuation; times in seconds, confidence 0 to 1.

    `attached`: no space stands between it and the word before it, as in scripts that have none.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float
    attached: bool = False

    @property
    def ends_sentence(self) -> bool:
        """Return whether a sentence ends with it."""
        return self.text.rstrip(_CLOSERS).endswith(_SENTENCE_ENDS)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech, of one speaker where speakers are known (numbered from 1 by first appearance).

    `estimated` says that the words' times are interpolated, not measured.
    """

    start_s: float
    end_s: float
    text: str
    confidence: float
    words: tuple[Word, ...]
    estimated: bool = False
    speaker: int | None = None

    @property
    def attached(self) -> bool:
        """Return whether no space stands between it and the segment before it."""
        return bool(self.words) and self.words[0].attached


@dataclass(frozen=True, slots=True)
class Turn:
    """Somebody's uninterrupted speech; turns of two speakers may overlap."""

    start_s: float
    end_s: float
    speaker: int


@dataclass(frozen=True, slots=True)
class Transcript:
    """A finished transcription, whatever it will be written down as."""

    language: str
    duration_s: float
    model: str
    segments: Sequence[Segment]
    warnings: Sequence[str]

    @property
    def text(self) -> str:
        """Return everything that was said, on one line."""
        return join(self.segments)

    @property
    def speakers(self) -> int:
        """Return how many speakers the segments name."""
        return len({segment.speaker for segment in self.segments} - {None})


def join(parts: Iterable[Word | Segment]) -> str:
    """Return their text, a space before each that is not attached to what it follows."""
    return "".join(part.text if part.attached else f" {part.text}" for part in parts).removeprefix(" ")
