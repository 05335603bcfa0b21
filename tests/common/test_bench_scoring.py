from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jiwer", reason="the extra `bench` is not installed")
pytest.importorskip("pyannote.metrics", reason="the extra `bench` is not installed")

from tests.bench.data import SpokenDigit, voiced_spans
from tests.bench.figures import Figure, Target
from tests.bench.scoring import (
    DiarizationScore,
    SpeakerTurn,
    TimedWord,
    digit_names,
    digit_time_errors,
    read_stm,
    right_speakers,
    speaker_at,
    spoken_words,
    word_error_rate,
    words_by_turns,
)


def test_edits_are_summed_over_files_before_they_are_divided() -> None:
    assert word_error_rate(["one", "a b c"], ["two", "a b c"], str.lower) == 0.25


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("Five,", ["five"]),
        ("54-39.", ["five", "four", "three", "nine"]),
        ("0", ["zero"]),
        ("oh", ["zero"]),
        ("fiver", []),
        ("...", []),
    ],
)
def test_written_words_stand_for_digits(written: str, names: list[str]) -> None:
    assert digit_names(written) == names


def test_a_word_of_several_digits_is_timed_from_its_first_to_its_last() -> None:
    digits = [SpokenDigit("five", 1.0, 1.4), SpokenDigit("four", 1.6, 2.0), SpokenDigit("nine", 2.2, 2.5)]
    words = [TimedWord("54", 1.1, 1.9), TimedWord("nine.", 2.2, 2.8, estimated=True)]
    several, single = digit_time_errors(digits, words)
    assert (several.onset_s, several.end_s) == (pytest.approx(0.1), pytest.approx(-0.1))
    assert (single.onset_s, single.end_s, single.estimated) == (0.0, pytest.approx(0.3), True)


def test_words_with_a_wrong_digit_are_not_timed() -> None:
    digits = [SpokenDigit("five", 1.0, 1.4), SpokenDigit("four", 1.6, 2.0), SpokenDigit("nine", 2.2, 2.5)]
    errors = digit_time_errors(
        digits, [TimedWord("58", 1.0, 2.0), TimedWord("wine", 2.1, 2.2), TimedWord("9", 2.3, 2.5)]
    )
    assert [error.onset_s for error in errors] == [pytest.approx(0.1)]


def test_speakers_are_mapped_as_well_as_they_can_be_and_substituted_words_count() -> None:
    reference = [("a", "ann"), ("b", "ann"), ("c", "bob"), ("d", "bob")]
    hypothesis = [("a", "1"), ("x", "1"), ("c", "1"), ("d", "2")]
    assert right_speakers(reference, hypothesis) == {0: True, 1: True, 2: False, 3: True}


def test_two_speakers_found_as_one_cannot_both_be_right() -> None:
    reference = [("a", "ann"), ("b", "ann"), ("c", "bob")]
    assert right_speakers(reference, [(word, "1") for word, _ in reference]) == {0: True, 1: True, 2: False}


def test_words_that_were_not_recognized_have_no_speaker_to_be_right() -> None:
    assert right_speakers([("a", "ann"), ("b", "bob")], [("a", "1")]) == {0: True}
    assert right_speakers([("a", "ann")], []) == {}


def test_words_in_no_turn_or_in_two_speakers_turns_are_left_out() -> None:
    turns = [SpeakerTurn("ann", 0, 1), SpeakerTurn("ann", 1, 2), SpeakerTurn("bob", 1.5, 4)]
    words = [TimedWord("in two of hers", 0.8, 1.2), TimedWord("both", 1.5, 1.9), TimedWord("mostly his", 1.8, 2.8)]
    words += [TimedWord("nobody's", 5, 6), TimedWord("hardly his", 3.9, 4.2)]
    assert [(word.text, who) for word, who in words_by_turns(words, turns)] == [
        ("in two of hers", "ann"),
        ("mostly his", "bob"),
    ]


def test_words_are_compared_as_they_are_said() -> None:
    assert spoken_words("Fine: 54, ill-disposed.") == ["fine", "five", "four", "illdisposed"]


def test_the_words_of_an_stm_file_have_its_speakers(tmp_path: Path) -> None:
    stm = tmp_path / "call.stm"
    stm.write_text("call 1 Ann 0.5 1.0 Oh, hello.\ncall 1 Bob 1.2 2.0 Yes?\n")
    assert read_stm(stm) == [("zero", "Ann"), ("hello", "Ann"), ("yes", "Bob")]


def test_a_moment_outside_every_turn_belongs_to_the_nearest() -> None:
    turns = [SpeakerTurn("ann", 0, 1), SpeakerTurn("bob", 3, 4)]
    assert [speaker_at(turns, moment) for moment in (0.5, 1.5, 2.5, 9.0)] == ["ann", "ann", "bob", "bob"]


def test_diarization_error_scores_overlap_within_the_region_and_sums_before_dividing() -> None:
    score = DiarizationScore()
    both = [SpeakerTurn("ann", 0, 2), SpeakerTurn("bob", 1, 2), SpeakerTurn("bob", 8, 9)]
    score.add("one", both, [SpeakerTurn("1", 0, 2)], (0.0, 5.0))
    score.add("two", [SpeakerTurn("ann", 0, 1)], [SpeakerTurn("7", 0, 1)], (0.0, 5.0))
    assert score.per_file == {"one": pytest.approx(1 / 3), "two": 0.0}
    assert score.total == pytest.approx(1 / 4)


def test_energy_edges_find_a_tone_in_silence() -> None:
    tone = (8000 * np.sin(np.arange(16000) / 8)).astype(np.int16)
    samples = np.concatenate(
        [np.zeros(8000, np.int16), tone, np.zeros(4000, np.int16), tone, np.zeros(16000, np.int16)]
    )
    ((start, end),) = voiced_spans(samples, below_peak_db=30, bridge_s=0.5)
    assert (start, end) == (pytest.approx(0.5, abs=0.015), pytest.approx(2.75, abs=0.015))
    assert len(voiced_spans(samples, below_peak_db=30, bridge_s=0.1)) == 2


def test_a_figure_without_value_or_target_neither_passes_nor_fails() -> None:
    assert Figure("wer", 0.1, target=Target(0.1)).passed is True
    assert Figure("right", 0.94, target=Target(0.95, at_least=True)).passed is False
    assert Figure("wer", None, target=Target(0.1)).passed is None
    assert Figure("wer", 0.1).passed is None
