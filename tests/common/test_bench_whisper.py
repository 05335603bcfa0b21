"""What the bench measures a GPU with, and tests load: Whisper models that nobody trained."""

from pathlib import Path

import numpy as np
import pytest

from services.asr.engine import Utterance
from services.asr.engines.whisper import Running, Whisper
from tests.models.whisper import TINY, Size, save, words_of_one_token

SMALL = Size(width=256, encoder_layers=1, decoder_layers=2, heads=4, mels=128, aligning=((1, 0), (1, 2)))


@pytest.mark.parametrize(("size", "words"), [(TINY, 60), (SMALL, 1)])
def test_an_untrained_model_says_its_text_whatever_it_hears(tmp_path: Path, size: Size, words: int) -> None:
    text = words_of_one_token(words)
    save(tmp_path / "model", text, size)
    engine = Whisper("model", tmp_path / "model", Running("cpu", "int8", workers=1, max_batch=2, beam_size=5))
    rng = np.random.default_rng(0)
    noises = [(rng.standard_normal(length) * 3000).astype(np.int16) for length in (32_000, 128_000)]
    heard = engine.decode([Utterance(noise, "en") for noise in noises])
    assert [hypothesis.text for hypothesis in heard] == [text, text]
    assert [hypothesis.temperature for hypothesis in heard] == [0.0, 0.0]
