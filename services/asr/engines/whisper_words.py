"""Cuts Whisper's tokens into written words, and places them where the decoder's cross-attention looked for them."""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import merge_punctuations

from services.asr.engine import SpokenWord

ALIGNMENT_FRAME = 320
"""Samples for each of the encoder's states, the grid of the word times."""

_OPENING = "\"'“¿([{-「『（"
_CLOSING = "\"'.。,，!！?？:：”)]}、」』）"
# As the model was taught to write them; in all other languages spaces part words.
_UNSPACED = {"zh", "ja", "th", "lo", "my"}
_LEAST_PROBABILITY = 1e-10

Span = tuple[int, int]


def cut(
    tokenizer: Tokenizer, tokens: Sequence[int], probabilities: Sequence[float], alignment: Sequence[Span]
) -> tuple[tuple[SpokenWord, ...], tuple[Span, ...]]:
    """Return the words of `tokens`, and where each was said, in samples.

    `alignment` is the monotonic path of (token, encoder state) pairs from the first token to the last state.
    """
    texts, groups = tokenizer.split_to_word_tokens([*tokens, tokenizer.eot])
    pieces: list[dict[str, Any]] = [
        {"word": text, "tokens": group} for text, group in zip(texts[:-1], groups[:-1], strict=True)
    ]
    begins = _begins(alignment, len(tokens))
    bounds = [begins[first] for first in accumulate((len(piece["tokens"]) for piece in pieces), initial=0)]
    for piece, (start, end) in zip(pieces, pairwise(bounds), strict=True):
        piece["span"] = (start, end)
    merge_punctuations(pieces, _OPENING, _CLOSING)
    return _words(pieces, probabilities, tokenizer.language_code in _UNSPACED)


def _words(
    pieces: Sequence[dict[str, Any]], probabilities: Sequence[float], unspaced: bool
) -> tuple[tuple[SpokenWord, ...], tuple[Span, ...]]:
    words: list[SpokenWord] = []
    spans: list[Span] = []
    taken = 0
    for piece in pieces:
        used = probabilities[taken : taken + len(piece["tokens"])]
        taken += len(piece["tokens"])
        if text := piece["word"].strip():
            attached = not piece["word"].startswith(" ") and (unspaced or bool(words))
            logprobs = tuple(math.log(max(probability, _LEAST_PROBABILITY)) for probability in used)
            words.append(SpokenWord(text, logprobs, attached))
            spans.append(piece["span"])
    return tuple(words), tuple(spans)


def _begins(alignment: Sequence[Span], tokens: int) -> list[int]:
    """Return the sample at which each token begins, and behind them where the last one ends."""
    first: dict[int, int] = {}
    for token, state in alignment:
        first.setdefault(token, state * ALIGNMENT_FRAME)
    end = (alignment[-1][1] + 1) * ALIGNMENT_FRAME if alignment else 0
    return list(_filled(first, tokens, end))


def _filled(first: dict[int, int], tokens: int, end: int) -> Iterator[int]:
    begin = 0
    for token in range(tokens + 1):
        begin = first.get(token, end if token == tokens else begin)
        yield begin
