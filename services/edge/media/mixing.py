"""Frames of any kind to 16 kHz mono, as NumPy arrays of int16: runs only in the sandboxed child.

Channels are mixed as their places in the room say, evenly where none are named. Where that loses the sound (channels
that cancel each other out, a voice on the bass channel), the strongest channel is taken instead, half a second at a
time.
"""

from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.filter import Graph
from av.filter.context import FilterContext

from services.common.audio import SAMPLE_BYTES, SAMPLE_RATE

Samples = npt.NDArray[np.int16]

_SAMPLE_RATES = range(2_000, 800_000)
"""Input rates that are believed: outside it one frame could be blown up to gigabytes."""
_BLOCK = SAMPLE_RATE // 2
_FADE = SAMPLE_RATE // 100
_LOST = 0.03
"""A mix with less than this share of the power that an even mix of unlike channels has is given up,"""
_KEPT = 0.1
"""and taken again with this share."""
_STICKY = 2.0
"""How much stronger another channel has to be than the one that is taken."""
_BASS = 0.004
"""The power of a tone's steps as a share of its own, at 160 Hz: below is no speech."""
_NONE = np.empty(0, np.int16)


class Mixer:
    """One filter graph for as long as the frames' kind stays the same."""

    def __init__(self) -> None:
        self._kind: tuple[int, str, str] | None = None
        self._graph: _Graph | None = None

    def convert(self, frame: AudioFrame) -> Samples:
        """Return what is ready; av.FFmpegError or ValueError for a frame that cannot be converted."""
        kind = (frame.sample_rate, frame.format.name, frame.layout.name)
        ready = _NONE
        if self._graph is None or kind != self._kind:
            if frame.sample_rate not in _SAMPLE_RATES:
                raise ValueError(f"{frame.sample_rate} Hz")
            graph = _graph(*kind, frame.layout.nb_channels)
            ready = self.flush()
            self._graph, self._kind = graph, kind
        frame.pts = None
        samples = self._graph.push(frame)
        return np.concatenate((ready, samples)) if len(ready) else samples

    def flush(self) -> Samples:
        """Return what the filters still hold, and end them."""
        graph, self._graph, self._kind = self._graph, None, None
        return _NONE if graph is None else graph.push(None)


def _graph(sample_rate: int, sample_format: str, layout: str, channels: int) -> "_Graph":
    evenly = "mono|c0=" + "+".join(f"{1 / channels:.6f}*c{i}" for i in range(channels))
    # FFmpeg would guess places for channels that name none, and drop what it takes for the bass.
    if layout != f"{channels} channels":
        try:
            return _Graph(sample_rate, sample_format, layout, channels, "anull")
        except (av.FFmpegError, ValueError):
            pass  # nobody knows where these stand in the room
    return _Graph(sample_rate, sample_format, f"{channels}C", channels, f"pan={evenly}")


class _Graph:
    """The filters for one kind of frames: a mix, and beside it the single channels where there are several."""

    def __init__(self, sample_rate: int, sample_format: str, layout: str, channels: int, mix: str) -> None:
        self._channels = channels
        self._graph = Graph()
        self._graph.threads = 1
        self._source = self._graph.add(
            "abuffer",
            sample_rate=str(sample_rate),
            sample_fmt=sample_format,
            channel_layout=layout,
            time_base=f"1/{sample_rate}",
        )
        split = self._graph.add("asplit", str(min(channels, 2)))
        self._source.link_to(split)
        name, _, arguments = mix.partition("=")
        mixing = self._graph.add(name, arguments or None)
        split.link_to(mixing)
        self._mix = self._sink(mixing, channel_layouts="mono")
        self._single = _Single() if channels > 1 else None
        if self._single:
            every = self._graph.add("anull")
            split.link_to(every, 1)
            self._every = self._sink(every)
        self._graph.configure()

    def _sink(self, before: FilterContext, **wanted: str) -> FilterContext:
        converter = self._graph.add("aformat", sample_rates=str(SAMPLE_RATE), sample_fmts="s16", **wanted)
        blocks = self._graph.add("asetnsamples", f"n={_BLOCK}:p=0")
        sink = self._graph.add("abuffersink")
        before.link_to(converter)
        converter.link_to(blocks)
        blocks.link_to(sink)
        return sink

    def push(self, frame: AudioFrame | None) -> Samples:
        """Return what is ready; None ends."""
        self._source.push(frame)
        mix = _pull(self._mix, 1)[:, 0]
        if self._single is None:
            return mix
        every = _pull(self._every, self._channels)
        blocks = [slice(start, start + _BLOCK) for start in range(0, len(mix), _BLOCK)]
        return np.concatenate([_NONE, *(self._single.choose(mix[block], every[block]) for block in blocks)])


def _pull(sink: FilterContext, channels: int) -> Samples:
    ready = bytearray()
    while True:
        try:
            frame = cast(AudioFrame, sink.pull())
        except (av.BlockingIOError, av.EOFError):
            return np.frombuffer(ready, np.int16).reshape(-1, channels)
        # A plane is padded past its samples.
        ready += memoryview(frame.planes[0])[: frame.samples * channels * SAMPLE_BYTES]


class _Single:
    """Chooses, block by block, between a mix and one of its channels."""

    def __init__(self) -> None:
        self._taken: int | None = None

    def choose(self, mix: Samples, every: Samples) -> Samples:
        """Return the next block, of the mix or of a channel."""
        before = self._taken
        self._taken = self._better(_loudness(mix[:, None])[0], _loudness(every))
        chosen = _channel(self._taken, mix, every)
        if self._taken == before:
            return chosen
        fade = np.linspace(0, 1, min(_FADE, len(mix)), dtype=np.float32)
        old, new = _channel(before, mix, every)[: len(fade)], chosen[: len(fade)]
        return np.concatenate(((old * (1 - fade) + new * fade).astype(np.int16), chosen[len(fade) :]))

    def _better(self, mix: float, every: npt.NDArray[np.float64]) -> int | None:
        if every.max() < 1:
            return self._taken  # silence tells nothing
        evenly = every.sum() / len(every) ** 2
        if mix >= evenly * (_LOST if self._taken is None else _KEPT):
            return None
        if self._taken is not None:
            every[self._taken] *= _STICKY
        return int(every.argmax())


def _channel(number: int | None, mix: Samples, every: Samples) -> Samples:
    return mix if number is None else every[:, number]


def _loudness(samples: Samples) -> npt.NDArray[np.float64]:
    """Return the power of each column's steps from sample to sample; 0 where there is nothing but bass."""
    if len(samples) < 2:
        return np.zeros(samples.shape[1])
    wave = samples.astype(np.float32)
    steps = np.square(np.diff(wave, axis=0)).mean(axis=0, dtype=np.float64)
    return np.where(steps < _BASS * wave.var(axis=0, dtype=np.float64), 0.0, steps)
