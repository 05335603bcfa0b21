"""What becomes of one window's activity on the embedded engine, whether a recording or a live session is heard.

When windows are looked at, and what is kept of them, stands with each of the two.
"""

from collections.abc import Sequence
from functools import partial
from itertools import combinations

import numpy as np

from services.common.audio import SAMPLE_RATE
from services.diarize.clustering import Ints, cluster
from services.diarize.engines.networks import FEATURE_S, Floats, Networks
from services.diarize.voices import FRAME_S, WINDOW_S, Embeddings, Mask, Voice, at_times, voices

MIN_SAMPLES = SAMPLE_RATE // 10
"""Less audio than this holds no turn."""
_AT_ONCE_S = 0.1
"""Two voices active together for less may be one's end and the other's beginning."""


def window_voices(networks: Networks, window_s: float, active: Mask, features: Floats) -> list[Voice]:
    """Take the voices out of a window: its start, its activity, and features from its start on (2560, frames)."""
    heard = features[:, : round(WINDOW_S / FEATURE_S)]
    return voices(window_s, active, partial(_embed, networks, heard))


def group(found: Sequence[Voice], speakers: int) -> Ints:
    """Name the speaker of every voice, 0 .. k-1, over all windows; `speakers` is their number, 0 to find it out."""
    embeddings = np.stack([voice.embedding for voice in found])
    speech_s = np.array([voice.speech_s for voice in found])
    windows = np.unique([voice.window_s for voice in found], return_inverse=True)[1]
    return cluster(embeddings, speech_s, windows, _at_once(found), speakers)


def _at_once(found: Sequence[Voice]) -> Ints:
    """Return the pairs of voices of one window that speak at the same time: (m, 2)."""
    together: dict[float, list[int]] = {}
    for index, voice in enumerate(found):
        together.setdefault(voice.window_s, []).append(index)
    pairs = [
        (one, other)
        for indices in together.values()
        for one, other in combinations(indices, 2)
        if (found[one].mask() & found[other].mask()).sum() * FRAME_S >= _AT_ONCE_S
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _embed(networks: Networks, heard: Floats, masks: Mask) -> Embeddings:
    weights = at_times(masks, np.arange(heard.shape[1], dtype=np.float64) * FEATURE_S)
    return networks.embed(heard, weights.astype(np.float32))
