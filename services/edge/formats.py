"""Write a transcript down as JSON or plain text. Pure; subtitles are in `subtitles`, HTTP is not known here.

Key names and their order are the public contract's.
"""

import unicodedata
from typing import Any

from services.edge.transcript import Segment, Transcript, Word

_KEPT_PUNCTUATION = frozenset("%‰&#@")


def to_json(transcript: Transcript) -> dict[str, Any]:
    """Return the JSON answer: times in seconds, rounded to milliseconds."""
    return {
        "text": transcript.text,
        "language": transcript.language,
        "duration": round(transcript.duration_s, 3),
        "segments": [segment_to_json(s, has_language=transcript.languages > 1) for s in transcript.segments],
        "speakers": [speaker_name(number) for number in range(1, transcript.speakers + 1)],
        "model": transcript.model,
        "warnings": list(transcript.warnings),
    }


def segment_to_json(segment: Segment, *, has_language: bool = True) -> dict[str, Any]:
    """Return one element of `segments`.

    `speaker` and `language` are there where they are known, `language` unless it is the whole answer's; `timing` where
    times are interpolated.
    """
    return {
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": segment.text,
        **({} if segment.speaker is None else {"speaker": speaker_name(segment.speaker)}),
        "confidence": round(segment.confidence, 3),
        "words": [_word_to_json(word) for word in segment.words],
        **({"timing": "estimated"} if segment.estimated else {}),
        **({"language": segment.language} if has_language and segment.language else {}),
    }


def speaker_name(number: int) -> str:
    """Return how a speaker is called in every format."""
    return f"Speaker {number}"


def bare_word(text: str) -> str:
    """Strip the punctuation around a word, as `word` has it: `"Hello,` is Hello.

    Signs that belong to the word stay: 50%, $20, #3, -5, don't, well-known. Punctuation alone stays as it is.
    """
    start, end = 0, len(text)
    while start < end and _is_stripped(text[start]):
        start += 1
    while end > start and _is_stripped(text[end - 1]):
        end -= 1
    if start and text[start - 1] == "-" and text[start:end][:1].isdigit():
        start -= 1
    return text[start:end] or text


def _is_stripped(character: str) -> bool:
    return unicodedata.category(character).startswith("P") and character not in _KEPT_PUNCTUATION


def _word_to_json(word: Word) -> dict[str, Any]:
    return {
        "word": bare_word(word.text),
        "start": round(word.start_s, 3),
        "end": round(word.end_s, 3),
        "confidence": round(word.confidence, 3),
    }
