"""The network's probabilities become turns: nobody's speech is lost, and the number that was asked for holds."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numbers

from services.diarize.engine import Turn
from services.diarize.engines.sortformer.channels import activity, smooth, strongest, turns

Probabilities = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

probabilities = numbers.arrays(np.float64, st.tuples(st.integers(1, 60), st.just(4)), elements=st.floats(0, 1))
masks = numbers.arrays(np.bool_, st.tuples(st.integers(1, 60), st.just(4)))


@given(probabilities, st.integers(1, 4))
def test_somebody_is_active_wherever_somebody_was_however_few_are_kept(heard: Probabilities, speakers: int) -> None:
    active = activity(heard, strongest(heard, speakers))
    assert (active.any(axis=1) == (heard > 0.5).any(axis=1)).all()
    assert active.any(axis=0).sum() <= speakers


@given(probabilities)
def test_all_are_kept_where_no_number_was_asked_for(heard: Probabilities) -> None:
    assert (activity(heard, strongest(heard, 0)) == (heard > 0.5)).all()


@given(probabilities, st.integers(1, 4))
def test_whoever_is_kept_loses_nothing(heard: Probabilities, speakers: int) -> None:
    kept = strongest(heard, speakers)
    assert activity(heard, kept)[:, kept][(heard > 0.5)[:, kept]].all()


def test_the_weakest_channel_goes_to_the_one_it_resembles() -> None:
    heard = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [0.2, 0.4, 0.9]])
    assert activity(heard, strongest(heard, 2)).tolist()[-1] == [False, True, False]


@pytest.mark.parametrize(
    ("track", "expected"),
    [("11011", "11111"), ("00100", "00000"), ("110011", "110011"), ("001100", "001100"), ("1", "1"), ("10", "10")],
)
def test_a_gap_or_blip_of_one_frame_is_none(track: str, expected: str) -> None:
    frames = np.array([[each == "1"] for each in track])
    assert "".join("1" if each else "0" for each in smooth(frames)[:, 0]) == expected


@given(masks)
def test_longer_stretches_stay_as_they_are(active: Mask) -> None:
    steady = np.repeat(active, 2, axis=0)
    assert (smooth(steady) == steady).all()


@given(masks, st.integers(0, 1_000))
def test_turns_say_what_the_frames_do(active: Mask, first: int) -> None:
    end_s = (first + len(active)) * 0.08
    found = turns(active, first, end_s, {})
    frames = {(frame, turn.speaker) for turn in found for frame in _frames(turn)}
    assert len(frames) == active.sum()
    assert [turn.start_s for turn in found] == sorted(turn.start_s for turn in found)
    speakers = list(dict.fromkeys(turn.speaker for turn in found))
    assert speakers == list(range(1, len(speakers) + 1))


@given(masks)
def test_a_speaker_keeps_his_number_from_one_call_to_the_next(active: Mask) -> None:
    half = len(active) // 2
    known: dict[int, int] = {}
    turns(active[:half], 0, 100.0, known)
    before = dict(known)
    turns(active[half:], half, 100.0, known)
    assert before.items() <= known.items()
    assert sorted(known.values()) == list(range(1, len(known) + 1))


def _frames(turn: Turn) -> range:
    return range(round(turn.start_s / 0.08), round(turn.end_s / 0.08))
