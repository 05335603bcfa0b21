"""Read the client's side of an audio RPC: one config, then PCM and flushes, within the limits the protos state."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from services.common.audio import MAX_MESSAGE_BYTES, SAMPLE_BYTES, SAMPLE_RATE, Flush, SampleAligner
from services.common.errors import Reason, SttError
from services.common.metrics import AUDIO_SECONDS

_PAUSE_S = 0.9
"""A live client pauses who sends nothing for so long after what he sent last would have been spoken."""


class AudioStream:
    """The messages of one client (`oneof request`: config, audio, flush), each awaited for at most `idle_timeout_s`."""

    def __init__(self, requests: AsyncIterator[Any], idle_timeout_s: float) -> None:
        self._requests = requests
        self._idle_timeout_s = idle_timeout_s

    async def config(self) -> Any:
        """Return the config, which must be the first message."""
        request = await self._next()
        if request is None or request.WhichOneof("request") != "config":
            raise SttError(Reason.INVALID_REQUEST, "The first message must be a config.")
        return request.config

    async def audio(self) -> AsyncIterator[bytes]:
        """Yield a recording's PCM until the client closes its side; every piece is whole samples and not empty."""
        async for piece in self._read("recording"):
            if isinstance(piece, Flush):
                raise SttError(Reason.INVALID_REQUEST, "Only a live session can be flushed.")
            yield piece

    async def live_audio(self) -> AsyncIterator[bytes | Flush]:
        """Yield a live session's PCM, as `audio` does, and its flushes; a pause of the client is one, too."""
        pieces = self._read("live")
        pause_s: float | None = None
        while True:
            waiting = asyncio.ensure_future(anext(pieces, None))
            try:
                done, _ = await asyncio.wait({waiting}, timeout=pause_s)
                if not done:
                    yield Flush()
                piece = await waiting
            finally:
                waiting.cancel()
            if piece is None:
                return
            pause_s = None if isinstance(piece, Flush) else _PAUSE_S + len(piece) / SAMPLE_BYTES / SAMPLE_RATE
            yield piece

    async def _read(self, kind: str) -> AsyncIterator[bytes | Flush]:
        aligner, seconds = SampleAligner(), AUDIO_SECONDS.labels(kind)
        while (request := await self._next()) is not None:
            match request.WhichOneof("request"):
                case "audio":
                    if len(request.audio) > MAX_MESSAGE_BYTES:
                        raise SttError(
                            Reason.INVALID_REQUEST,
                            f"An audio message may have {MAX_MESSAGE_BYTES} bytes, this one has {len(request.audio)}.",
                        )
                    if samples := aligner.push(request.audio):
                        seconds.inc(len(samples) / SAMPLE_BYTES / SAMPLE_RATE)
                        yield samples
                case "flush":
                    yield Flush()
                case "config":
                    raise SttError(Reason.INVALID_REQUEST, "The config was sent twice.")
                case _:
                    raise SttError(Reason.INVALID_REQUEST, "A message must carry a config or audio.")

    async def _next(self) -> Any:
        """Return the next message, or None when the client has closed its side."""
        try:
            async with asyncio.timeout(self._idle_timeout_s):
                return await anext(self._requests, None)
        except TimeoutError:
            raise SttError(Reason.IDLE_TIMEOUT, f"Nothing was sent for {self._idle_timeout_s:g} seconds.") from None
