"""What makes words and segments of hypotheses: estimated times, sentences, the engine's guards."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.asr.engine import Hypothesis, SpokenWord, Utterance
from services.asr.engines.moonshine import Moonshine, bundled_model_dir
from services.asr.segmenter import Chunk
from services.asr.sentences import split
from services.asr.timing import estimate, place, with_room
from services.asr.transcript import Timing
from tests.asr.conftest import Pcm


def hypothesis_of(text: str) -> Hypothesis:
    return Hypothesis(tuple(SpokenWord(word, (-0.1,)) for word in text.split()))


def sentences(text: str, *pauses_after: int) -> list[str]:
    """Split words of 0.2 s each; behind the words of these numbers is a pause of 2 s."""
    spans, position = [], 0
    for number in range(len(text.split())):
        spans.append((position, position + 3_200))
        position += 3_200 + (32_000 if number in pauses_after else 0)
    chunk = Chunk(0, np.zeros(position, np.int16), ((0, position),), 0)
    hypothesis = hypothesis_of(text)
    words = place(chunk, hypothesis, spans)
    return [segment.text for segment in split(words, hypothesis, Timing.ALIGNED, "en")]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("It is late. Go home!", ["It is late.", "Go home!"]),
        ("Mr. Smith met J. R. Hartley. He left.", ["Mr. Smith met J. R. Hartley.", "He left."]),
        ('He said "stop!" and left.', ['He said "stop!" and left.']),
        ("The U.S. Senate sat.", ["The U.S. Senate sat."]),
        ("no full stop at all", ["no full stop at all"]),
    ],
)
def test_segments_are_sentences(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


def test_a_long_pause_ends_a_segment() -> None:
    assert sentences("one two three four", 1) == ["one two", "three four"]


voiced_parts = st.lists(st.tuples(st.integers(0, 8_000), st.integers(1_600, 60_000)), min_size=1, max_size=6)


@given(voiced_parts, st.lists(st.text("abcdefgh.-", min_size=1, max_size=12), min_size=1, max_size=60))
def test_estimated_words_fill_the_voice_and_nothing_else(parts: list[tuple[int, int]], texts: list[str]) -> None:
    voiced, position = [], 0
    for gap, length in parts:
        voiced.append((position + gap, position + gap + length))
        position += gap + length
    spans = estimate(voiced, hypothesis_of(" ".join(texts)))
    assert len(spans) == len(texts)
    assert spans[0][0] == voiced[0][0]
    assert spans[-1][1] == voiced[-1][1]
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert all(any(begin <= start < end for begin, end in voiced) for start, _ in spans)
    assert all(any(begin < end_of_word <= end for begin, end in voiced) for _, end_of_word in spans)


def test_longer_words_are_estimated_to_take_longer() -> None:
    spans = estimate([(0, 16_000)], hypothesis_of("a extraordinary"))
    assert 0 < spans[0][1] < 4_000


def test_times_count_from_the_recordings_first_sample() -> None:
    chunk = Chunk(32_000, np.zeros(16_000, np.int16), ((32_000, 48_000),), 32_000)
    (word,) = place(chunk, hypothesis_of("hello"), [(1_600, 8_000)])
    assert (word.start_s, word.end_s) == (2.1, 2.5)


def test_a_hypothesis_below_the_floor_is_taken_for_noise(load: Callable[[str], Pcm]) -> None:
    utterance = Utterance(load("beckett.wav"), "en")
    strict = Moonshine(bundled_model_dir(), confidence_floor=0.99)
    assert strict.decode([utterance])[0].words == ()


def test_a_chunk_means_the_same_whichever_worker_decodes_it(engine: Moonshine, load: Callable[[str], Pcm]) -> None:
    utterances = [Utterance(load("beckett.wav")[:size], "en") for size in (80_000, 140_000)]
    together = engine.decode(utterances)
    assert together == [engine.decode([utterance])[0] for utterance in utterances]
    assert all(0 < word.confidence <= 1 for hypothesis in together for word in hypothesis.words)


def test_no_word_begins_in_silence_that_the_chunk_before_had() -> None:
    chunk = Chunk(32_000, np.zeros(16_000, np.int16), ((40_000, 48_000),), 36_000)
    words = place(chunk, hypothesis_of("early bird"), [(1_000, 6_000), (6_000, 16_000)])
    assert [(word.start_s, word.end_s) for word in words] == [(2.25, 2.375), (2.375, 3.0)]


spans = st.lists(st.tuples(st.integers(-2_000, 40_000), st.integers(-2_000, 40_000)), min_size=1, max_size=40)


@given(spans, st.integers(0, 10_000), st.integers(1, 60_000))
def test_every_word_has_room_one_after_the_other_within_the_audio(
    given_spans: list[tuple[int, int]], begin: int, length: int
) -> None:
    length = max(length, len(given_spans))
    placed = with_room(given_spans, begin, begin + length)
    assert begin <= placed[0][0]
    assert placed[-1][1] <= begin + length
    assert all(start < end for start, end in placed)
    assert all(before[1] <= after[0] for before, after in pairwise(placed))


def test_words_that_have_room_stay_where_they_are() -> None:
    assert with_room([(1_000, 2_000), (2_000, 9_000)], 0, 16_000) == [(1_000, 2_000), (2_000, 9_000)]
