"""Longer talk with many short turns, joined of the labelled readings: who holds the floor, others say a word between.

The readings are cut at their pauses, mid-sentence as well, by seconds and words noted here; the spoken digits are words
already. So who says what and in which order is known from the joining, and no times of words are needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from services.common.audio import SAMPLE_RATE
from tests.bench.data import BenchData, Dialogue, Joiner, Labelled, Samples, at_rms, decode, joined_turn

# Where a reading is cut: the second, and how many words of its text are said by then.
_CUTS: Mapping[str, Sequence[tuple[float, int]]] = {
    "LJ001-0001": ((4.19, 12),),
    "LJ001-0003": ((3.58, 9), (8.0, 20)),
    "LJ001-0005": ((4.13, 13), (5.88, 17)),
    "LJ001-0010": ((0.61, 1), (4.76, 9)),
    "LJ001-0030": ((3.49, 10),),
    "LJ001-0031": ((1.83, 4), (5.87, 12)),
    "beckett": ((1.65, 2), (3.35, 4), (4.8, 6), (6.2, 8), (7.8, 10)),
    "sonnet_p001": (
        *(
            (1.3, 1),
            (2.45, 1),
            (11.77, 22),
            (14.78, 29),
            (18.67, 37),
            (22.51, 44),
            (25.43, 50),
            (27.46, 54),
            (29.21, 58),
        ),
        *((30.79, 60), (34.12, 68), (36.83, 75), (40.38, 82), (44.06, 89), (45.83, 92), (48.24, 97), (50.24, 102)),
    ),
    "sonnet_p002": (
        *((1.5, 1), (2.5, 1), (5.98, 8), (13.23, 24), (16.53, 33), (19.73, 41), (22.54, 49), (29.94, 64), (33.89, 72)),
        *((39.76, 85), (41.93, 90), (45.58, 96), (49.0, 106)),
    ),
    "two_cities": (
        *((4.78, 12), (6.42, 18), (8.51, 24), (10.54, 30), (13.12, 36), (14.98, 42), (17.13, 48), (20.82, 60)),
        *((24.33, 70), (26.29, 77), (29.75, 86), (36.75, 106), (38.52, 111)),
    ),
}
_LJ = "LJ"
_SONNETS = "sonnets"
_CITIES = "cities"
_READINGS = {
    _LJ: (*(f"LJ001-{number:04}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 30, 31, 32)), "LJ002-0020"),
    _SONNETS: ("sonnet_p001", "sonnet_p002"),
    _CITIES: ("two_cities", "beckett"),
}
# Who takes part; whoever is none of the readers speaks digits.
_CONVERSATIONS = {
    "two and back-channels": (_LJ, _SONNETS),
    "three and back-channels": (_CITIES, _SONNETS, _LJ),
    "five and back-channels": (_CITIES, "speaker1", "speaker2", _LJ, "speaker4"),
}
_BACK_CHANNEL_WORDS = 3
_ASIDES = 0.6
_DIGITS_IN_A_TURN = 8


@dataclass(frozen=True)
class _Piece:
    """What somebody says in one go."""

    speaker: str
    words: Sequence[str]
    samples: Samples


def conversations(data: BenchData) -> list[Dialogue]:
    """Join the conversations, some 3 minutes each; back-channels are the turns of at most three words.

    The floor is held for two to five pieces. Between them, mostly, somebody else says one to three words. There
    is 0.05 to 0.35 s of silence around those, and 0.1 to 0.6 s between holders.
    """
    rng = np.random.default_rng(3)
    joined = []
    for name, speakers in _CONVERSATIONS.items():
        pieces = {speaker: _pieces(data, speaker, rng) for speaker in speakers}
        floor = {speaker: [p for p in own if not _short(p)] for speaker, own in pieces.items()}
        asides = {speaker: [p for p in own if _short(p)] for speaker, own in pieces.items()}
        order: list[tuple[float, _Piece]] = []
        while any(floor.values()):
            for holder in speakers:
                taken = [floor[holder].pop(0) for _ in range(min(int(rng.integers(2, 6)), len(floor[holder])))]
                for number, piece in enumerate(taken):
                    if number and rng.random() < _ASIDES:
                        others = [speaker for speaker in speakers if speaker != holder]
                        said = asides[others[int(rng.integers(len(others)))]]
                        order.append((rng.uniform(0.05, 0.35), said[int(rng.integers(len(said)))]))
                    order.append((rng.uniform(0.05, 0.35) if number else rng.uniform(0.1, 0.6), piece))
        joined.append(_joined(name, order))
    return joined


def _short(piece: _Piece) -> bool:
    return len(piece.words) <= _BACK_CHANNEL_WORDS


def _pieces(data: BenchData, speaker: str, rng: np.random.Generator) -> list[_Piece]:
    """Return all that somebody has to say, at one loudness; digits several at a time, and one by one."""
    if speaker in _READINGS:
        return [
            piece for beginning in _READINGS[speaker] for piece in _cut(speaker, data.reading(beginning), beginning)
        ]
    digits = [_Piece(speaker, (name,), at_rms(clip)) for name, clip in data.spoken_digits(speaker, 40, rng)]
    turns = []
    for start in range(0, 3 * _DIGITS_IN_A_TURN, _DIGITS_IN_A_TURN):
        joiner = Joiner()
        for digit in digits[start : start + _DIGITS_IN_A_TURN]:
            joiner.add(digit.samples)
            joiner.pause(rng.uniform(0.05, 0.2))
        words = [word for digit in digits[start : start + _DIGITS_IN_A_TURN] for word in digit.words]
        turns.append(_Piece(speaker, words, joiner.joined()))
    return turns + digits[3 * _DIGITS_IN_A_TURN :]


def _cut(speaker: str, reading: Labelled, beginning: str) -> list[_Piece]:
    words, samples = reading.text.split(), decode(reading.path)
    edges = [(0.0, 0), *_CUTS.get(beginning, ()), (len(samples) / SAMPLE_RATE, len(words))]
    return [
        _Piece(speaker, words[first:end], at_rms(samples[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]))
        for (start_s, first), (end_s, end) in pairwise(edges)
        if end > first
    ]


def _joined(name: str, order: Sequence[tuple[float, _Piece]]) -> Dialogue:
    joiner = Joiner()
    turns = []
    for pause_s, piece in order:
        joiner.pause(pause_s)
        turns.append(joined_turn(joiner, piece.samples, piece.speaker, " ".join(piece.words), _short(piece)))
    return Dialogue(name, joiner.joined(), tuple(turns))
