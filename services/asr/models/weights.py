"""What a file of CTranslate2 weights says of itself, read in milliseconds without loading it.

It holds: its format; the architecture's name and revision; of each variable the name, dimensions, type and content; and
more names for some of them. Numbers are little-endian, strings have their length before them.
Source: `ctranslate2.specs.model_spec.ModelSpec.save`.
"""

import math
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MIB = 1024 * 1024
_ARCHITECTURE = b"WhisperSpec"
_FIRST_LAYER = b"encoder/conv1/weight"
_EMBEDDINGS = b"decoder/embeddings/weight"
_DECODER_LAYER = re.compile(rb"decoder/layer_(\d+)/")
_MULTILINGUAL_TOKENS = 51_865
_STATES = 1500
# The format of every Whisper model so far, and the numbers that may be those of later ones.
_FORMAT = 6
_LATER_FORMATS = range(_FORMAT + 1, 100)
# Bytes of a weight in memory; in all other types they are 8 bits.
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int16": 2}


@dataclass(frozen=True, slots=True)
class Weights:
    """How many `numbers` they are, and of the model: the bands of sound it hears, its tokens, and its decoder's size.

    0 stands for what cannot be told.
    """

    numbers: int
    mels: int = 0
    vocabulary: int = 0
    decoder_layers: int = 0
    width: int = 0

    @property
    def is_multilingual(self) -> bool:
        """Whether it has marks for languages, by the number of its tokens, as CTranslate2 tells it."""
        return self.vocabulary >= _MULTILINGUAL_TOKENS or not self.vocabulary

    def loaded_mib(self, compute_type: str, utterances: int) -> float:
        """Return about how much memory they take, and what as many utterances at once add while they are decoded.

        That is the keys and values of all encoder states in all decoder layers, which is most of it. `compute_type` is
        one of CTranslate2's, neither auto nor default.
        """
        values = 2 * self.decoder_layers * _STATES * self.width * utterances
        value_bytes = 2 if compute_type.endswith("float16") else 4
        return (self.numbers * _BYTES.get(compute_type, 1) + values * value_bytes) / _MIB


def read(path: Path) -> Weights:
    """Read what a file says of itself, and check that all of it is there.

    Raises OSError where it cannot be read, and ValueError, a sentence, where it is not a whole Whisper model.
    """
    with path.open("rb") as file:
        return parse(file, path.name)


def parse(file: BinaryIO, name: str) -> Weights:
    """Read what a file says of itself, called `name` in errors; see `read`."""
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not size_bytes:
        raise ValueError(f"{name} is empty.")
    try:
        (number,) = _unpack(file, "I")
        if number not in (_FORMAT, *_LATER_FORMATS) or _string(file) != _ARCHITECTURE:
            raise ValueError(f"{name} is not a Whisper model of CTranslate2.")
        if number in _LATER_FORMATS:  # whether it can be read is for CTranslate2 to say
            return Weights(size_bytes // 2)
        weights = _variables(file)
    except struct.error:
        raise ValueError(f"{name} is cut off.") from None
    if file.tell() != size_bytes:
        raise ValueError(f"{name} goes on after its end.")
    return weights


def _variables(file: BinaryIO) -> Weights:
    """Go from one variable to the next, to the end of what the file says it holds."""
    numbers = mels = vocabulary = layers = width = 0
    _revision, count = _unpack(file, "II")
    for _ in range(count):
        name = _string(file)
        (rank,) = _unpack(file, "B")
        dimensions = _unpack(file, f"{rank}I")
        _kind, content_bytes = _unpack(file, "BI")
        file.seek(content_bytes, os.SEEK_CUR)
        numbers += math.prod(dimensions)
        if name == _FIRST_LAYER and rank == 3:
            mels = dimensions[1]
        elif name == _EMBEDDINGS and rank == 2:
            vocabulary, width = dimensions
        elif layer := _DECODER_LAYER.match(name):
            layers = max(layers, int(layer[1]) + 1)
    (count,) = _unpack(file, "I")
    for _ in range(2 * count):
        _string(file)
    return Weights(numbers, mels, vocabulary, layers, width)


def _string(file: BinaryIO) -> bytes:
    (length,) = _unpack(file, "H")
    (text,) = struct.unpack(f"{length}s", file.read(length))
    return bytes(text).rstrip(b"\0")


def _unpack(file: BinaryIO, form: str) -> tuple[int, ...]:
    """Read little-endian numbers; struct.error where the file ends before them."""
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))
