"""What the bench makes of the messages of a live session."""

import numpy as np
import pytest

from tests.bench.latency import score
from tests.bench.microphone import Heard, Message, Speech

SPEECH = Speech(np.zeros(0, np.int16), ((1.0, 3.0), (5.0, 6.0)))


def partial(at_s: float, text: str) -> Message:
    return Message(at_s, text, None)


def final(at_s: float, text: str, start_s: float, end_s: float) -> Message:
    return Message(at_s, text, (start_s, end_s))


def test_a_final_is_late_by_what_it_comes_after_the_endpoints_silence() -> None:
    latencies = score([SPEECH], [Heard([final(3.9, "one two", 1.0, 3.0), final(6.6, "three", 5.0, 6.0)])])
    assert latencies.final_s == pytest.approx([0.4, 0.1])


def test_of_an_utterance_with_a_pause_within_the_last_final_counts() -> None:
    messages = [final(2.6, "one", 1.0, 1.9), final(3.8, "two", 2.3, 3.0)]
    assert score([SPEECH], [Heard(messages)]).final_s == pytest.approx([0.3])


def test_the_first_partial_is_the_first_with_words_after_speech_begins() -> None:
    messages = [partial(0.5, ""), partial(1.2, ""), partial(1.7, "one"), final(3.9, "one two", 1.0, 3.0)]
    assert score([SPEECH], [Heard(messages)]).first_s == pytest.approx([0.7])


def test_an_utterance_without_a_partial_waits_for_its_final() -> None:
    assert score([SPEECH], [Heard([final(6.8, "three", 5.0, 6.0)])]).first_s == pytest.approx([1.8])


def test_an_utterance_without_words_is_counted_and_has_no_latency() -> None:
    latencies = score([SPEECH], [Heard()])
    assert (latencies.utterances, latencies.final_s) == (2, [])


def test_partials_are_apart_within_a_segment_not_across_its_final() -> None:
    messages = [partial(1.5, "one"), partial(2.1, "one two"), final(3.9, "one two", 1.0, 3.0), partial(5.5, "three")]
    assert score([SPEECH], [Heard(messages)]).between_s == pytest.approx([0.6])


def test_words_are_taken_back_when_a_later_text_lacks_them() -> None:
    messages = [partial(1.5, "won"), partial(2.1, "One, to"), final(3.9, "One too three", 1.0, 3.0)]
    latencies = score([SPEECH], [Heard(messages)])
    assert (latencies.taken_back, latencies.final_words) == (2, 3)
    assert latencies.churn == pytest.approx(2 / 3)


def test_interim_text_that_becomes_no_segment_is_taken_back() -> None:
    assert score([SPEECH], [Heard([partial(1.5, "one two"), partial(2.1, "")])]).taken_back == 2
