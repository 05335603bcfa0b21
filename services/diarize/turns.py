"""Turn what windows say about their frames into the turns of a recording; who is who is decided before."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.diarize.engine import Turn
from services.diarize.voices import FRAME_CENTRE_S, FRAME_S, WINDOW_FRAMES, Voice

# A window knows less of what happens near its edges, so what it says there counts less.
_WEIGHTS = np.interp(np.arange(WINDOW_FRAMES), [0, 100, WINDOW_FRAMES - 101, WINDOW_FRAMES - 1], [3, 10, 10, 3])
_JOIN_S = 0.1
_MIN_TURN_S = 0.1

Mask = npt.NDArray[np.bool_]


def recording_frames(windows_s: Sequence[float], voices: Sequence[Voice], speakers: npt.NDArray[np.int64]) -> Mask:
    """Put overlapping windows together: their starts, their voices, each voice's speaker -> (frames, speakers).

    As many are active in a frame as the windows say on average, and it is those whom most windows name.
    """
    if not voices:
        return np.zeros((0, 0), bool)
    length = round(max(windows_s) / FRAME_S) + WINDOW_FRAMES
    weights = _WEIGHTS.astype(np.uint16)
    seen, votes = np.zeros(length, np.uint16), np.zeros((length, speakers.max() + 1), np.uint16)
    for start in windows_s:
        seen[_span(start)] += weights
    for voice, speaker in zip(voices, speakers, strict=True):
        votes[_span(voice.window_s), speaker] += weights * voice.mask()
    # Two voices of a window may be one speaker's, who then is there once.
    np.minimum(votes, seen[:, None], out=votes)
    active = (votes.sum(axis=1, dtype=np.uint32) + seen // 2) // np.maximum(seen, 1)
    order = np.argsort(-votes.astype(np.int32), axis=1, kind="stable")
    frames = np.zeros(votes.shape, bool)
    for rank in range(min(active.max(), votes.shape[1])):
        rows = np.flatnonzero(active > rank)
        frames[rows, order[rows, rank]] = votes[rows, order[rows, rank]] > 0
    return frames


def turns(frames: Mask, duration_s: float) -> list[Turn]:
    """Read the turns off frames (frames, speakers): gaps closed, blips dropped, in the order of their starts."""
    found: list[tuple[float, float, int]] = []
    for speaker, track in enumerate(frames.T):
        edges = np.flatnonzero(np.diff(track.astype(np.int8), prepend=0, append=0))
        times = np.clip(edges * FRAME_S + FRAME_CENTRE_S - FRAME_S / 2, 0.0, duration_s)
        spans: list[tuple[float, float]] = []
        for start, end in times.reshape(-1, 2).tolist():
            if spans and start - spans[-1][1] <= _JOIN_S:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        found += [(start, end, speaker) for start, end in spans if end - start >= _MIN_TURN_S]
    found.sort()
    numbers: dict[int, int] = {}
    return [Turn(start, end, numbers.setdefault(speaker, len(numbers) + 1)) for start, end, speaker in found]


def _span(start_s: float) -> slice:
    first = round(start_s / FRAME_S)
    return slice(first, first + WINDOW_FRAMES)
