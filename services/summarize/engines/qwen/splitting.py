"""Cuts a transcript into parts of so many tokens, at the turns of its speakers wherever that can be done."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from services.summarize.transcript import Turn

Encode = Callable[[Sequence[str]], list[list[int]]]
"""Gives the tokens of each text, of which a token is at least one byte of UTF-8 once it is normalized."""

_SENTENCES = re.compile(r"(?<=[.!?…؟।॥։])(?=\s)|(?<=[。！？])")
_WORDS = re.compile(r"(?=\s\S)")
# Of one character: four, and what is normalized (NFC) can become three times as long.
_MAX_BYTES = 12
# Tokenized at once: between two slices it is seen whether anybody still waits, and others get the interpreter.
_SLICE_TEXTS = 1_000
_LONG_CHARS = 20_000


def split(turns: Sequence[Turn], encode: Encode, limit: int) -> list[list[int]]:
    """Return the tokens of as few parts as hold all turns in their order, none longer than `limit`.

    A turn is one line. One that is too long for a part is cut between sentences, else between words, else within one;
    each piece is a turn of the same speaker. `limit` has to leave room for a label and a few characters.
    """
    lines = _encoded([line(turn) for turn in turns], encode)
    pieces = (
        piece
        for turn, tokens in zip(turns, lines, strict=True)
        for piece in (_cut_turn(turn, encode, limit) if tokens is None or len(tokens) > limit else [tokens])
    )
    return _packed(pieces, limit)


def line(turn: Turn) -> str:
    """Return a turn as the model reads it."""
    return f"{turn.speaker}: {turn.text}\n" if turn.speaker else f"{turn.text}\n"


def _encoded(texts: Sequence[str], encode: Encode) -> Iterator[list[int] | None]:
    """Yield the tokens of each text, None for one that is too long to be tokenized at once."""
    for start in range(0, len(texts), _SLICE_TEXTS):
        slice_ = texts[start : start + _SLICE_TEXTS]
        tokens = iter(encode([text for text in slice_ if len(text) <= _LONG_CHARS]))
        yield from (next(tokens) if len(text) <= _LONG_CHARS else None for text in slice_)


def _cut_turn(turn: Turn, encode: Encode, limit: int) -> Iterator[list[int]]:
    label, end = encode([f"{turn.speaker}:" if turn.speaker else "", "\n"])
    room = limit - len(label) - len(end)
    text = f" {turn.text}" if turn.speaker else turn.text
    for piece in _packed(_cut(text, (_SENTENCES, _WORDS), encode, room), room):
        yield [*label, *piece, *end]


def _cut(text: str, seams: Sequence[re.Pattern[str]], encode: Encode, room: int) -> Iterator[list[int]]:
    """Yield the tokens of pieces of at most `room` that are cut where the first of `seams` is, or else the others."""
    if seams:
        pieces = [piece for piece in seams[0].split(text) if piece]
    else:
        step = room // _MAX_BYTES
        pieces = [text[at : at + step] for at in range(0, len(text), step)]
    for piece, tokens in zip(pieces, _encoded(pieces, encode), strict=True):
        if tokens is None or len(tokens) > room:
            yield from _cut(piece, seams[1:], encode, room)
        else:
            yield tokens


def _packed(pieces: Iterable[list[int]], limit: int) -> list[list[int]]:
    packed: list[list[int]] = []
    for piece in pieces:
        if packed and len(packed[-1]) + len(piece) <= limit:
            packed[-1] += piece
        else:
            packed.append(list(piece))
    return packed
