"""What the bench measures Whisper with: models of any size that nobody trained."""

from pathlib import Path

import numpy as np
import pytest

from services.asr.engine import Utterance
from services.asr.engines.whisper import Running, Whisper
from tests.bench.untrained import Size, build

SMALL = Size(width=256, encoder_layers=1, decoder_layers=2, heads=4, mels=128, aligning=((1, 0), (1, 2)))


@pytest.mark.parametrize("words", [1, 14, 60])
def test_an_untrained_model_says_as_many_words_as_was_asked_whatever_it_hears(tmp_path: Path, words: int) -> None:
    build(tmp_path / "model", SMALL, words)
    engine = Whisper("model", tmp_path / "model", Running("cpu", "int8", workers=1, max_batch=2, beam_size=5))
    rng = np.random.default_rng(0)
    noises = [(rng.standard_normal(length) * 3000).astype(np.int16) for length in (32_000, 128_000)]
    heard = engine.decode([Utterance(noise, "en") for noise in noises])
    assert [len(hypothesis.words) for hypothesis in heard] == [words, words]
    assert [hypothesis.temperature for hypothesis in heard] == [0.0, 0.0]
    assert heard[0].text == heard[1].text
