"""Ranks sentences: TF-IDF, continuous LexRank (Erkan and Radev, 2004) and maximal marginal relevance.

The similarity graph is never built: with rows of unit length its matrix is X X', so a step of the walk is two sparse
products and costs what the text is long, in time and memory. Numbers only; what a sentence is belongs elsewhere.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_DAMPING = 0.85
_MAX_STEPS = 40
_TOLERANCE = 1e-6


class SentenceSpace:
    """Sentences as TF-IDF vectors of unit length; a sentence without content words is the zero vector."""

    def __init__(self, sentences: Sequence[Sequence[str]]) -> None:
        """Build the space from the content words of each sentence."""
        self.n_sentences = len(sentences)
        ids: dict[str, int] = {}
        rows: list[int] = []
        columns: list[int] = []
        counts: list[int] = []
        for row, words in enumerate(sentences):
            for word, count in Counter(words).items():
                rows.append(row)
                columns.append(ids.setdefault(word, len(ids)))
                counts.append(count)
        self._n_words = len(ids)
        self._rows = np.array(rows, dtype=np.int32)
        self._columns = np.array(columns, dtype=np.int32)
        in_sentences = np.bincount(self._columns, minlength=self._n_words)
        inverse_frequency = np.log((1 + self.n_sentences) / (1 + in_sentences)) + 1
        values = (1 + np.log(np.array(counts, dtype=np.float64))) * inverse_frequency[self._columns]
        norms = np.sqrt(np.bincount(self._rows, values**2, self.n_sentences))
        self._values: Vector = values / norms[self._rows]

    def word_weights(self, weights: Vector) -> Vector:
        """Return X' w: what the sentences, weighted, say of each word."""
        return _sums(self._columns, self._values * weights[self._rows], self._n_words)

    def sentence_weights(self, weights: Vector) -> Vector:
        """Return X w: what the words, weighted, say of each sentence."""
        return _sums(self._rows, self._values * weights[self._columns], self.n_sentences)

    def similarities(self, index: int) -> Vector:
        """Return the cosine of one sentence with every sentence."""
        one = np.zeros(self.n_sentences)
        one[index] = 1.0
        return self.sentence_weights(self.word_weights(one))

    def centrality(self) -> Vector:
        """Return the LexRank of every sentence, the greatest being 1."""
        n = self.n_sentences
        has_words = np.bincount(self._rows, minlength=n) > 0
        neighbours = self.sentence_weights(self.word_weights(np.ones(n))) - has_words
        is_linked = neighbours > 1e-9
        rank = np.full(n, 1 / max(n, 1))
        for _ in range(_MAX_STEPS):
            share = np.divide(rank, neighbours, out=np.zeros(n), where=is_linked)
            walked = self.sentence_weights(self.word_weights(share)) - share * has_words
            stepped = _DAMPING * walked
            stepped += (1 - stepped.sum()) / n
            moved = float(np.abs(stepped - rank).sum())
            rank = stepped
            if moved < _TOLERANCE:
                break
        return rank / rank.max() if n else rank


def _sums(bins: NDArray[np.int32], values: Vector, n_bins: int) -> Vector:
    return np.bincount(bins, values, n_bins).astype(np.float64, copy=False)


def choose(space: SentenceSpace, scores: Vector, candidates: Sequence[int], count: int, relevance: float) -> list[int]:
    """Choose up to `count` candidates by maximal marginal relevance, the best first.

    `relevance` (0 to 1) is the weight of the score against the likeness to what is already chosen.
    """
    left = np.array(candidates, dtype=np.intp)
    chosen: list[int] = []
    likeness = np.zeros(space.n_sentences)
    while len(left) and len(chosen) < count:
        at = int(np.argmax(relevance * scores[left] - (1 - relevance) * likeness[left]))
        best = int(left[at])
        chosen.append(best)
        likeness = np.maximum(likeness, space.similarities(best))
        left = np.delete(left, at)
        left = left[likeness[left] < 0.95]
    return chosen
