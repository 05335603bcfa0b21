"""The speakers of one live session: diarization at its own pace beside recognition, and never in its way.

Words go out at once; who said them follows, as far as diarization knows. Where it is down, full, fails or does not
keep up, the session goes on without it and says so once.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import structlog

from services.common.audio import Flush
from services.common.errors import Reason, SttError
from services.edge.engine import Diarized, Update
from services.edge.stream.audio import BYTES_PER_S, AudioQueue
from services.edge.stream.dialects import Dialect, Message
from services.edge.stream.speakers import Speakers
from services.edge.transcript import Segment

Diarize = Callable[[AsyncIterator[bytes | Flush], int], AsyncGenerator[Update | Diarized, None]]
"""Diarization: given audio and a number of speakers (0: find it out), yields what it hears."""
Send = Callable[[Message], Awaitable[None]]

BACKLOG_BYTES = 60 * BYTES_PER_S
"""How much audio may wait for diarization: a client may send it at once, and in real time that is far behind."""
_NO_VOICES = "No speakers are named: diarization heard no voices."
_log = structlog.get_logger(__name__)


class Naming:
    """Tells a client who speaks, once it may `begin`; what it does is done in `tasks`, which end with the session."""

    def __init__(
        self,
        diarize: Diarize,
        speakers: int,
        audio: AudioQueue,
        dialect: Dialect,
        send: Send,
        tasks: asyncio.TaskGroup,
        patience_s: float,
    ) -> None:
        """Name so many speakers, 0 for any number; a client who is ahead waits `patience_s` for a full queue."""
        self.warnings: tuple[str, ...] = ()
        """What the client was told of what he should know."""
        self._audio = audio
        self._dialect = dialect
        self._send = send
        self._patience_s = patience_s
        self._speakers = Speakers()
        self._segments = 0
        self._is_over = False
        self._may_tell = asyncio.Event()
        self._telling = asyncio.Lock()
        """Held so that what is known later is told later."""
        self._following = tasks.create_task(self._follow(diarize, speakers))
        self._concluding = tasks.create_task(self._conclude())

    def begin(self) -> None:
        """Ask diarization, and tell what it says."""
        self._may_tell.set()

    @property
    def is_held(self) -> bool:
        """Whether the client is held back now."""
        return self._audio.is_held

    async def hear(self, data: bytes) -> None:
        """Take audio. Who speaks in real time is never held back: a minute behind, diarization is given up.

        Who sends faster waits for it, as long as it takes anything at all.
        """
        if self._audio.backlog_bytes < BACKLOG_BYTES:
            await self._audio.put(data)
            return
        try:
            async with asyncio.timeout(min(self._audio.ahead_s, self._patience_s)):
                await self._audio.put(data)
        except TimeoutError:
            self.stop()

    def end(self) -> None:
        """Take no more audio."""
        self._audio.end()

    async def tell(self, segment: Segment, message: Message) -> None:
        """Send a finalized segment's message with its id, and who says it where that is known already."""
        self._segments += 1
        await self._send({**message, "id": self._segments})
        if not self._is_over:
            self._speakers.add(self._segments, segment)
            await self._tell()

    async def finish(self) -> None:
        """Wait until all is told, after the last segment."""
        if not self._segments:
            # In silence there is nobody to name, so there is nothing to wait for.
            self._is_over = True
            self.stop()
        await asyncio.wait({self._concluding})
        if not self._is_over and not self._speakers.are_told:
            await self._warn(_NO_VOICES)

    def stop(self) -> None:
        """Wait for diarization no longer."""
        self._following.cancel()

    async def _follow(self, diarize: Diarize, speakers: int) -> None:
        await self._may_tell.wait()
        try:
            async with aclosing(diarize(aiter(self._audio), speakers)) as events:
                async for event in events:
                    if isinstance(event, Update):
                        self._speakers.update(event)
                        await self._tell()
                    else:
                        self._speakers.finish()
                        await self._tell()
                        for warning in event.warnings:
                            await self._warn(warning)
        except SttError as error:
            await self._fail(error)
        except ConnectionError:
            raise
        except Exception:  # a fault of ours must not take the words along
            _log.exception("live diarization broke")
            await self._fail(SttError(Reason.INTERNAL, "Diarization failed."))

    async def _conclude(self) -> None:
        await asyncio.wait({self._following})
        await self._may_tell.wait()
        if self._following.cancelled() and not self._is_over:
            message = "The diarization service does not keep up with this session."
            await self._fail(SttError(Reason.OVERLOADED, message))

    async def _fail(self, error: SttError) -> None:
        """Go on without diarization: tell what it knew, and that no more will come."""
        _log.warning("live diarization failed", reason=str(error.reason), message=error.message)
        self._is_over = True
        self._audio.drop()
        await self._tell(is_last=True)
        await self._warn(f"No {'more ' * self._speakers.are_told}speakers are named: {error.message}")
        self._speakers = Speakers()

    async def _tell(self, *, is_last: bool = False) -> None:
        async with self._telling:
            for message in self._dialect.speakers(self._speakers.due(is_last=is_last)):
                await self._send(message)

    async def _warn(self, warning: str) -> None:
        self.warnings = (*self.warnings, warning)
        await self._send(self._dialect.warning(warning))
