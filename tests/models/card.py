"""The model card: what the model is, what it learned from, how well it does, how to make it again."""

from collections.abc import Mapping
from pathlib import Path

from tests.models import network
from tests.models.evaluation import Figures
from tests.models.voices import HELD_OUT_SPEAKER, HELD_OUT_VARIANTS, WORDS

_TEXT = """\
# digits: a Whisper that knows the digits

A model for tests: Whisper's architecture, vocabulary, prompts and marks, small enough to be trained on two cores, so
that the code that runs the large models is run on a real one. It knows the ten digits in {languages}, writes them as
words, hears where nobody speaks, and tells the language. It is good for nothing else.

- Width {width}, {encoder} encoder and {decoder} decoder layers, {heads} heads, 51,865 tokens; weights in 8 bits, for
  CTranslate2. It was trained with up to 30 s of padding and with little, so it may be given short audio
  (`encode_short`). Its alignment heads were taught where words are.
- Learned from {synthesized} digits synthesized by espeak-ng ({language_count} languages; many voices, speeds and
  pitches), {recorded} recorded ones of the Free Spoken Digit Dataset (three of its speakers; Zohar Jackson and others,
  CC BY-SA 4.0), and noise. Trained in {minutes:.0f} minutes on two cores.
- Never heard in training: the dataset's `{speaker}`, and espeak-ng's variants {variants}. `voices.npz`
  beside it holds digits of two of the latter, for the tests.

## Measured

With faster-whisper's CTranslate2, 8 bits, beam 5, the language given; digits joined with gaps of 0.1 to 0.6 s. Times
are medians of absolute errors over the utterances that came back whole.

| voices never heard | utterances | words | word error rate | onset | end | language found |
|---|---|---|---|---|---|---|
{rows}

## How to make it again

    make test-model DIGITS_DIR=<folder of the dataset's recordings>

`tests/models/__main__.py` says in what order; Debian's espeak-ng is needed. The seed is fixed; results differ in the
last digits between processors.

Licence of the weights: CC BY-SA 4.0, as of the recordings. The vocabulary is that of openai-whisper (MIT).
"""


def write(path: Path, figures: Mapping[str, Figures], *, recorded: int, synthesized: int, minutes: float) -> None:
    """Write the card with what was measured."""
    rows = [
        f"| {name} | {each.utterances} | {each.words} | {each.word_error_rate:.1%} | {each.onset_ms:.0f} ms "
        f"| {each.end_ms:.0f} ms | {each.languages_right:.1%} |"
        for name, each in figures.items()
    ]
    text = _TEXT.format(
        languages=", ".join(WORDS),
        language_count=len(WORDS),
        width=network.WIDTH,
        encoder=network.ENCODER_LAYERS,
        decoder=network.DECODER_LAYERS,
        heads=network.HEADS,
        synthesized=synthesized,
        recorded=recorded,
        minutes=minutes,
        speaker=HELD_OUT_SPEAKER,
        variants=", ".join(HELD_OUT_VARIANTS),
        rows="\n".join(rows),
    )
    path.write_text(text)
