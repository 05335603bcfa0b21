"""Media in, 16 kHz mono s16le out, by PyAV: runs only in the sandboxed child. It trusts nothing that a header says.

Time stamps are ignored: what counts is the samples in their order, so a gap in a recording is closed, not filled.
"""

import os
from collections.abc import Iterator
from typing import BinaryIO, cast

import av

# PyAV imports these when it meets such a stream, but behind the sandbox nothing can be imported any more.
import av.audio.codeccontext
import av.subtitles.codeccontext
import av.subtitles.stream
import av.video.codeccontext
import av.video.stream
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.filter import Graph
from av.stream import Discard

from services.common.audio import SAMPLE_BYTES, SAMPLE_RATE
from services.edge.media.protocol import Failure, Report

# By content: mp3 wav flac ogg/opus m4a/mp4/mov/3gp aac wma/wmv mkv/webm avi mpg/mpeg, and what phones, recorders and
# cameras write besides. No playlist, no script, no image, no network format; a demuxer that is not named cannot run.
DEMUXERS = "mp3,wav,w64,flac,ogg,mov,aac,loas,asf,matroska,avi,mpeg,mpegts,aiff,caf,amr,au,ac3,eac3,wv"
DECODERS = (
    "aac,aac_latm,ac3,eac3,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,alac,amrnb,amrwb,dca,flac,gsm,gsm_ms,mp1,mp1float,mp2,"
    "mp2float,mp3,mp3float,opus,pcm_alaw,pcm_bluray,pcm_dvd,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,"
    "pcm_s16be,pcm_s16be_planar,pcm_s16le,pcm_s16le_planar,pcm_s24be,pcm_s24le,pcm_s24le_planar,pcm_s32be,pcm_s32le,"
    "pcm_s32le_planar,pcm_s8,pcm_s8_planar,pcm_u8,speex,vorbis,wavpack,wmalossless,wmapro,wmav1,wmav2,wmavoice"
)
_OPTIONS = {
    "format_whitelist": DEMUXERS,
    # Also keeps the probe from opening a video decoder for a file whose pictures nobody looks at.
    "codec_whitelist": DECODERS,
    "protocol_whitelist": "none",
}
_READ_BYTES = 1 << 18
_SAMPLE_RATES = range(2_000, 800_000)
"""Input rates that are believed: outside it one frame could be blown up to gigabytes."""


class MediaFailure(Exception):  # noqa: N818  # a verdict on the file, not a fault of the program
    """There will be no PCM, and why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.value)
        self.failure = failure


class NamelessFile:
    """An upload as FFmpeg sees it: no name to guess a format from, no descriptor position shared with anyone."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.lseek(fd, 0, os.SEEK_END)
        self._position = 0

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, empty at the end."""
        data = os.pread(self._fd, size, self._position)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move and return the position; a negative number for a place that does not exist."""
        target = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if target < 0:
            return -1
        self._position = target
        return target

    def tell(self) -> int:
        """Return the position."""
        return self._position


def decode(upload: NamelessFile, sink: BinaryIO, max_samples: int) -> Report:
    """Write the best audio track of `upload` to `sink` and report; MediaFailure if there is nothing to write.

    Damage is skipped. Memory does not depend on the file's length, and it stops after `max_samples`.
    """
    container = _open(upload)
    stream = _audio_stream(container)
    resampler = Resampler()
    samples = broken_packets = 0
    for frame in _frames(container, stream):
        try:
            pieces = resampler.convert(frame) if frame else []
        except (av.FFmpegError, ValueError):
            frame, pieces = None, []
        broken_packets += frame is None
        samples += _write(sink, pieces, max_samples - samples)
    samples += _write(sink, resampler.flush(), max_samples - samples)
    if not samples:
        raise MediaFailure(Failure.UNDECODABLE)
    return Report(samples=samples, broken_packets=broken_packets)


