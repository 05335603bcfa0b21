"""Runs one confined child per upload, and turns its report into PCM or a clear error. No FFmpeg code runs here."""

import asyncio
import math
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from services.common import tracing
from services.common.audio import SAMPLE_BYTES, SAMPLE_RATE
from services.common.metrics import AUDIO_SECONDS
from services.edge.media.errors import (
    AudioTooLongError,
    DecodeTimeoutError,
    EmptyFileError,
    MediaError,
    NoAudioTrackError,
    SpoolFullError,
    UndecodableError,
    UnsupportedCodecError,
    UnsupportedMediaError,
)
from services.edge.media.protocol import Failure, Job, Report
from services.edge.media.spool import Spool, SpoolFile
from services.edge.media.warnings import warnings
from services.edge.metrics import DECODING_DURATION, DECODINGS_RUNNING

_ROOT = Path(__file__).parents[3]
_ACCOUNTING_INTERVAL_S = 0.2
_PIPE_READ_BYTES = 65_536
_LOGGED_CHARS = 500
_REPORT = TypeAdapter(Report)

log = structlog.get_logger()


@dataclass(frozen=True)
class DecodeLimits:
    """What one child may use up."""

    wall_s: float = 300.0
    """Seconds of wall clock, and of CPU."""
    memory_bytes: int = 1 << 29
    """Address space; Python and FFmpeg take 120 MB of it before the first byte."""
    children: int = 2
    """How many decode at a time; others wait their turn."""


@dataclass(frozen=True)
class DecodedAudio:
    """PCM, 16 kHz mono s16le, in a spool file that the holder closes."""

    pcm: SpoolFile
    samples: int
    heard_samples: int
    """Those that the file has: the others are its pauses."""
    warnings: tuple[str, ...]
    """What the file's sender should know of it."""

    @property
    def duration_s(self) -> float:
        """Length of the file as it is presented, pauses and all."""
        return self.samples / SAMPLE_RATE


class Decoder:
    """Decodes uploads, a bounded number at a time."""

    def __init__(self, spool: Spool, limits: DecodeLimits) -> None:
        self._spool = spool
        self._limits = limits
        self._turn = asyncio.Semaphore(limits.children)
        self._unconfined_is_logged = False

    async def decode(self, upload: SpoolFile, max_audio_s: int) -> DecodedAudio:
        """Decode the flushed `upload` to PCM.

        MediaError says what is wrong with the file, SpoolFullError that there was no room for the PCM. When this is
        cancelled or fails, the child is dead and reaped, and the PCM is gone.
        """
        if not upload.size_bytes:
            raise EmptyFileError
        pcm = self._spool.file()
        try:
            with tracing.step("decode"):
                async with self._turn:
                    with DECODINGS_RUNNING.track_inprogress(), DECODING_DURATION.time():
                        report = await self._run_child(upload, pcm, max_audio_s * SAMPLE_RATE)
            self._log_unconfined(report)
            if report.failure:
                log.info("decode_failed", failure=report.failure.value, detail=str(report.detail)[:_LOGGED_CHARS])
                raise self._error(report, max_audio_s)
            is_possible = 0 < report.heard_samples <= report.samples
            if pcm.size_bytes != report.samples * SAMPLE_BYTES or not is_possible:
                log.warning("decoder_report_wrong", samples=report.samples, pcm_bytes=pcm.size_bytes)
                raise UndecodableError  # a child that lies was taken over
        except BaseException:
            pcm.close()
            raise
        AUDIO_SECONDS.labels("recording").inc(report.heard_samples / SAMPLE_RATE)
        return DecodedAudio(pcm, report.samples, report.heard_samples, warnings(report))

    async def _run_child(self, upload: SpoolFile, pcm: SpoolFile, max_samples: int) -> Report:
        job = Job(
            parent_pid=os.getpid(),
            pcm_fd=pcm.fileno(),
            max_samples=max_samples,
            memory_bytes=self._limits.memory_bytes,
            cpu_s=math.ceil(self._limits.wall_s),
        )
        with _BoundedPipe() as report, _BoundedPipe() as stderr:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.edge.media.child", job.to_json()),
                stdin=upload.fileno(),
                stdout=report.write_fd,
                stderr=stderr.write_fd,
                pass_fds=(pcm.fileno(),),
                cwd=_ROOT,  # where `services` is found
                env={"OPENBLAS_NUM_THREADS": "1"},  # no secret of ours in reach of a decoder, and no thread
                start_new_session=True,  # Ctrl-C is for the parent, which then ends the child in its own order
            )
            try:
                await self._wait(child, pcm)
            finally:
                if child.returncode is None:
                    child.kill()
                    await child.wait()
            return self._read_report(child.returncode, report.read(), stderr.read())

    async def _wait(self, child: asyncio.subprocess.Process, pcm: SpoolFile) -> None:
        """Wait for the child's end while charging the budget with what it writes."""
        ended = asyncio.ensure_future(child.wait())
        try:
            async with asyncio.timeout(self._limits.wall_s):
                while not ended.done():
                    await asyncio.wait({ended}, timeout=_ACCOUNTING_INTERVAL_S)
                    pcm.account_growth()
        except TimeoutError:
            raise DecodeTimeoutError(self._limits.wall_s) from None
        finally:
            ended.cancel()

    def _read_report(self, returncode: int | None, line: bytes, stderr: bytes) -> Report:
        if returncode == -signal.SIGXCPU:
            raise DecodeTimeoutError(self._limits.wall_s)
        try:
            if returncode == 0:
                return _REPORT.validate_json(line, strict=True)
        except ValidationError:  # the child may have been taken over
            pass
        log.warning("decoder_crashed", returncode=returncode, stderr=repr(stderr[-_LOGGED_CHARS:]))
        raise UndecodableError

    def _log_unconfined(self, report: Report) -> None:
        if report.unconfined and not self._unconfined_is_logged:
            log.warning("decoder_sandbox_incomplete", missing=report.unconfined)
            self._unconfined_is_logged = True

    def _error(self, report: Report, max_audio_s: int) -> MediaError | SpoolFullError:
        match report.failure:
            case Failure.UNSUPPORTED_CODEC:
                return UnsupportedCodecError(report.codec)
            case Failure.NO_AUDIO:
                return NoAudioTrackError()
            case Failure.UNDECODABLE:
                return UndecodableError()
            case Failure.TOO_LONG:
                return AudioTooLongError(max_audio_s)
            case Failure.NO_SPACE:
                return SpoolFullError()
            case _:
                return UnsupportedMediaError()


class _BoundedPipe:
    """A pipe read once, after the writer's end: it holds no more than the kernel's buffer, the rest is lost."""

    def __enter__(self) -> "_BoundedPipe":
        self._read_fd, self.write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        return self

    def read(self) -> bytes:
        """Return what was written."""
        try:
            return os.read(self._read_fd, _PIPE_READ_BYTES)
        except BlockingIOError:
            return b""

    def __exit__(self, *_: object) -> None:
        os.close(self._read_fd)
        os.close(self.write_fd)
