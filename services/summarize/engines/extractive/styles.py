"""Puts summaries together: which sentences, how many, in which form, for each style but action items."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from services.summarize.engines.extractive.cleaning import capitalize, clean, clip
from services.summarize.engines.extractive.ranking import SentenceSpace, Vector, choose

_SENTENCE_CHARS = 320
_POINT_CHARS = 160
_HEADLINE_CHARS = 100
_GOOD_CONTENT_WORDS = 7
_LEAD_IN = re.compile(
    r"^(?:(?:um+|uh+|and|so|but|well|okay|ok|yeah|yes|now|then|also|right|alright|basically|actually|anyway"
    r"|i think(?: that)?|i guess|i mean|i would say|as i said|you see|of course|in fact)\b,?\s+)+",
    re.IGNORECASE,
)
# Beginnings that lean on a sentence which the summary may not have.
_LEANS_BACK = re.compile(
    r"^(?:it|this|that|these|those|they|he|she|them|which|because|or|such|there|here|him|her|yes|no|yeah|okay)\b",
    re.IGNORECASE,
)
# The end of a sentence after which no space is written.
_UNSPACED_END = re.compile(r"[。！？\u3040-\u9fff]$")
_CLAUSE = re.compile(
    r"[,;:—–]\s+|[、，；：]|\s(?=(?:because|although|which|so that|while|whereas|unless)\s)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Sentences in the order of the text, as they were said, with their vectors and scores."""

    sentences: Sequence[str]
    content_words: Sequence[Sequence[str]]
    space: SentenceSpace
    scores: Vector


def rank(sentences: Sequence[str], content_words: Sequence[Sequence[str]]) -> Ranked:
    """Score the sentences: how central each is, and how well it can stand alone."""
    space = SentenceSpace(content_words)
    fitness = np.array([_fitness(text, len(words)) for text, words in zip(sentences, content_words, strict=True)])
    return Ranked(sentences, content_words, space, space.centrality() * fitness)


def brief(ranked: Ranked) -> Iterator[str]:
    """Yield two or three sentences, as one paragraph."""
    count = 3 if len(ranked.sentences) > 8 else 2
    chosen = choose(ranked.space, ranked.scores, range(len(ranked.sentences)), count, relevance=0.7)
    yield from _prose(ranked.sentences[at] for at in sorted(chosen))


def detailed(ranked: Ranked) -> Iterator[str]:
    """Yield paragraphs of two to four sentences, one for each stretch of the text."""
    bounds = _stretches(ranked)
    for number, (start, end) in enumerate(pairwise(bounds)):
        count = min(4, (end - start + 2) // 3 + 1)
        chosen = choose(ranked.space, ranked.scores, range(start, end), count, relevance=0.75)
        for place, piece in enumerate(_prose(ranked.sentences[at] for at in sorted(chosen))):
            yield f"\n\n{piece}" if number and not place else piece


def bullet_points(ranked: Ranked) -> Iterator[str]:
    """Yield three to eight points that differ from each other, without what leads into them, one a line."""
    count = min(8, max(3, len(ranked.sentences) // 5))
    chosen = choose(ranked.space, ranked.scores, range(len(ranked.sentences)), count, relevance=0.55)
    points = dict.fromkeys(_point(ranked.sentences[at]) for at in sorted(chosen))
    for place, point in enumerate(points):
        yield f"\n- {point}" if place else f"- {point}"


def headline(ranked: Ranked) -> Iterator[str]:
    """Yield one line of at most 100 characters: the clause that says most of what the text is about."""
    best_sentences = np.argsort(-ranked.scores, kind="stable")[:12]
    clauses = [
        (float(ranked.scores[at]), clause) for at in best_sentences for clause in _clauses(str(ranked.sentences[at]))
    ]
    yield max(clauses, key=lambda scored: scored[0] * _headline_fitness(scored[1]))[1]


def _fitness(sentence: str, n_content_words: int) -> float:
    fitness = min(1.0, 0.1 + n_content_words / _GOOD_CONTENT_WORDS)
    if sentence.endswith(("?", "？", "؟")):
        fitness *= 0.6
    if _LEANS_BACK.match(_LEAD_IN.sub("", sentence)):
        fitness *= 0.75
    return fitness


def _stretches(ranked: Ranked) -> list[int]:
    """Return where the stretches of the text begin, and its end: near even cuts, where the words change most."""
    n = len(ranked.sentences)
    count = min(6, max(1, n // 6))
    size = n / count
    reach = min(12, int(size) // 3)
    bounds = [0]
    for number in range(1, count):
        middle = round(number * size)
        bounds.append(min(range(middle - reach, middle + reach + 1), key=lambda at: (_cohesion(ranked, at), at)))
    return [*bounds, n]


def _cohesion(ranked: Ranked, at: int, window: int = 6) -> float:
    before = {word for words in ranked.content_words[max(0, at - window) : at] for word in words}
    after = {word for words in ranked.content_words[at : at + window] for word in words}
    return len(before & after) / max(1, min(len(before), len(after)))


def _sentence(text: str) -> str:
    text = clip(clean(text) or text, _SENTENCE_CHARS)
    return f"{text}." if text[-1].isalnum() and not _UNSPACED_END.search(text) else text


def _point(text: str) -> str:
    text = clean(text) or text
    return clip(capitalize(_LEAD_IN.sub("", text).rstrip(".。।")) or text, _POINT_CHARS)


def _clauses(sentence: str) -> list[str]:
    """Return the beginnings of a sentence, up to each break between clauses, that are short enough for a headline."""
    whole = _point(sentence)
    ends = [match.start() for match in _CLAUSE.finditer(whole)] + [len(whole)]
    fitting = [whole[:end].rstrip(" ,;:—–") for end in ends if 0 < end <= _HEADLINE_CHARS]
    return [clause for clause in fitting if clause] or [clip(whole, _HEADLINE_CHARS)]


def _headline_fitness(clause: str) -> float:
    return min(1.0, len(clause) / 50) * (0.7 if clause.endswith("…") else 1.0)


def _prose(sentences: Iterable[str]) -> Iterator[str]:
    before = ""
    for sentence in map(_sentence, sentences):
        yield sentence if not before or _UNSPACED_END.search(before) else f" {sentence}"
        before = sentence
