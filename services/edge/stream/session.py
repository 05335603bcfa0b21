"""One live session's rules: who may wait how long for whom, what ends it, and what is sent before that.

How frames look on the wire is `websocket`'s, what they mean is `dialects`'. Three tasks work here: one reads the
client, one tells him what recognition hears, and one watches the clock; `naming` may add two that tell who speaks.
The first to fail ends all of them; but a client's mistake, or a limit, only ends his audio: what came before it is
heard to its end, and told him before he is told why.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from math import inf
from typing import Any

from services.common.audio import SAMPLE_BYTES, Flush
from services.common.errors import Reason, SttError
from services.common.metrics import AUDIO_SECONDS
from services.edge.engine import Partial, Recognized, Started
from services.edge.params import LiveParams
from services.edge.settings import EdgeSettings
from services.edge.stream.allowance import Allowance
from services.edge.stream.audio import BYTES_PER_S, AudioQueue
from services.edge.stream.contact import Contact, Peer
from services.edge.stream.dialects import Control, Dialect, Message, Opening, open_session, pieces
from services.edge.stream.encoding import Intake
from services.edge.stream.naming import BACKLOG_BYTES, Diarize, Naming
from services.edge.transcript import Segment

_TICK_S = 0.25
_RETRY_AFTER_S = 5.0
_HOLD_BEYOND_LAG_S = 3.0
"""How much more audio than the lag limit the queue holds: who sends in real time reaches that limit first."""

Heard = AsyncGenerator[Started | Partial | Segment | Recognized, None]
Listen = Callable[[AsyncIterator[bytes | Flush], LiveParams], Heard]
"""Recognition: given audio and what is asked for, yields what it hears."""


class Session:
    """A live session; `run` it once. `choose` reads a config, whose absent fields are the query's.

    `allowance` says how much of the audio may be heard.
    """

    def __init__(
        self,
        peer: Peer,
        listen: Listen,
        diarize: Diarize,
        choose: Callable[[Mapping[str, Any]], LiveParams],
        allowance: Allowance,
        settings: EdgeSettings,
    ) -> None:
        self._peer = peer
        self._recognition = listen
        self._diarization = diarize
        self._choose = choose
        self._allowance = allowance
        self._settings = settings
        self._now = asyncio.get_running_loop().time
        # Flushes in silence are a sign of life to a service that ends what stands still.
        limit_bytes = round((settings.stream_lag_s + _HOLD_BEYOND_LAG_S) * BYTES_PER_S)
        self._audio = AudioQueue(limit_bytes, settings.stream_keepalive_s, self._now)
        self._contact = Contact(peer, settings)
        self._intake = Intake()
        self._began_s = self._now()
        self._opening: asyncio.Future[tuple[Opening, LiveParams] | None] = asyncio.get_running_loop().create_future()
        self._dialect: Dialect | None = None
        self._naming: Naming | None = None
        self._is_recognized = False
        self._final_s = 0.0
        self._progress_s = 0.0
        """When recognition was last heard of, or the audio ended."""
        self._patience_s = settings.stream_finish_s
        """How long after that recognition may stand still."""
        self._started_by_s = self._finished_by_s = inf
        self._farewell: SttError | None = None
        self._is_cut = False
        """Whether audio came that was not taken."""
        self.is_wordless = False
        """Whether speech was heard to the end, and none of it understood."""
        self.ended = asyncio.Event()

    @property
    def audio_samples(self) -> int:
        """How much audio was received."""
        return self._audio.received_bytes // SAMPLE_BYTES

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return, when the session is over, which part of its audio was not heard to the end, where that is any."""
        received_s = self._audio.received_bytes / BYTES_PER_S
        if not received_s or (self._is_recognized and not self._is_cut):
            return ()
        heard_s = received_s if self._is_recognized else self._final_s
        return (f"Audio from {heard_s:.1f} seconds on was not transcribed.",)

    @property
    def _is_held(self) -> bool:
        """Whether the client is held back now."""
        return self._audio.is_held or (self._naming is not None and self._naming.is_held)

    async def run(self) -> None:
        """Return when everything is said, the last message included; raise why it ended where it did not end well."""
        try:
            async with asyncio.TaskGroup() as tasks:
                helpers = [tasks.create_task(self._read(tasks)), tasks.create_task(self._watch())]
                await self._talk()
                for helper in helpers:
                    helper.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            self._end_audio()
            self.ended.set()
        if self._farewell is not None:
            raise self._farewell

    def leave(self, within_s: float) -> None:
        """End the session because the server stops: what was heard is finalized, if that takes at most `within_s`."""
        self._end(SttError(Reason.SHUTTING_DOWN, "The server is going away; connect again."), within_s)

    async def _talk(self) -> None:
        """Tell the client what recognition hears, to the end."""
        begun = await self._opening
        if begun is None:
            return
        opening, params = begun
        recognized = None
        if opening.first is not Control.STOP:
            recognized = await self._listen(opening.dialect, params)
            if self._naming is not None:
                recognized = await self._name_rest(self._naming, recognized)
        if self._farewell is None:
            await self._peer.send_message(opening.dialect.closing(recognized))

    async def _listen(self, dialect: Dialect, params: LiveParams) -> Recognized:
        self._started_by_s = self._now() + self._settings.probe_deadline_s
        has_words = False
        async with aclosing(self._recognition(aiter(self._audio), params)) as events:
            async for event in events:
                self._progress_s = self._now()
                match event:
                    case Recognized():
                        self._is_recognized = True
                        self.is_wordless = event.voiced_s > 0 and not has_words
                        return replace(event, warnings=(*event.warnings, *params.warnings))
                    case Started():
                        self._dialect = dialect
                        self._started_by_s = inf
                        known = replace(event, warnings=(*event.warnings, *params.warnings))
                        for message in dialect.started(known):
                            await self._peer.send_message(message)
                        if self._naming is not None:
                            self._naming.begin()
                    case Partial():
                        await self._peer.send_message(dialect.partial(event))
                    case Segment():
                        has_words = True
                        self._final_s = event.end_s
                        for piece in pieces(event):
                            await self._tell(piece, dialect.transcript(piece))
        raise AssertionError("recognition ends with Recognized or an error")

    async def _tell(self, segment: Segment, message: Message) -> None:
        if self._naming is None:
            await self._peer.send_message(message)
        else:
            await self._naming.tell(segment, message)

    async def _name_rest(self, naming: Naming, recognized: Recognized) -> Recognized:
        """Give diarization a little time after recognition; return what recognition ended with, all warnings in it."""
        patience_s = min(self._settings.stream_speakers_wait_s, self._settings.stream_finish_s)
        self._finished_by_s = min(self._finished_by_s, self._now() + patience_s)
        await naming.finish()
        return replace(recognized, warnings=(*recognized.warnings, *naming.warnings))

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        """Hear the client, to the end: what comes after it is ignored."""
        dialect: Dialect | None = None
        while self._peer.is_readable:
            try:
                frame = await self._peer.receive_frame()
                if self._audio.is_ended:
                    self._is_cut |= isinstance(frame, bytes) and frame != b""
                elif dialect is None:
                    opening = open_session(frame)
                    dialect = opening.dialect
                    self._open(opening, tasks)
                    await self._take(opening.first)
                else:
                    await self._take(dialect.read(frame))
            except EOFError:
                if not self._audio.is_ended:
                    raise ConnectionResetError("the client has hung up") from None
            except SttError as error:
                self._is_cut |= not self._peer.is_readable and dialect is not None
                self._end(error)

    def _open(self, opening: Opening, tasks: asyncio.TaskGroup) -> None:
        params = self._choose(opening.config)
        if params.diarize and opening.first is not Control.STOP:
            self._naming = self._name(opening.dialect, params.speakers, tasks)
        self._opening.set_result((opening, params))

    def _name(self, dialect: Dialect, speakers: int, tasks: asyncio.TaskGroup) -> Naming:
        audio = AudioQueue(BACKLOG_BYTES, self._settings.stream_keepalive_s, self._now)
        send, patience_s = self._peer.send_message, self._settings.stream_speakers_wait_s
        return Naming(self._diarization, speakers, audio, dialect, send, tasks, patience_s)

    async def _take(self, content: bytes | Control) -> None:
        if isinstance(content, bytes):
            await self._put(self._intake.push(content))
        elif content is Control.STOP:
            await self._put(self._intake.rest())
            self._end(None)

    async def _put(self, pcm: bytes) -> None:
        received_bytes = self._audio.received_bytes
        allowed_bytes, error = await self._allowance.ask(received_bytes, len(pcm))
        await self._audio.put(pcm[:allowed_bytes])
        taken_bytes = self._audio.received_bytes - received_bytes
        AUDIO_SECONDS.labels("live").inc(taken_bytes / BYTES_PER_S)
        self._is_cut |= taken_bytes < len(pcm)
        if self._naming is not None:
            await self._naming.hear(pcm[:allowed_bytes])
        if error is not None:
            self._end(error)

    def _end(self, farewell: SttError | None, within_s: float = inf) -> None:
        """Take no more audio; `farewell` says why, where the client did not ask for it."""
        self._finished_by_s = min(self._finished_by_s, self._now() + within_s)
        if self._audio.is_ended:
            return
        self._farewell = farewell
        self._progress_s = self._now()
        self._end_audio()
        if not self._opening.done():
            self._opening.set_result(None)

    def _end_audio(self) -> None:
        self._audio.end()
        if self._naming is not None:
            self._naming.end()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._check_recognition()
            self._check_client()
            beat = None if self._dialect is None else self._dialect.beat()
            await self._contact.keep(beat, is_read=not self._is_held)

    def _check_recognition(self) -> None:
        settings, audio, now_s = self._settings, self._audio, self._now()
        is_late = now_s > min(self._started_by_s, self._finished_by_s)
        if self._is_recognized:
            if is_late and self._naming is not None:
                self._naming.stop()
            return
        is_stuck = audio.backlog_bytes and now_s - audio.taken_s > settings.stream_idle_s
        is_left = audio.is_ended and now_s - max(self._progress_s, audio.taken_s) > self._patience_s
        if is_stuck or is_left or is_late:
            # Who was to be sent off with what is left is told why he was, not what came in between.
            raise self._farewell or SttError(
                Reason.DEADLINE_EXCEEDED,
                "The recognition service did not answer in time.",
                retry_after_s=_RETRY_AFTER_S,
            )
        if not audio.is_ended and audio.lag_s > settings.stream_lag_s:
            error = SttError(
                Reason.OVERLOADED,
                f"The server cannot keep up: audio waits longer than {settings.stream_lag_s:g} seconds; try again.",
                retry_after_s=_RETRY_AFTER_S,
            )
            # Who speaks on into nothing is not kept waiting for a recognition that hangs.
            self._patience_s = settings.stream_lag_s
            self._end(error)

    def _check_client(self) -> None:
        settings, audio, now_s = self._settings, self._audio, self._now()
        if not self._is_held and now_s - audio.arrived_s > settings.stream_idle_s:
            self._end(SttError(Reason.IDLE_TIMEOUT, f"No audio was sent for {settings.stream_idle_s:g} seconds."))
        if now_s - self._began_s > settings.stream_max_s:
            error = SttError(Reason.TOO_LARGE, f"A session may last {settings.stream_max_s} seconds; connect again.")
            self._end(error)
