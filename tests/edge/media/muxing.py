"""Files of several tracks, and of tracks with holes, made with PyAV."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

RATE = 16_000
PICTURES_PER_S = 25
UNMARKED = Disposition(0)


@dataclass
class Sound:
    """An audio track of `samples` (time, or time and channels) at 16 kHz.

    Its packets that begin in one of `left_out` (from, to, in seconds) are not in the file, and those in `damaged` are
    noise. `stamp` gives packets a later time than theirs, in seconds, where they stand.
    """

    samples: np.ndarray
    codec: str = "aac"
    rate: int = 48_000
    layout: str = "mono"
    left_out: tuple[tuple[float, float], ...] = ()
    damaged: tuple[tuple[float, float], ...] = ()
    stamp: Callable[[float], float] = float
    disposition: Disposition = UNMARKED
    language: str = ""


def mux(container: str, *sounds: Sound, video: str | None = None, video_s: float = 0.0, clock_s: float = 0.0) -> bytes:
    """Return a file of some sounds, and of `video_s` of grey; its first instant is `clock_s` on its clock."""
    target = io.BytesIO()
    options = {"default_mode": "passthrough"} if container in ("matroska", "webm") else {}
    with av.open(target, "w", format=container, options=options) as output:
        streams = [_audio_stream(output, sound) for sound in sounds]
        pictures = _video_stream(output, video) if video else None
        output.start_encoding()
        packets = [
            (packet.dts * packet.time_base, packet, sound.stamp)
            for stream, sound in zip(streams, sounds, strict=True)
            for packet in _heard(stream, sound)
        ]
        if pictures:
            packets += [(packet.dts * packet.time_base, packet, float) for packet in _seen(pictures, video_s)]
        for at_s, packet, stamp in sorted(packets, key=lambda packet: packet[0]):
            packet.dts += round(clock_s / packet.time_base)
            packet.pts = packet.dts + round((stamp(float(at_s)) - float(at_s)) / packet.time_base)
            output.mux(packet)
    return target.getvalue()


def _audio_stream(output: av.container.OutputContainer, sound: Sound) -> AudioStream:
    stream = output.add_stream(sound.codec, rate=sound.rate, layout=sound.layout)
    assert isinstance(stream, AudioStream)
    stream.codec_context.bit_rate = 64_000
    stream.disposition = sound.disposition
    if sound.language:
        stream.metadata["language"] = sound.language
    return stream


def _video_stream(output: av.container.OutputContainer, codec: str) -> VideoStream:
    stream = output.add_stream(codec, rate=PICTURES_PER_S)
    assert isinstance(stream, VideoStream)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    return stream


def _heard(stream: AudioStream, sound: Sound) -> Iterator[Packet]:
    layout = "mono" if sound.samples.ndim == 1 else sound.layout
    frame = AudioFrame.from_ndarray(sound.samples.reshape(1, -1), format="s16", layout=layout)
    frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), 0
    frame_size = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(stream.format, stream.layout, sound.rate, frame_size=frame_size)
    for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
        for packet in stream.encode(piece):
            at_s = float(packet.pts * packet.time_base)
            if any(start_s <= at_s < end_s for start_s, end_s in sound.left_out):
                continue
            if any(start_s <= at_s < end_s for start_s, end_s in sound.damaged):
                packet = _noise(packet)
            yield packet


def _noise(packet: Packet) -> Packet:
    noise = Packet(np.random.default_rng(0).bytes(packet.size))
    noise.stream, noise.time_base = packet.stream, packet.time_base
    noise.pts, noise.dts, noise.duration = packet.pts, packet.dts, packet.duration
    return noise


def _seen(stream: VideoStream, video_s: float) -> Iterator[Packet]:
    for index in range(round(PICTURES_PER_S * video_s)):
        frame = VideoFrame.from_ndarray(np.full((64, 64, 3), 99, np.uint8), format="rgb24")
        frame.pts = index
        yield from stream.encode(frame)
    yield from stream.encode(None)
