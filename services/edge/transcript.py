"""What a transcript is made of. Who said what is decided in `joining`, how it is written down in `formats`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

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

    `estimated` says that the words' times are interpolated, not measured; `language` is what was spoken, where known.
    """

    start_s: float
    end_s: float
    text: str
    confidence: float
    words: tuple[Word, ...]
    estimated: bool = False
    speaker: int | None = None
    language: str = ""

    def follows(self, before: "Segment") -> bool:
        """Return whether no space stands between it and the segment before it: never where the language changes."""
        return bool(self.words) and self.words[0].attached and self.language == before.language


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
    voiced_s: float = 0.0

    @property
    def text(self) -> str:
        """Return everything that was said, on one line."""
        return join_segments(self.segments)

    @property
    def languages(self) -> int:
        """Return how many languages the segments are known to be in."""
        return len({segment.language for segment in self.segments} - {""})

    @property
    def is_wordless(self) -> bool:
        """Return whether speech was heard and none of it understood."""
        return self.voiced_s > 0 and not self.segments

    @property
    def speakers(self) -> int:
        """Return how many speakers the segments name."""
        return len({segment.speaker for segment in self.segments} - {None})


def join(words: Iterable[Word]) -> str:
    """Return their text, a space before each that is not attached to the one before it."""
    return "".join(word.text if word.attached else f" {word.text}" for word in words).removeprefix(" ")


def join_segments(segments: Sequence[Segment]) -> str:
    """Return their text, a space before each that does not follow the one before it without."""
    rest = (s.text if s.follows(before) else f" {s.text}" for before, s in pairwise(segments))
    return "".join((*(first.text for first in segments[:1]), *rest))
