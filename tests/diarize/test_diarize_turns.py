"""From the activity of windows to turns, and the voices that are taken out of one window."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.diarize.turns import recording_frames, turns
from services.diarize.voices import FRAME_S, WINDOW_FRAMES, WINDOW_VOICES, Voice, voices

Mask = npt.NDArray[np.bool_]


def _voice(window_s: float, spans: list[tuple[int, int]]) -> Voice:
    mask = np.zeros(WINDOW_FRAMES, bool)
    for start, end in spans:
        mask[start:end] = True
    return Voice(window_s, np.packbits(mask).tobytes(), 1.0, np.zeros(256, np.float32))


_spans = st.lists(st.tuples(st.integers(0, WINDOW_FRAMES), st.integers(0, WINDOW_FRAMES)), max_size=4)


@given(
    st.lists(st.tuples(st.integers(0, 12), _spans, st.integers(0, 4)), max_size=20),
    st.floats(0.1, 40),
)
@settings(deadline=None)
def test_turns_are_sorted_not_empty_inside_and_numbered_by_appearance(
    heard: list[tuple[int, list[tuple[int, int]], int]], duration_s: float
) -> None:
    starts_s = [2.5 * step for step in range(13)]
    found = [_voice(starts_s[window], spans) for window, spans, _ in heard]
    speakers = np.array([speaker for _, _, speaker in heard], np.int64)
    result = turns(recording_frames(starts_s, found, speakers), duration_s)
    assert [turn.start_s for turn in result] == sorted(turn.start_s for turn in result)
    assert all(0 <= turn.start_s < turn.end_s <= duration_s for turn in result)
    numbers = list(dict.fromkeys(turn.speaker for turn in result))
    assert numbers == list(range(1, len(numbers) + 1))
    for speaker in numbers:
        own = [turn for turn in result if turn.speaker == speaker]
        assert all(before.end_s < after.start_s for before, after in pairwise(own))


def test_what_most_windows_say_holds() -> None:
    # Three windows see one frame range; one of them alone hears a second voice there.
    span = [(200, 300)]
    found = [_voice(0.0, span), _voice(0.0, span), _voice(0.0, span), _voice(0.0, [(400, 450)])]
    frames = recording_frames([0.0, 0.0, 0.0], found, np.array([0, 0, 0, 1]))
    assert frames[200:300, 0].all()
    assert not frames[:, 1].any()


def test_a_breath_does_not_end_a_turn_but_a_pause_does() -> None:
    frames = np.zeros((1000, 1), bool)
    frames[100:200] = frames[203:300] = frames[340:400] = True
    assert [round((turn.end_s - turn.start_s) / FRAME_S) for turn in turns(frames, 100.0)] == [200, 60]


def test_a_blip_is_no_turn() -> None:
    frames = np.zeros((1000, 1), bool)
    frames[100:104] = True
    assert turns(frames, 100.0) == []


def _two_sentences() -> Mask:
    active = np.zeros((WINDOW_FRAMES, WINDOW_VOICES), bool)
    active[20:200, 1] = active[240:500, 1] = True
    return active


@pytest.mark.parametrize(("cosine", "count"), [(0.8, 1), (0.1, 2)])
def test_a_voice_is_cut_at_a_pause_where_it_sounds_like_another(cosine: float, count: int) -> None:
    def embed(masks: Mask) -> npt.NDArray[np.float32]:
        late = masks[:, 220:].any(axis=1) & ~masks[:, :220].any(axis=1)
        return np.where(late[:, None], [cosine, (1 - cosine**2) ** 0.5], [1.0, 0.0]).astype(np.float32)

    found = voices(30.0, _two_sentences(), embed)
    assert len(found) == count
    assert (np.sum([voice.mask() for voice in found], axis=0) == _two_sentences()[:, 1]).all()


def test_frames_that_two_share_are_left_out_of_what_a_voice_sounds_like() -> None:
    active = np.zeros((WINDOW_FRAMES, WINDOW_VOICES), bool)
    active[0:300, 0] = active[200:500, 2] = True
    asked: list[Mask] = []

    def embed(masks: Mask) -> npt.NDArray[np.float32]:
        asked.append(masks)
        return np.ones((len(masks), 256), np.float32)

    first, second = voices(0.0, active, embed)
    assert (asked[-1].sum(axis=1) == [200, 200]).all()
    assert (first.mask().sum(), second.mask().sum()) == (300, 300)
