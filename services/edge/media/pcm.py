"""Media in, 16 kHz mono s16le out, by PyAV: runs only in the sandboxed child. It trusts nothing that a header says.

A file is decoded track by track, each into the place where the container presents it; a second track is added to what
is there already. Memory does not depend on the file's length.
"""

import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import av

# PyAV imports these when it meets such a stream, but behind the sandbox nothing can be imported any more.
import av.audio.codeccontext
import av.subtitles.codeccontext
import av.subtitles.stream
import av.video.codeccontext
import av.video.stream
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard

from services.common.audio import SAMPLE_BYTES, SAMPLE_RATE
from services.edge.media.mixing import Mixer, Samples
from services.edge.media.protocol import Choice, Failure, Report, Tracks
from services.edge.media.source import NamelessFile
from services.edge.media.timeline import TOLERANCE_S, Timeline
from services.edge.media.tracks import DECODERS, Track, plan, tracks

# By content: mp3 wav flac ogg/opus m4a/mp4/mov/3gp aac wma/wmv mkv/webm avi mpg/mpeg, and what phones, recorders and
# cameras write besides. No playlist, no script, no image, no network format; a demuxer that is not named cannot run.
DEMUXERS = "mp3,wav,w64,flac,ogg,mov,aac,loas,asf,matroska,avi,mpeg,mpegts,aiff,caf,amr,au,ac3,eac3,wv"
_OPTIONS = {
    "format_whitelist": DEMUXERS,
    # Also keeps the probe from opening a video decoder for a file whose pictures nobody looks at.
    "codec_whitelist": DECODERS,
    "protocol_whitelist": "none",
}
_READ_BYTES = 1 << 18
_WRITTEN_SAMPLES = 1 << 17
_SOUND = 32
"""A track whose samples never exceed this (-60 dB) has no sound."""
_TOLD = 20
"""So many places are told of those where something is wrong."""
_MAX_DEMUX_ERRORS = 100
_MISSING_S, _MISSING_SHARE = 0.2, 0.01
"""A file is shorter than it says when it is by both of these."""
# Formats whose headers tell how long the audio is; what others tell is reckoned from their size.
_TELL_LENGTH = ("flac", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "w64", "aiff", "caf")
# Formats that carry time stamps; those of others are reckoned from their packets.
_TIMED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "mpeg", "ogg", "asf")
# Formats whose time stamps have no gaps where nothing is missing.
_UNBROKEN = ("ogg", "asf")


class MediaFailure(Exception):  # noqa: N818  # a verdict on the file, not a fault of the program
    """There will be no PCM, and why; `codec` is the one that is not supported."""

    def __init__(self, failure: Failure, codec: str = "") -> None:
        super().__init__(failure.value)
        self.failure = failure
        self.codec = codec


class PcmFile:
    """The samples so far, in a file that is empty at first; MediaFailure past `max_samples`."""

    def __init__(self, file: io.FileIO, max_samples: int) -> None:
        self._file = file
        self.max_samples = max_samples
        self.samples = 0
        self.peak = 0
        """Of what was written since it was last set to 0."""
        self._pending: list[Samples] = []
        self._pending_start = self._pending_end = 0

    def add(self, position: int, samples: Samples) -> None:
        """Add `samples` to those from `position` on; what lies between the file's end and them is silence."""
        if position + len(samples) > self.max_samples:
            raise MediaFailure(Failure.TOO_LONG)
        if position != self._pending_end or self._pending_end - self._pending_start > _WRITTEN_SAMPLES:
            self.flush()
            self._pending_start = self._pending_end = position
        self._pending.append(samples)
        self._pending_end += len(samples)

    def flush(self) -> None:
        """Write what waits."""
        if not self._pending:
            return
        samples = np.concatenate(self._pending)
        self._pending = []
        if len(samples):
            self.peak = max(self.peak, int(samples.max()), -int(samples.min()))
        if self._pending_start < self.samples:
            there = np.frombuffer(self._read(self._pending_start, len(samples)), np.int16)
            mixed = samples[: len(there)].astype(np.int32) + there
            samples[: len(there)] = mixed.clip(-32_768, 32_767)
        self._file.seek(self._pending_start * SAMPLE_BYTES)
        rest = samples.data.cast("B")
        while rest:
            rest = rest[self._file.write(rest) :]
        self.samples = max(self.samples, self._pending_end)
        self._pending_start = self._pending_end

    def _read(self, position: int, samples: int) -> bytes:
        samples = min(samples, self.samples - position)
        return os.pread(self._file.fileno(), samples * SAMPLE_BYTES, position * SAMPLE_BYTES)


