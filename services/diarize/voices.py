"""Take the voices out of one window's activity; who of the recording they belong to is not decided here.

The segmentation network hears changes of speaker well, but now and then takes two similar readers with a pause between
for one. So a voice is cut at its pauses, and pieces that do not sound alike are made voices of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage

FRAME_S = 0.016875
"""Step of the frames that activity is told in; the first is centred at FRAME_CENTRE_S."""
FRAME_CENTRE_S = 0.0619375 / 2
WINDOW_S = 10.0
WINDOW_FRAMES = 589
WINDOW_VOICES = 3

_MIN_VOICE_S = 0.1
_MIN_CLEAN_S = 0.5
_PAUSE_S = 0.1
"""Pause at which a voice may be cut: people answer sooner than after 0.2 s."""
_MIN_PIECE_S = 1.0
_ALIKE = 0.6
"""Cosine distance within which two pieces are one voice: same speaker 0.2-0.55, others 0.6-1."""

Mask = npt.NDArray[np.bool_]
Embeddings = npt.NDArray[np.float32]
Embed = Callable[[Mask], Embeddings]


@dataclass(frozen=True, slots=True)
class Voice:
    """One voice of one window, kept small: `active` is its WINDOW_FRAMES frames as bits."""

    window_s: float
    active: bytes
    speech_s: float
    embedding: npt.NDArray[np.float32]

    def mask(self) -> Mask:
        """Return the frames in which it is active."""
        return np.unpackbits(np.frombuffer(self.active, np.uint8), count=WINDOW_FRAMES).astype(bool)


def voices(window_s: float, active: Mask, embed: Embed) -> list[Voice]:
    """Take the voices out of a window: its start, (WINDOW_FRAMES, WINDOW_VOICES) -> voices with their embeddings.

    `embed` gives the embedding of each row of frames: (n, WINDOW_FRAMES) -> (n, 256).
    """
    alone = active.sum(axis=1) == 1
    masks = [part for track in active.T for part in _parts(track, alone, embed)]
    if not masks:
        return []
    # Frames that two share are left out of the embedding where enough others remain.
    heard = [mask & alone if (mask & alone).sum() * FRAME_S >= _MIN_CLEAN_S else mask for mask in masks]
    embeddings = embed(np.array(heard))
    return [
        Voice(window_s, np.packbits(mask).tobytes(), float(clean.sum() * FRAME_S), embedding)
        for mask, clean, embedding in zip(masks, heard, embeddings, strict=True)
    ]


def at_times(active: Mask, times_s: npt.NDArray[np.float64]) -> Mask:
    """Look activity up: (..., WINDOW_FRAMES) and seconds from the window's start -> (..., times); False outside."""
    nearest = np.rint((times_s - FRAME_CENTRE_S) / FRAME_S).astype(int).clip(0, WINDOW_FRAMES - 1)
    found: Mask = active[..., nearest] & (times_s >= 0) & (times_s < WINDOW_S)
    return found


def _parts(track: Mask, alone: Mask, embed: Embed) -> list[Mask]:
    """Cut a track where what is said after a pause does not sound like what was said before."""
    if track.sum() * FRAME_S < _MIN_VOICE_S:
        return []
    pieces = _pieces(track)
    long = [i for i, piece in enumerate(pieces) if (piece & alone).sum() * FRAME_S >= _MIN_PIECE_S]
    if len(long) < 2:
        return [track]
    points = embed(np.array([pieces[i] & alone for i in long]))
    groups = fcluster(linkage(points, method="average", metric="cosine"), _ALIKE, "distance")
    if groups.max() == 1:
        return [track]
    parts = [np.zeros_like(track) for _ in range(groups.max())]
    spans = [np.flatnonzero(piece)[[0, -1]] for piece in pieces]
    for piece, (first, last) in zip(pieces, spans, strict=True):
        # A piece too short to tell goes with the long one nearest in time.
        gaps = [max(spans[i][0] - last, first - spans[i][1]) for i in long]
        parts[groups[int(np.argmin(gaps))] - 1] |= piece
    return parts


def _pieces(track: Mask) -> list[Mask]:
    """Split a track at its pauses."""
    frames = np.flatnonzero(track)
    pieces = []
    for group in np.split(frames, np.flatnonzero(np.diff(frames) * FRAME_S > _PAUSE_S) + 1):
        piece = np.zeros_like(track)
        piece[group] = True
        pieces.append(piece)
    return pieces
