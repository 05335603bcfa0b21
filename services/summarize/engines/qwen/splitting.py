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


def split(turns: Sequence[Turn], encode: Encode, limit: int) -> list[list[int]]:
    """Return the tokens of as few parts as hold all turns in their order, none longer than `limit`.

    A turn is one line. One that is too long for a part is cut between sentences, else between words, else within one;
    each piece is a turn of the same speaker. `limit` has to leave room for a label and a few characters.
    """
    lines = encode([line(turn) for turn in turns])
    pieces = (
        piece
        for turn, tokens in zip(turns, lines, strict=True)
        for piece in ([tokens] if len(tokens) <= limit else _cut_turn(turn, encode, limit))
    )
    return _packed(pieces, limit)


def line(turn: Turn) -> str:
    """Return a turn as the model reads it."""
    return f"{turn.speaker}: {turn.text}\n" if turn.speaker else f"{turn.text}\n"


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
    for piece, tokens in zip(pieces, encode(pieces), strict=True):
        if len(tokens) <= room:
            yield tokens
        else:
            yield from _cut(piece, seams[1:], encode, room)


def _packed(pieces: Iterable[list[int]], limit: int) -> list[list[int]]:
    packed: list[list[int]] = []
    for piece in pieces:
        if packed and len(packed[-1]) + len(piece) <= limit:
            packed[-1] += piece
        else:
            packed.append(list(piece))
    return packed
