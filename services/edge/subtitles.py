"""Cut a transcript into subtitle cues and write them as SRT or WebVTT. Pure.

A cue has at most two lines of 42 cells (a wide East Asian character takes two) and stays at most 7 s; it ends early at
the end of a sentence or at a pause, and with the audio at the latest. Cues never overlap. With two or more speakers, a
cue names its speaker where that changes. Lines of a script that is written from right to left are marked as such: few
players find out, and without it they put the full stop in front.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from services.edge.formats import speaker_name
from services.edge.transcript import Segment, Transcript, Word, join

LINE_CELLS = 42
MAX_LINES = 2
MAX_CUE_MS = 7_000
MIN_CUE_MS = 1_000
"""How long a cue stays at least, where the next one leaves it the time."""
PAUSE_MS = 1_000
"""Silence after which words no longer belong into one cue."""


_RIGHT_TO_LEFT, _END_OF_IT = "\u202b", "\u202c"


@dataclass(frozen=True, slots=True)
class Cue:
    """What is shown from `start_ms` to `end_ms`; `speaker` is set where it is to be named."""

    start_ms: int
    end_ms: int
    words: tuple[Word, ...]
    speaker: str | None


def to_srt(transcript: Transcript) -> str:
    """Return the transcript as SubRip; a speaker is a prefix, `Speaker 1: `."""
    blocks = [
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n"
        + "\n".join(_lines(cue, cue.speaker))
        + "\n"
        for number, cue in enumerate(cues(transcript), 1)
    ]
    return "\n".join(blocks)


def to_vtt(transcript: Transcript) -> str:
    """Return the transcript as WebVTT; a speaker is a voice tag, `<v Speaker 1>`."""
    blocks = ["WEBVTT\n"]
    for cue in cues(transcript):
        voice = f"<v {cue.speaker}>" if cue.speaker else ""
        text = "\n".join(_lines(cue, None))
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{voice}{text}\n")
    return "\n".join(blocks)


def cues(transcript: Transcript) -> list[Cue]:
    """Return the cues in order: each ends after it starts, and before the next one starts."""
    drafts: list[tuple[list[Word], str | None]] = []
    names_speakers = transcript.speakers > 1
    shown: int | None = None
    for segment in transcript.segments:
        name = None
        if names_speakers and segment.speaker is not None and segment.speaker != shown:
            name = speaker_name(segment.speaker)
        shown = segment.speaker
        for words in _split(segment, name):
            drafts.append((words, name))
            name = None
    return _timed(drafts, _ms(transcript.duration_s))


def _split(segment: Segment, name: str | None) -> Iterator[list[Word]]:
    """Yield the words of one cue after the other; the first one leaves room for the speaker's name."""
    cue: list[Word] = []
    for word in segment.words:
        if cue and (_is_full([*cue, word], name) or _is_break(cue, word)):
            yield cue
            cue, name = [], None
        cue.append(word)
    if cue:
        yield cue


def _is_full(words: Sequence[Word], name: str | None) -> bool:
    return len(_wrap(_named(name, words))) > MAX_LINES or _ms(words[-1].end_s) - _ms(words[0].start_s) > MAX_CUE_MS


def _is_break(cue: Sequence[Word], word: Word) -> bool:
    if _ms(word.start_s) - _ms(cue[-1].end_s) >= PAUSE_MS:
        return True
    return cue[-1].ends_sentence and _cells(join(cue)) > LINE_CELLS // 2


def _timed(drafts: Sequence[tuple[Sequence[Word], str | None]], audio_ms: int) -> list[Cue]:
    """Fit the cues' times into each other and into the audio, in whole milliseconds, moving them as little as possible.

    What is said behind its end, which cannot be, is shown for a millisecond.
    """
    timed = []
    free_ms = 0
    for position, (words, speaker) in enumerate(drafts):
        start_ms = max(_ms(words[0].start_s), free_ms)
        end_ms = min(max(_ms(words[-1].end_s), start_ms + MIN_CUE_MS), start_ms + MAX_CUE_MS)
        if position + 1 < len(drafts):
            end_ms = min(end_ms, _ms(drafts[position + 1][0][0].start_s))
        free_ms = max(min(end_ms, audio_ms), start_ms + 1)
        timed.append(Cue(start_ms, free_ms, tuple(words), speaker))
    return timed


def _wrap(words: Sequence[Word]) -> list[str]:
    """Break into lines between words; only a single word may be longer than one."""
    lines: list[list[Word]] = []
    room = 0
    for word in words:
        cells = _cells(word.text)
        room -= cells + (not word.attached)
        if not lines or room < 0:
            lines.append([])
            room = LINE_CELLS - cells
        lines[-1].append(word)
    # A line break in a word would end the line, two the cue.
    return [" ".join(join(line).splitlines()) for line in lines]


def _lines(cue: Cue, speaker: str | None) -> list[str]:
    lines = _wrap(_named(speaker, cue.words))
    directions = [_direction(word.text) for word in cue.words]
    if directions.count("R") <= directions.count("L"):
        return lines
    return [f"{_RIGHT_TO_LEFT}{line}{_END_OF_IT}" for line in lines]


def _direction(text: str) -> str:
    """Return L or R, the way the first letter is written, or nothing where there is none."""
    directions = (unicodedata.bidirectional(character) for character in text)
    return next((direction.replace("AL", "R") for direction in directions if direction in ("L", "R", "AL")), "")


def _cells(text: str) -> int:
    """Return how wide a text is shown: wide characters take two cells, those that stand on others none."""
    shown = [character for character in text if unicodedata.category(character) not in ("Mn", "Me", "Cf")]
    return len(shown) + sum(unicodedata.east_asian_width(character) in "WF" for character in shown)


def _named(speaker: str | None, words: Sequence[Word]) -> list[Word]:
    """Return the words behind their speaker's name, where that is shown."""
    if speaker is None:
        return list(words)
    first, *others = words
    name = Word(f"{speaker}:", first.start_s, first.start_s, first.confidence)
    return [name, replace(first, attached=False), *others]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _clock(ms: int, separator: str) -> str:
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{separator}{ms % 1000:03}"