@dataclass
class _Heard:
    """What came out of a track: audio from sample to sample, its peak, and what was wrong with it."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    peak: int = 0
    lost: list[tuple[float, float]] = field(default_factory=list)
    lost_count: int = 0
    missing_s: float = 0.0
    distrusted_s: list[float] = field(default_factory=list)

    @property
    def has_sound(self) -> bool:
        return self.peak > _SOUND

    def hear(self, start: int, samples: Samples) -> None:
        if not len(samples):
            return
        end = start + len(samples)
        if self.spans and self.spans[-1][1] == start:
            start = self.spans.pop()[0]
        self.spans.append((start, end))

    def lose(self, at_s: float, length_s: float) -> None:
        if self.lost and at_s - sum(self.lost[-1]) < TOLERANCE_S:
            before_s, lost_s = self.lost.pop()
            self.lost.append((before_s, lost_s + length_s))
            return
        self.lost_count += 1
        if self.lost_count <= _TOLD:
            self.lost.append((at_s, length_s))


class _Lost(NamedTuple):
    """A packet that could not be decoded: how long it would have been, as far as it tells."""

    length_s: float


def decode(upload: NamelessFile, file: io.FileIO, max_samples: int) -> Report:
    """Write what is to be heard in `upload` to the empty `file` and report; MediaFailure if there is nothing to write.

    Damage is skipped, and it stops after `max_samples`.
    """
    pcm = PcmFile(file, max_samples)
    heard: list[_Heard] = []
    chosen: list[Tracks] = []
    failures: list[MediaFailure] = []
    for recording in upload.recordings():
        try:
            recording_tracks, recording_heard = _decode_recording(recording, pcm)
        except MediaFailure as failure:
            if failure.failure is Failure.TOO_LONG:
                raise
            failures.append(failure)
            continue
        chosen.append(recording_tracks)
        heard += recording_heard
    if not heard:
        raise failures[0]
    lost = sorted(place for track in heard for place in track.lost)
    return Report(
        samples=pcm.samples,
        heard_samples=_covered(span for track in heard for span in track.spans),
        lost=lost[:_TOLD],
        lost_count=sum(track.lost_count for track in heard),
        missing_s=sum(track.missing_s for track in heard),
        distrusted_s=sorted(at_s for track in heard for at_s in track.distrusted_s)[:_TOLD],
        unread=len(failures),
        tracks=max(chosen, key=lambda tracks: tracks.total),
    )


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    """Return how many samples lie in at least one of the spans."""
    covered = reached = 0
    for start, end in sorted(spans):
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def _decode_recording(upload: NamelessFile, pcm: PcmFile) -> tuple[Tracks, list[_Heard]]:
    """Decode one file, behind what was decoded of others."""
    container = _open(upload)
    found = tracks(container)
    if not found:
        raise MediaFailure(Failure.NO_AUDIO)
    usable = [track for track in found if track.codec is None]
    if not usable:
        raise MediaFailure(Failure.UNSUPPORTED_CODEC, found[0].codec or "")
    wanted = plan(container, usable)
    unsupported = [track.codec for track in found if track.codec is not None][:_TOLD]
    heard, at = [], pcm.samples
    for track in wanted.alone:
        heard.append(_decode_track(upload, track, pcm, at, 1.0))
        if heard[-1].has_sound:
            choice = Choice.DEFAULT if track is wanted.default else Choice.LANGUAGE
            return Tracks(len(found), [track.number], choice, unsupported), heard
    mixed = [_decode_track(upload, track, pcm, at, len(wanted.together) ** -0.5) for track in wanted.together]
    used = [track.number for track, sound in zip(wanted.together, mixed, strict=True) if sound.has_sound]
    heard += mixed
    if not any(track.spans for track in heard):
        raise MediaFailure(Failure.UNDECODABLE)
    return Tracks(len(found), used, Choice.MIXED, unsupported), heard


def _open(upload: NamelessFile) -> InputContainer:
    upload.seek(0)
    try:
        # Metadata is not used, and need not be text.
        return av.open(upload, "r", container_options=_OPTIONS, metadata_errors="ignore", buffer_size=_READ_BYTES)
    except av.FFmpegError as error:
        raise MediaFailure(Failure.UNSUPPORTED) from error


def _decode_track(upload: NamelessFile, track: Track, pcm: PcmFile, at: int, gain: float) -> _Heard:
    """Add a track to the PCM, where its file begins at sample `at`."""
    container = _open(upload)
    stream = cast(AudioStream, container.streams[track.index])
    stream.codec_context.thread_count = 1  # threads are forbidden here
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    heard = _Heard()
    mixer = Mixer()
    line = Timeline[AudioFrame]((pcm.max_samples - at) / SAMPLE_RATE)
    position = at
    pcm.peak = 0

    def put(samples: Samples) -> None:
        nonlocal position
        if gain != 1.0:
            samples = (samples * gain).astype(np.int16)
        pcm.add(position, samples)
        heard.hear(position, samples)
        position += len(samples)

    def convert(placed: Iterable[tuple[float, AudioFrame]]) -> None:
        nonlocal position
        for pause_s, frame in placed:
            if pause_s:
                if container.format.name in _UNBROKEN and position > at:
                    heard.lose(position / SAMPLE_RATE, pause_s)
                put(mixer.flush())
                position += round(pause_s * SAMPLE_RATE)
            try:
                put(mixer.convert(frame))
            except (av.FFmpegError, ValueError):
                heard.lose(position / SAMPLE_RATE, _length_s(frame))

    start_s = (container.start_time or 0) / av.time_base
    is_timed = container.format.name in _TIMED
    for frame in _frames(container, stream):
        if isinstance(frame, _Lost):
            heard.lose(at / SAMPLE_RATE + line.end_s, frame.length_s)
            continue
        at_s = None
        if is_timed and frame.time is not None:
            at_s = frame.time - start_s
        convert(line.place(frame, at_s, _length_s(frame)))
    convert(line.flush())
    put(mixer.flush())
    pcm.flush()
    heard.peak = pcm.peak
    heard.distrusted_s = [at / SAMPLE_RATE + at_s for at_s in line.distrusted_s[:_TOLD]]
    if not line.is_doubtful:
        heard.missing_s = _missing_s(upload, container, stream, line.end_s)
    return heard


def _length_s(frame: AudioFrame) -> float:
    return frame.samples / frame.sample_rate if frame.sample_rate else 0.0


def _missing_s(upload: NamelessFile, container: InputContainer, stream: AudioStream, end_s: float) -> float:
    """Return how much less audio came out than the file's header tells, 0 where that is little or it tells nothing."""
    if missing_bytes := upload.missing_bytes():
        return end_s * missing_bytes / upload.size
    if container.format.name not in _TELL_LENGTH or container.start_time:
        return 0.0
    told_s = _told_s(container, stream)
    missing_s = told_s - end_s
    return missing_s if missing_s > max(_MISSING_S, _MISSING_SHARE * told_s) else 0.0


