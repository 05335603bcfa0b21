"""Turn the network's answers, a probability for each speaker and frame, into turns. Pure.

The network has a channel for each speaker it can tell apart, in the order in which they came up. It cannot be told how
many there are: where a number was asked for, the channels that are too many are folded into the others.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.diarize.engine import Turn
from services.diarize.engines.sortformer.presets import FRAME_S

_ACTIVE = 0.5

Probabilities = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


def activity(probabilities: Probabilities, kept: Sequence[int]) -> Mask:
    """Say who is active: (frames, channels) -> the same; a channel not `kept` counts as the one it resembles most.

    That is the one that is likeliest on average where the other is active.
    """
    active: Mask = probabilities > _ACTIVE
    folded = active.copy()
    for channel in set(range(active.shape[1])) - set(kept):
        folded[:, channel] = False
        if kept and active[:, channel].any():
            likeliest = max(kept, key=lambda each: float(probabilities[active[:, channel], each].mean(dtype=float)))
            folded[:, likeliest] |= active[:, channel]
    return folded


def strongest(probabilities: Probabilities, speakers: int) -> list[int]:
    """Return the channels that are active longest, as many as asked for (0: all)."""
    lengths = (probabilities > _ACTIVE).sum(axis=0)
    order = np.argsort(-lengths, kind="stable")
    return sorted(order[: speakers or None].tolist())


def smooth(active: Mask) -> Mask:
    """Close gaps and drop blips of a single frame; the first and the last frame stay as they are."""
    smoothed = active.copy()
    alone = active[:-2] == active[2:]
    smoothed[1:-1] = np.where(alone, active[2:], active[1:-1])
    return smoothed


def turns(active: Mask, first: int, end_s: float, numbers: dict[int, int]) -> list[Turn]:
    """Read turns off frames, of which the first is frame `first` of the recording, which ends at `end_s`.

    `numbers` has the speakers' numbers by channel; who comes up for the first time is added to it.
    """
    found: list[tuple[float, int, float]] = []
    for channel, track in enumerate(active.T):
        edges = np.flatnonzero(np.diff(track.astype(np.int8), prepend=0, append=0))
        times = np.minimum((edges + first) * FRAME_S, end_s).reshape(-1, 2)
        found += [(start, channel, end) for start, end in times.tolist() if start < end]
    found.sort()
    return [Turn(start, end, numbers.setdefault(channel, len(numbers) + 1)) for start, channel, end in found]
