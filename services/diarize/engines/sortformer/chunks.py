"""What is given to the network, and what it answers; both how audio is cut and how it is heard keep to it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.common.audio import SAMPLE_RATE
from services.diarize.engines.sortformer.presets import Preset

SUBSAMPLING = 8
"""Features for each frame of the answer."""
HOP_SAMPLES = SAMPLE_RATE // 100
"""Step of the features."""
REACH_SAMPLES = 256
"""How far a feature reaches to either side of its centre."""
LOOKBACK = 2
"""So many features are not exact at the start of samples that come after others."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next chunk of a stream: samples from `skip` features before its left context to its right one's end.

    `left` is 0 for a stream's first chunk, `frames` how many the chunk itself has; `state` is what the network
    remembers, None of a stream that it has not heard before.
    """

    preset: Preset
    samples: npt.NDArray[np.int16]
    skip: int
    left: int
    frames: int
    state: object | None


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to a chunk: (frames, speakers) of probabilities, and what is remembered now."""

    probabilities: npt.NDArray[np.float16]
    state: object