def _told_s(container: InputContainer, stream: AudioStream) -> float:
    if stream.duration:
        return _seconds(stream.duration, stream) + _seconds(stream.start_time, stream)
    if told := re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, told.groups())
        return hours * 3600 + minutes * 60 + seconds
    return container.duration / av.time_base if len(container.streams) == 1 and container.duration else 0.0


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame | _Lost]:
    """Yield what decodes, and what does not."""
    for packet in _packets(container, stream):
        if isinstance(packet, _Lost):
            yield packet
            continue
        if packet is not None and not packet.size:
            continue  # an empty one would end the decoder's stream
        try:
            yield from stream.codec_context.decode(packet)
        except av.FFmpegError:
            yield _Lost(_seconds(packet.duration if packet is not None else None, stream))


def _packets(container: InputContainer, stream: AudioStream) -> Iterator["Packet[AudioStream] | _Lost | None"]:
    """Yield the packets that can be read, and None at the end."""
    errors = 0
    while errors < _MAX_DEMUX_ERRORS:
        try:
            yield from container.demux(stream)
            break
        except av.EOFError:
            break
        except av.FFmpegError:
            errors += 1
            yield _Lost(0.0)
    yield None


def _seconds(time: int | None, stream: AudioStream) -> float:
    return float(time * stream.time_base) if time and stream.time_base else 0.0