def _open(upload: NamelessFile) -> InputContainer:
    try:
        # Metadata is not used, and need not be text.
        return av.open(upload, "r", container_options=_OPTIONS, metadata_errors="ignore", buffer_size=_READ_BYTES)
    except av.FFmpegError as error:
        raise MediaFailure(Failure.UNSUPPORTED) from error


def _audio_stream(container: InputContainer) -> AudioStream:
    if not container.streams.audio:
        raise MediaFailure(Failure.NO_AUDIO)
    stream = cast(AudioStream, container.streams.best("audio") or container.streams.audio[0])
    if stream.codec_context is None or stream.codec_context.codec.name not in DECODERS.split(","):
        raise MediaFailure(Failure.UNSUPPORTED)
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    stream.codec_context.thread_count = 1  # threads are forbidden here
    return stream


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame | None]:
    """Yield what decodes, and None for each packet that does not."""
    packets = container.demux(stream)
    at_end = False
    while not at_end:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            packet = None
            yield None
        at_end = packet is None
        try:
            if packet is None:
                yield from stream.codec_context.decode(None)
            elif packet.size:  # an empty one would end the decoder's stream
                yield from stream.codec_context.decode(packet)
        except av.FFmpegError:
            yield None


def _write(sink: BinaryIO, pieces: list[AudioFrame], room: int) -> int:
    samples = sum(piece.samples for piece in pieces)
    if samples > room:
        raise MediaFailure(Failure.TOO_LONG)
    for piece in pieces:
        # A plane is padded past its samples.
        sink.write(memoryview(piece.planes[0])[: piece.samples * SAMPLE_BYTES])
    return samples


class Resampler:
    """Frames of any kind to 16 kHz mono s16, through one filter graph for as long as their kind stays the same."""

    def __init__(self) -> None:
        self._kind: tuple[int, str, str] | None = None
        self._graph: Graph | None = None

    def convert(self, frame: AudioFrame) -> list[AudioFrame]:
        """Return what is ready; av.FFmpegError or ValueError for a frame that cannot be converted."""
        kind = (frame.sample_rate, frame.format.name, frame.layout.name)
        ready: list[AudioFrame] = []
        if self._graph is None or kind != self._kind:
            if frame.sample_rate not in _SAMPLE_RATES:
                raise ValueError(f"{frame.sample_rate} Hz")
            graph = _graph(*kind, frame.layout.nb_channels)
            ready = self.flush()
            self._graph, self._kind = graph, kind
        frame.pts = None
        self._graph.push(frame)
        return ready + _pull(self._graph)

    def flush(self) -> list[AudioFrame]:
        """Return what the filters still hold, and end them."""
        graph, self._graph, self._kind = self._graph, None, None
        if graph is None:
            return []
        graph.push(None)
        return _pull(graph)


def _graph(sample_rate: int, sample_format: str, layout: str, channels: int) -> Graph:
    try:
        return _configured(sample_rate, sample_format, layout, None)
    except (av.FFmpegError, ValueError):
        # Nobody knows where these channels stand in the room: mix them evenly.
        mix = "mono|c0=" + "+".join(f"{1 / channels:.6f}*c{i}" for i in range(channels))
        return _configured(sample_rate, sample_format, f"{channels}C", mix)


def _configured(sample_rate: int, sample_format: str, layout: str, mix: str | None) -> Graph:
    graph = Graph()
    graph.threads = 1
    nodes = [
        graph.add(
            "abuffer",
            sample_rate=str(sample_rate),
            sample_fmt=sample_format,
            channel_layout=layout,
            time_base=f"1/{sample_rate}",
        )
    ]
    if mix:
        nodes.append(graph.add("pan", mix))
    nodes.append(graph.add("aformat", sample_rates=str(SAMPLE_RATE), sample_fmts="s16", channel_layouts="mono"))
    nodes.append(graph.add("abuffersink"))
    graph.link_nodes(*nodes).configure()
    return graph


def _pull(graph: Graph) -> list[AudioFrame]:
    pieces = []
    while True:
        try:
            pieces.append(cast(AudioFrame, graph.pull()))
        except (av.BlockingIOError, av.EOFError):
            return pieces
