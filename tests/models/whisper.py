"""Whisper models that nobody trained, of any size: as fast as trained ones, saying the same whatever they hear.

Speed depends on how many weights there are, not on what they are; but what a model says decides how often it is run.
So of these the position alone decides: a text of one token a word, all but certain, and then its end. No second
temperature is ever tried, and nothing else is spared: beams, batches and word times are computed as for any other
model. The tokens are Whisper base's.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ctranslate2.specs import LayerSpec, WhisperSpec

from services.asr.models import wheels

_HEARD, _SAID, _PROMPT = 1500, 448, 4
_SPREAD, _PULL, _SURENESS = 0.002, 10.0, 3.0

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Size:
    """How large a model is; `aligning` are the heads (layer, head) that word times are read from."""

    width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    mels: int
    aligning: Sequence[tuple[int, int]]


TINY = Size(64, 1, 1, 2, 80, ((0, 0),))
LARGE_V3_TURBO = Size(1280, 32, 4, 20, 128, ((2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)))


def save(folder: Path, text: str, size: Size = TINY) -> Path:
    """Write a model to `folder` that hears `text` in everything, as CTranslate2 does, and return the folder.

    Raises ValueError for a text with a word that is not one token, as those of `words_of_one_token` are.
    """
    files = wheels.read()
    vocabulary = files["vocabulary.txt"].decode().splitlines()
    rng = np.random.default_rng(8)
    width = size.width
    tokens = _SURENESS * _random(rng, len(vocabulary), width) / math.sqrt(width)
    said = [vocabulary.index(f"Ġ{word}") for word in text.split()]
    end = vocabulary.index("<|endoftext|>")
    # What follows each position; the last of the prompt's four is followed by the first word.
    sequence = [*[end] * (_PROMPT - 1), *said, *[end] * (_SAID - _PROMPT + 1 - len(said))]
    known = {
        "encoder/conv1/weight": _SPREAD * _random(rng, width, size.mels, 3),
        "encoder/conv2/weight": _SPREAD * _random(rng, width, width, 3),
        "encoder/position_encodings/encodings": _SPREAD * _random(rng, _HEARD, width),
        # So much stronger than all else that is added up that the scores are its alone.
        "decoder/position_encodings/encodings": _PULL * tokens[sequence],
        "decoder/embeddings/weight": tokens,
        "decoder/projection/weight": tokens,
    }

    def fill(layer: LayerSpec, name: str, _: object) -> None:
        *_, part, kind = name.split("/")
        if kind in ("gamma", "beta"):
            setattr(layer, kind, np.full(width, kind == "gamma", np.float16))
        elif name in known:
            setattr(layer, kind, known[name].astype(np.float16))
        elif kind == "weight":
            rows, columns = _shape(name, part, width)
            layer.weight = (_SPREAD * _random(rng, rows, columns)).astype(np.float16)
        if kind == "weight" and hasattr(layer, "bias"):
            layer.bias = np.zeros(layer.weight.shape[0], np.float16)

    spec = WhisperSpec(size.encoder_layers, size.heads, size.decoder_layers, size.heads)
    spec._visit(fill)
    spec.register_vocabulary(vocabulary)
    spec.validate()
    spec.optimize()
    folder.mkdir(parents=True)
    spec.save(str(folder))
    config = json.loads(files["config.json"]) | {"alignment_heads": size.aligning}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": size.mels}))
    (folder / "tokenizer.json").write_bytes(files["tokenizer.json"])
    return folder


def words_of_one_token(count: int) -> str:
    """Return a text for `save`: so many words, no two alike."""
    vocabulary = wheels.read()["vocabulary.txt"].decode().splitlines()
    plain = [token[1:] for token in vocabulary if token.startswith("Ġ") and token[1:].isalpha() and token[1:].isascii()]
    return " ".join(plain[:count])


def _shape(name: str, part: str, width: int) -> tuple[int, int]:
    """Return the shape of a linear layer's weights: those of several that take the same input are one."""
    match name.split("/")[-3], part:
        case "self_attention", "linear_0":
            return 3 * width, width
        case "attention", "linear_1":
            return 2 * width, width
        case "ffn", "linear_0":
            return 4 * width, width
        case "ffn", "linear_1":
            return width, 4 * width
    return width, width


def _random(rng: np.random.Generator, *shape: int) -> Weights:
    return rng.standard_normal(shape, np.float32)
