"""Cutting: the same chunks however the samples come, no voice lost, nothing held that is not needed."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.asr.segmenter import Chunk, Cutting, Segmenter
from services.asr.vad import FRAME, SileroModel, SileroStream
from tests.asr.conftest import Pcm

CUTTING = Cutting(max_chunk_s=4.0, max_pause_s=0.5, pad_s=0.2, min_voice_s=0.1, block_frames=4)


def by_loudness(samples: Pcm) -> npt.NDArray[np.float32]:
    peaks: Pcm = np.abs(samples.reshape(-1, FRAME)).max(axis=1)
    return (peaks > 100).astype(np.float32)


def cut(pcm: Pcm, portions: Sequence[int] = ()) -> list[Chunk]:
    segmenter = Segmenter(by_loudness, CUTTING)
    chunks: list[Chunk] = []
    start = 0
    for size in portions:
        chunks += segmenter.push(pcm[start : start + size])
        start += size
    chunks += segmenter.push(pcm[start:])
    return chunks + segmenter.finish()


def sound(stretches: Sequence[tuple[bool, int]]) -> Pcm:
    """Voice and silence by turns, in samples; every sample has a value of its own kind."""
    parts = [np.full(length, 1_000 if voice else 0) for voice, length in stretches]
    pcm = np.concatenate([*parts, np.zeros(0)])
    return (pcm + np.arange(len(pcm)) % 90).astype(np.int16)


def same(left: Sequence[Chunk], right: Sequence[Chunk]) -> bool:
    return [(c.start, c.voiced, c.samples.tobytes()) for c in left] == [
        (c.start, c.voiced, c.samples.tobytes()) for c in right
    ]


recording = st.lists(st.tuples(st.booleans(), st.integers(1, 50_000)), max_size=12).map(sound)


@given(recording, st.lists(st.integers(0, 40_000), max_size=20))
@settings(max_examples=60, deadline=None)
def test_the_chunks_do_not_depend_on_the_portions(pcm: Pcm, portions: list[int]) -> None:
    assert same(cut(pcm, portions), cut(pcm))


@given(recording)
@settings(max_examples=60, deadline=None)
def test_chunks_are_stretches_of_the_recording_that_hold_all_voice(pcm: Pcm) -> None:
    chunks = cut(pcm)
    for chunk in chunks:
        assert 0 < len(chunk.samples) <= CUTTING.max_chunk_s * 16_000
        assert (pcm[chunk.start : chunk.end] == chunk.samples).all()
        assert chunk.start <= chunk.voiced[0][0]
        assert chunk.voiced[-1][1] <= chunk.end
        assert all(begin < end for begin, end in chunk.voiced)
        assert all(before[1] < after[0] for before, after in pairwise(chunk.voiced))
    assert all(before.end <= after.start for before, after in pairwise(chunks))
    frames = np.pad(pcm, (0, -len(pcm) % FRAME))
    kept = np.zeros(len(frames), bool)
    for chunk in chunks:
        for begin, end in chunk.voiced:
            kept[begin : end + -end % FRAME] = True
    lost = (by_loudness(frames) > 0) & ~kept.reshape(-1, FRAME).all(axis=1)
    # Only clicks are dropped: never as many frames in a row as make a voice.
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], lost.astype(int), [0]]))))[::2]
    assert (runs * FRAME < CUTTING.min_voice_s * 16_000).all()


def test_a_full_chunk_is_cut_at_its_longest_late_pause() -> None:
    second = 16_000
    pcm = sound([(True, 2 * second), (False, second // 4), (True, second), (False, second // 10), (True, 3 * second)])
    first, following = cut(pcm)[:2]
    assert 2 * second <= first.end <= following.start <= int(2.25 * second) + FRAME


def test_a_pause_ends_a_chunk_as_soon_as_it_is_long_enough() -> None:
    segmenter = Segmenter(by_loudness, CUTTING)
    assert segmenter.push(sound([(True, 16_000), (False, 6_000)])) == []
    assert len(segmenter.push(sound([(False, 6_000)]))) == 1


def test_hours_of_silence_or_voice_hold_no_more_than_a_chunk() -> None:
    for stretch in (sound([(False, 160_000)]), sound([(True, 160_000)])):
        segmenter = Segmenter(by_loudness, CUTTING)
        for _ in range(60):
            segmenter.push(stretch)
        assert segmenter.samples == 60 * 160_000
        assert segmenter.samples - segmenter.settled <= (CUTTING.max_chunk_s + 0.2) * 16_000


LIVE = Cutting(max_chunk_s=4.0, max_pause_s=0.3, pad_s=0.5, min_voice_s=0.1, block_frames=2)


@given(recording)
@settings(max_examples=60, deadline=None)
def test_where_pauses_are_short_chunks_share_silence_but_no_voice(pcm: Pcm) -> None:
    segmenter = Segmenter(by_loudness, LIVE)
    chunks = segmenter.push(pcm) + segmenter.finish()
    for before, after in pairwise(chunks):
        assert before.voiced[-1][1] <= after.start <= after.voiced[0][0]
        assert after.fresh == max(after.start, before.end)
        assert after.fresh <= after.voiced[0][0]


def test_a_flush_ends_the_open_chunk_and_the_next_begins_behind_it() -> None:
    segmenter = Segmenter(by_loudness, LIVE)
    assert segmenter.push(sound([(True, 16_000)])) == []
    (flushed,) = segmenter.flush()
    assert 16_000 - FRAME < flushed.end <= 16_000
    assert segmenter.flush() == []
    (rest,) = segmenter.push(sound([(True, 8_000), (False, 8_000)]))
    assert rest.voiced[0][0] == flushed.end


def test_the_open_chunk_can_be_looked_at_while_it_grows() -> None:
    segmenter = Segmenter(by_loudness, LIVE)
    segmenter.push(sound([(False, 16_384)]))
    assert segmenter.speech is None
    segmenter.push(sound([(True, 1_024)]))
    assert segmenter.speech is None
    segmenter.push(sound([(True, 7_168)]))
    assert segmenter.speech == (16_384, 24_576)
    chunk = segmenter.peek()
    assert (chunk.start, chunk.end) == (16_384 - 16 * FRAME, 24_576)
    assert not segmenter.paused
    segmenter.push(sound([(False, 5_120)]))
    assert segmenter.paused
    assert segmenter.speech is None


@pytest.mark.parametrize("seed", range(3))
def test_real_speech_is_cut_the_same_in_any_portions(
    silero: SileroModel, load: Callable[[str], Pcm], seed: int
) -> None:
    pcm = load("two_cities.wav")
    sizes = np.random.default_rng(seed).integers(1, 30_000, 100)

    def chunks(portions: Sequence[int]) -> list[Chunk]:
        segmenter = Segmenter(SileroStream(silero), Cutting(max_chunk_s=15.0))
        parts = np.split(pcm, np.cumsum(portions)[np.cumsum(portions) < len(pcm)])
        return [chunk for part in parts for chunk in segmenter.push(part)] + segmenter.finish()

    assert same(chunks(sizes.tolist()), chunks([]))
    assert len(chunks([])) >= 3
