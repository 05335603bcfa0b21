"""Compare what came out with references: words, word times, speakers. Pure functions; nothing is run here."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import jiwer
import numpy as np
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate
from scipy.optimize import linear_sum_assignment

from tests.bench.data import DIGIT_NAMES, Span, SpokenDigit


@dataclass(frozen=True)
class TimedWord:
    """A word that was recognized; `speaker` is empty where none was asked for."""

    text: str
    start_s: float
    end_s: float
    speaker: str = ""
    estimated: bool = False


@dataclass(frozen=True)
class SpeakerTurn:
    """Somebody's speech from a reference or a diarizer, in seconds."""

    speaker: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class TimeError:
    """By how much a correctly recognized word was misplaced: signed seconds, positive is too late."""

    onset_s: float
    end_s: float
    estimated: bool


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str], normalize: Callable[[str], str]) -> float:
    """Return edits over reference words, summed over all files."""
    return jiwer.wer([normalize(text) for text in references], [normalize(text) for text in hypotheses])


def plain_words(text: str) -> list[str]:
    """Return the words of `text` in lower case without punctuation."""
    return [word for raw in text.lower().split() if (word := re.sub(r"[^\w']", "", raw))]


def digit_names(text: str) -> list[str]:
    """Return the digits a written word stands for: `five,` is one, `54-39.` are four, any other word none."""
    word = re.sub(r"[^\w]", "", text.lower())
    if word == "oh":
        return ["zero"]
    if word in DIGIT_NAMES:
        return [word]
    return [DIGIT_NAMES[int(digit)] for digit in word] if word.isdecimal() else []


def digit_time_errors(digits: Sequence[SpokenDigit], words: Sequence[TimedWord]) -> list[TimeError]:
    """Return the errors of the words all of whose digits were said, in that order.

    A word that stands for several digits begins with its first and ends with its last.
    """
    spelt = [
        (name, index) for index, word in enumerate(words) for name in digit_names(word.text) or [word.text.lower()]
    ]
    pairs = _aligned([digit.name for digit in digits], [name for name, _ in spelt], equal_only=True)
    said = {heard: reference for reference, heard in pairs}
    errors = []
    position = 0
    for index, group in itertools.groupby(spelt, key=lambda item: item[1]):
        length = len(list(group))
        matched = [said.get(position + offset) for offset in range(length)]
        position += length
        first, last = matched[0], matched[-1]
        if first is None or last is None or matched != list(range(first, first + length)):
            continue
        word = words[index]
        errors.append(TimeError(word.start_s - digits[first].start_s, word.end_s - digits[last].end_s, word.estimated))
    return errors


def spoken_words(text: str) -> list[str]:
    """Return the words of `text` as they are said: plain, numbers digit by digit."""
    return [name for word in plain_words(text) for name in digit_names(word) or [word]]


def right_speakers(reference: Sequence[tuple[str, str]], hypothesis: Sequence[tuple[str, str]]) -> dict[int, bool]:
    """Tell of the reference's words that were recognized whether their speaker is right; items are (word, speaker).

    Words are aligned by least edits, and a substituted word counts by its place; speakers are mapped one to one, as
    well as they can be. Keys are positions in the reference.
    """
    pairs = _aligned([word for word, _ in reference], [word for word, _ in hypothesis])
    together = Counter((reference[r][1], hypothesis[h][1]) for r, h in pairs)
    rows = sorted({r for r, _ in together})
    columns = sorted({h for _, h in together})
    table = np.array([[together[row, column] for column in columns] for row in rows]).reshape(len(rows), len(columns))
    mapped = {(rows[row], columns[column]) for row, column in zip(*linear_sum_assignment(table, True), strict=True)}
    return {r: (reference[r][1], hypothesis[h][1]) in mapped for r, h in pairs}


def words_by_turns(words: Iterable[TimedWord], turns: Sequence[SpeakerTurn]) -> list[tuple[TimedWord, str]]:
    """Return the words of which at least half lies in one speaker's turns, and in nobody else's, with that speaker."""
    labelled = []
    for word in words:
        within_s: Counter[str] = Counter()
        for turn in turns:
            within_s[turn.speaker] += max(0.0, min(turn.end_s, word.end_s) - max(turn.start_s, word.start_s))
        speakers = [speaker for speaker, seconds in within_s.items() if seconds * 2 >= word.end_s - word.start_s]
        if len(speakers) == 1:
            labelled.append((word, speakers[0]))
    return labelled


def speaker_at(turns: Sequence[SpeakerTurn], time_s: float) -> str:
    """Return who speaks at `time_s`: the turn that covers it, else the nearest; empty where there are no turns."""
    if not turns:
        return ""
    return min(turns, key=lambda turn: max(turn.start_s - time_s, time_s - turn.end_s, 0.0)).speaker


class DiarizationScore:
    """Diarization error rate over files: collar 0, overlap scored, summed before divided."""

    def __init__(self) -> None:
        """Begin with no file."""
        self._metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
        self.per_file: dict[str, float] = {}

    def add(
        self, name: str, reference: Iterable[SpeakerTurn], hypothesis: Iterable[SpeakerTurn], region_s: Span
    ) -> None:
        """Score one file within `region_s`."""
        uem = Timeline([Segment(*region_s)])
        self.per_file[name] = float(self._metric(_annotation(reference), _annotation(hypothesis), uem=uem))

    @property
    def total(self) -> float:
        """Return the error rate over all files."""
        return float(abs(self._metric))

    @property
    def shares(self) -> str:
        """Describe what the error rate is made of."""
        seconds = {part: cast(float, self._metric[part]) for part in ("missed detection", "false alarm", "confusion")}
        spoken = cast(float, self._metric["total"])
        return ", ".join(f"{part} {value / spoken:.3f}" for part, value in seconds.items())


def read_rttm(path: Path) -> list[SpeakerTurn]:
    """Read the SPEAKER lines of an RTTM file."""
    rows = [line.split() for line in path.read_text().splitlines() if line.startswith("SPEAKER ")]
    return [SpeakerTurn(row[7], float(row[3]), float(row[3]) + float(row[4])) for row in rows]


def read_stm(path: Path) -> list[tuple[str, str]]:
    """Read the words of an STM file, as they are said, with their speakers."""
    rows = [line.split(maxsplit=5) for line in path.read_text().splitlines() if line]
    return [(word, row[2]) for row in rows for word in spoken_words(row[5])]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the least-squares slope of `y` over `x`."""
    return float(np.polyfit(x, y, 1)[0])


def _annotation(turns: Iterable[SpeakerTurn]) -> Annotation:
    annotation = Annotation()
    for track, turn in enumerate(turns):
        annotation[Segment(turn.start_s, turn.end_s), track] = turn.speaker
    return annotation


def _aligned(reference: Sequence[str], hypothesis: Sequence[str], *, equal_only: bool = False) -> list[tuple[int, int]]:
    """Return (reference index, hypothesis index) of the words that stand opposite each other."""
    if not reference or not hypothesis:
        return []
    chunks = jiwer.process_words([" ".join(reference)], [" ".join(hypothesis)]).alignments[0]
    kinds = {"equal"} if equal_only else {"equal", "substitute"}
    return [
        (chunk.ref_start_idx + step, chunk.hyp_start_idx + step)
        for chunk in chunks
        if chunk.type in kinds
        for step in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]
