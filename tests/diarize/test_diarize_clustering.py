"""Clustering of voices whose speakers are known."""

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from services.diarize.clustering import cluster

_NEVER = np.zeros((0, 2), np.int64)

Voices = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


@st.composite
def separated(draw: st.DrawFn) -> Voices:
    """Voices of 1 to 6 speakers at right angles to each other, 2 to 8 of each, none twice: (n, 256), (n,)."""
    counts = draw(st.lists(st.integers(2, 8), min_size=1, max_size=6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth = random.permutation(np.repeat(np.arange(len(counts)), counts))
    centres = np.eye(256)[truth] * draw(st.floats(0.01, 100))
    return (centres + random.normal(0, 0.02, centres.shape) * np.abs(centres).max()).astype(np.float32), truth


def _cluster(embeddings: Any, speakers: int = 0) -> npt.NDArray[np.int64]:
    count = len(embeddings)
    return cluster(embeddings, np.full(count, 2.0), np.arange(count), _NEVER, speakers)


def _same(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return who is together with whom: (n, n), whatever the names."""
    return labels[:, None] == labels[None]


@given(separated())
@settings(deadline=None)
def test_separated_speakers_are_found_without_being_told_their_number(voices: Voices) -> None:
    embeddings, truth = voices
    assert (_same(_cluster(embeddings)) == _same(truth)).all()


@given(separated(), st.integers(1, 12))
@settings(deadline=None)
def test_the_number_asked_for_comes_out_while_there_are_as_many_voices(voices: Voices, speakers: int) -> None:
    embeddings, truth = voices
    labels = _cluster(embeddings, speakers)
    assert sorted(set(labels)) == list(range(min(speakers, len(truth))))
    if speakers == truth.max() + 1:
        assert (_same(labels) == _same(truth)).all()


@given(separated(), st.integers(0, 6), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_voices_changes_only_names(voices: Voices, speakers: int, random: Any) -> None:
    embeddings, _ = voices
    order = list(range(len(embeddings)))
    random.shuffle(order)
    shuffled = _cluster(embeddings[order], speakers)
    assert (_same(shuffled) == _same(_cluster(embeddings, speakers))[np.ix_(order, order)]).all()


def test_two_voices_of_one_window_are_never_one_speaker() -> None:
    ends = np.eye(256, dtype=np.float32)[[0, 0, 1, 1]]
    alike = np.eye(256, dtype=np.float32)[[0]] * 0.9 + np.eye(256, dtype=np.float32)[[1]] * 0.1
    labels = cluster(np.vstack([ends, alike]), np.array([2.0, 2, 2, 2, 0.5]), np.array([0, 1, 2, 3, 0]), _NEVER, 0)
    assert labels[4] == labels[2] != labels[0]


def test_no_voices_have_no_speakers() -> None:
    assert len(_cluster(np.zeros((0, 256), np.float32), 3)) == 0


def test_voices_too_short_to_tell_still_get_a_speaker() -> None:
    labels = cluster(np.eye(256, dtype=np.float32)[[0, 0, 1]], np.full(3, 0.2), np.arange(3), _NEVER, 0)
    assert labels[0] == labels[1] != labels[2]


def test_ten_hours_of_voices_are_clustered_as_a_whole() -> None:
    random = np.random.default_rng(7)
    truth = random.integers(0, 5, 20_000)
    embeddings = (np.eye(256)[truth] + random.normal(0, 0.04, (20_000, 256))).astype(np.float32)
    assert (np.unique(np.stack([truth, _cluster(embeddings)]), axis=1).shape[1]) == 5
    assert (np.unique(np.stack([truth, _cluster(embeddings, 5)]), axis=1).shape[1]) == 5


def test_so_many_voices_that_each_has_a_tiny_share_are_told_apart() -> None:
    voices = np.random.default_rng(3).normal(size=(300, 256)).astype(np.float32)
    assert len(set(_cluster(voices).tolist())) > 200


def _beside_a_speaker(distance: float, speech_s: float, at_once: Any = _NEVER) -> int:
    """Return how many speakers are found in five voices of one and a last one at a cosine distance from them."""
    embeddings = np.zeros((6, 256), np.float32)
    embeddings[:, 0] = 1
    embeddings[5, :2] = 1 - distance, np.sqrt(1 - (1 - distance) ** 2)
    windows = np.array([0, 1, 2, 3, 4, 4]) if len(at_once) else np.arange(6)
    labels = cluster(embeddings, np.array([4.0] * 5 + [speech_s]), windows, at_once, 0)
    return len(set(labels.tolist()))


@given(st.floats(0, 0.68), st.floats(1.0, 1.99))
def test_a_moment_that_sounds_a_little_unlike_a_speaker_is_not_another(distance: float, speech_s: float) -> None:
    assert _beside_a_speaker(distance, speech_s) == 1


@given(st.floats(0.6, 1), st.floats(2.0, 9))
def test_somebody_who_is_heard_for_longer_is_another_at_that_distance(distance: float, speech_s: float) -> None:
    assert _beside_a_speaker(distance, speech_s) == 2


@given(st.floats(0.72, 1), st.floats(1.0, 1.99))
def test_a_moment_that_sounds_like_nobody_else_is_another_speaker(distance: float, speech_s: float) -> None:
    assert _beside_a_speaker(distance, speech_s) == 2


@given(st.floats(0.6, 1), st.floats(1.0, 1.99))
def test_a_moment_heard_while_a_speaker_goes_on_is_another(distance: float, speech_s: float) -> None:
    assert _beside_a_speaker(distance, speech_s, np.array([[4, 5]])) == 2


def test_moments_alone_are_grouped_by_the_ordinary_distance() -> None:
    labels = cluster(np.eye(256, dtype=np.float32)[[0, 0, 1, 1]], np.full(4, 1.2), np.arange(4), _NEVER, 0)
    assert labels.tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
