"""What the bench measures Whisper with: models of any size that nobody trained, and spoken digits."""

from pathlib import Path

import numpy as np
import pytest

from services.asr.engine import Utterance
from services.asr.engines.whisper import Running, Whisper
from tests.bench import digits
from tests.bench.untrained import Size, build

SMALL = Size(width=256, encoder_layers=1, decoder_layers=2, heads=4, mels=128, aligning=((1, 0), (1, 2)))


@pytest.mark.parametrize("words", [1, 14, 120])
def test_an_untrained_model_says_as_many_words_as_was_asked_whatever_it_hears(tmp_path: Path, words: int) -> None:
    build(tmp_path / "model", SMALL, words)
    engine = Whisper("model", tmp_path / "model", Running("cpu", "int8", workers=1, max_batch=2, beam_size=5))
    rng = np.random.default_rng(0)
    noises = [(rng.standard_normal(length) * 3000).astype(np.int16) for length in (32_000, 128_000)]
    heard = engine.decode([Utterance(noise, "en") for noise in noises])
    assert [len(hypothesis.words) for hypothesis in heard] == [words, words]
    assert [hypothesis.temperature for hypothesis in heard] == [0.0, 0.0]
    assert heard[0].text == heard[1].text


def test_recordings_of_digits_are_as_long_as_asked_and_spoken_where_they_say() -> None:
    for recording, at_least in zip(digits.recordings(3, (5.0, 15.0)), (5.0, 10.0, 15.0), strict=True):
        assert at_least <= recording.seconds < at_least + 10
        voiced = np.zeros(len(recording.samples), bool)
        for begin, end in recording.spans:
            voiced[round(begin * 16_000) : round(end * 16_000)] = True
        assert np.abs(recording.samples[~voiced]).max() < 1000 < np.abs(recording.samples[voiced]).max()


def test_each_live_session_says_something_else_and_is_silent_at_last() -> None:
    one, other = digits.speeches(2, 5.0)
    assert one.spans != other.spans
    assert not one.samples[-16_000:].any()
