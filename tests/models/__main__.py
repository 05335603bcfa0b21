"""Makes the tests' Whisper model from nothing: `make test-model DIGITS_DIR=<the Free Spoken Digit Dataset>`."""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch

from tests.models import card, vocabulary, voices
from tests.models.evaluation import joined, measure
from tests.models.export import export
from tests.models.mixing import Mixer
from tests.models.network import Whisper
from tests.models.training import CURRICULUM, Batches, Said, train
from tests.models.voices import Clip, of_voices

HERE = Path(__file__).parent
_SEED = 1
_SETTINGS = 2


def main() -> None:
    """Synthesize, train, export, measure, and write the model card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "digits", help="folder to write the model to [%(default)s]")
    options = parser.parse_args()
    folder = os.environ.get("DIGITS_DIR")
    recorded = list(voices.recorded(Path(folder))) if folder else []
    known = [clip for clip in recorded if clip.voice != voices.HELD_OUT_SPEAKER]
    unknown = [clip for clip in recorded if clip.voice == voices.HELD_OUT_SPEAKER]
    synthesized = voices.synthesize(held_out=False, settings=_SETTINGS, seed=_SEED)
    held_out = voices.synthesize(held_out=True, settings=1, seed=_SEED + 1)
    print(f"{len(synthesized)} synthesized and {len(known)} recorded digits to learn from")

    chance = np.random.default_rng(_SEED)
    tokenizer = vocabulary.build(vocabulary.asset())
    said = Said(tokenizer)
    mixer = Mixer(of_voices([*synthesized, *known]), {clip.voice for clip in known}, chance)
    began = time.monotonic()
    torch.manual_seed(_SEED)
    model = Whisper(len(said.ids), said.unsaid)
    train(model, Batches(mixer, said, chance), CURRICULUM)
    minutes = (time.monotonic() - began) / 60
    options.out.mkdir(parents=True, exist_ok=True)
    export(model, said, tokenizer, options.out)
    voices.save(held_out, HERE / "voices.npz")
    sets = {f"synthesized, {language}": _of(held_out, language) for language in voices.WORDS}
    if unknown:
        sets = {"recorded, en": unknown} | sets
    figures = {}
    for name, clips in sets.items():
        figures[f"{name}, one digit"] = measure(options.out, list(joined(clips, count=100, digits=(1, 1), seed=1)))
        figures[f"{name}, 3 to 8 digits"] = measure(options.out, list(joined(clips, count=100, digits=(3, 8), seed=2)))
    card.write(options.out / "README.md", figures, recorded=len(known), synthesized=len(synthesized), minutes=minutes)
    print((options.out / "README.md").read_text())


def _of(clips: list[Clip], language: str) -> list[Clip]:
    return [clip for clip in clips if clip.language == language]


if __name__ == "__main__":
    torch.set_num_threads(os.cpu_count() or 1)
    main()
