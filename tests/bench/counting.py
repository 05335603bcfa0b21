"""Many short dialogues of clear readers, drawn at random, to count how often the number of speakers is found."""

from collections.abc import Mapping, Sequence

import numpy as np

from services.common.audio import SAMPLE_RATE
from tests.bench.data import BenchData, Dialogue, Joiner, Samples, at_rms, decode, joined_turn, voiced_spans

_READERS: Mapping[str, Sequence[str]] = {
    "LJ": [f"LJ001-{number:04}" for number in (1, 3, 4, 5, 6, 7, 10, 11, 30, 31, 32)],
    "sense": [f"sense_and_sensibility_01_austen_64kb-08{number}0" for number in (7, 8, 9)],
    "sonnets": ["sonnet_p001", "sonnet_p002"],
    "cities": ["two_cities", "beckett"],
    "1088": ["libri-1088"],
    "2412": ["2412-153948-0000", "2412-153948-0001"],
    "president": ["jfk"],
}
_TURN_S = (2.0, 9.0)
_PAUSE_S = 0.15
"""Pause at which a reading may be cut."""


def short_dialogues(data: BenchData, seed: int, count: int = 28) -> list[Dialogue]:
    """Join `count` dialogues of two or three readers: 6 to 12 turns of 2 to 9 s, 0.1 to 0.8 s between them."""
    rng = np.random.default_rng(seed)
    readings = {reader: [decode(data.reading(name).path) for name in names] for reader, names in _READERS.items()}
    return [_dialogue(f"{seed}-{number}", readings, rng) for number in range(count)]


def _dialogue(name: str, readings: Mapping[str, Sequence[Samples]], rng: np.random.Generator) -> Dialogue:
    drawn = rng.choice(sorted(readings), int(rng.integers(2, 4)), replace=False).tolist()
    pieces = {reader: [piece for reading in readings[reader] for piece in _pieces(reading, rng)] for reader in drawn}
    joiner = Joiner()
    turns = []
    speaker = ""
    for number in range(int(rng.integers(6, 13))):
        # All of them speak first, and nobody goes on after themselves.
        left = [reader for reader in drawn if reader != speaker and pieces[reader]]
        if not left:
            break
        speaker = drawn[number] if number < len(drawn) else left[int(rng.integers(len(left)))]
        piece = pieces[speaker].pop(int(rng.integers(len(pieces[speaker]))))
        joiner.pause(rng.uniform(0.1, 0.8))
        turns.append(joined_turn(joiner, at_rms(piece), speaker, ""))
    return Dialogue(name, joiner.joined(), tuple(turns))


def _pieces(reading: Samples, rng: np.random.Generator) -> list[Samples]:
    """Cut a reading at pauses into pieces of _TURN_S; what lies too long without a pause is left out."""
    pieces = []
    spans = voiced_spans(reading, below_peak_db=25, bridge_s=_PAUSE_S)
    while spans:
        begin_s = spans[0][0]
        fitting = [stop_s for _, stop_s in spans if _TURN_S[0] <= stop_s - begin_s <= _TURN_S[1]]
        end_s = float(rng.choice(fitting)) if fitting else spans[0][1]
        if fitting:
            pieces.append(reading[round(begin_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)])
        spans = [span for span in spans if span[0] >= end_s]
    return pieces
