"""Cuts what was said into sentences, in any script, and into utterances where nobody wrote the ends of sentences."""

import re
from collections.abc import Iterator

from services.summarize.engines.extractive.wordlist import word_set

_MAX_SENTENCE_WORDS = 45
_MAX_SENTENCE_CHARS = 300
_MIN_UTTERANCE_WORDS, _AIM_UTTERANCE_WORDS, _MAX_UTTERANCE_WORDS = 5, 14, 28
_MAX_WORD_CHARS = 60
# A script without spaces, or no language at all: up to 80 characters, to the last clause mark among them.
_DENSE_CHARS_PER_WORD = 20
_DENSE_PIECE = re.compile(r".{1,79}[、，；：,;:]|.{1,80}")

_END = re.compile(r"(?:[。！？]+[”’」』）]*\s*)|(?:[.!?…؟।॥።։]+[\"'”’)\]»]*(?:\s+|$))")
_ABBREVIATIONS = word_set(
    """
    mr mrs ms dr prof st mt jr sr vs gen col capt lt rev hon etc e.g i.e inc ltd corp vol fig approx dept
    """
)
_OPENERS = {
    **dict.fromkeys(word_set("okay ok alright anyway let's lets"), 8.0),
    **dict.fromkeys(word_set("so but then now well also please next finally i'll we'll"), 5.0),
    **dict.fromkeys(word_set("and because i we can could if"), 3.0),
    **dict.fromkeys(word_set("he she they you it when which this that there"), 1.0),
}
# Words that must not be the last of an utterance.
_LEANING = word_set(
    """
    a an and as at because but by can could for from if in into is it's my of on or our please so than that the
    their to we were when which will with would you your i he she they before after until not then
    """
)


def split_sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text in order, none empty; what is too long for one is cut into utterances."""
    start = 0
    for match in _END.finditer(text):
        if text[match.start()] == "." and _is_abbreviation(text, match):
            continue
        yield from _cut(text[start : match.end()].strip())
        start = match.end()
    yield from _cut(text[start:].strip())


def _is_abbreviation(text: str, end: re.Match[str]) -> bool:
    last = text[max(0, end.start() - 12) : end.start()].rpartition(" ")[2].lower()
    if last in _ABBREVIATIONS:
        return True
    following = text[end.end() : end.end() + 1]
    if len(last) > 1 and last[1] == ".":  # "p.m", "u.s": the end of a sentence only where a new one seems to begin
        return following.islower()
    return len(last) == 1 and last.isalpha() and last not in "i" and following.isupper()


def _cut(sentence: str) -> Iterator[str]:
    words = sentence.split()
    if len(words) <= _MAX_SENTENCE_WORDS and len(sentence) <= _MAX_SENTENCE_CHARS:
        if sentence:
            yield sentence
        return
    if len(sentence) > _DENSE_CHARS_PER_WORD * len(words):
        yield from (piece for match in _DENSE_PIECE.finditer(sentence) if (piece := match[0].strip()))
        return
    words = [word[at : at + _MAX_WORD_CHARS] for word in words for at in range(0, len(word), _MAX_WORD_CHARS)]
    start = 0
    enough = _AIM_UTTERANCE_WORDS + _MIN_UTTERANCE_WORDS
    while len(words) - start > enough or len(" ".join(words[start:])) > _MAX_SENTENCE_CHARS:
        end = _best_cut(words, start)
        yield " ".join(words[start:end])
        start = end
    if start < len(words):
        yield " ".join(words[start:])


def _best_cut(words: list[str], start: int) -> int:
    """Return the index of the word before which the utterance that begins at `start` best ends."""
    best, best_score, chars = start + 1, float("-inf"), 0
    for at in range(start + 1, min(start + _MAX_UTTERANCE_WORDS, len(words) - 1) + 1):
        chars += len(words[at - 1]) + 1
        if chars > _MAX_SENTENCE_CHARS:
            break
        length = at - start
        score = _OPENERS.get(words[at].lower().strip(",.;:"), 0.0) - abs(length - _AIM_UTTERANCE_WORDS) / 4
        before = words[at - 1]
        if before[-1] in ",;:、，；：–—":
            score += 4.0
        if before.lower() in _LEANING:
            score -= 8.0
        if length < _MIN_UTTERANCE_WORDS:
            score -= 6.0
        if score > best_score:
            best, best_score = at, score
    return best
