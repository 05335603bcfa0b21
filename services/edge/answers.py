"""How the answer to a transcription travels: as one document, as JSON that says early that it is coming, or as events.

A caller who waits in silence gives up: the vendor's SDKs and most proxies do so within minutes. JSON may begin with
white space, so a long wait sends that. A text, SRT or VTT document may not, so it comes when it is there.
Once a head is sent its 200 cannot be taken back: from there on an error ends JSON by aborting the connection, and a
stream of events with an `error` event.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, cast

from aiohttp import web

from services.common.errors import SttError
from services.edge import errors, formats, subtitles
from services.edge.connection import Connection
from services.edge.engine import Progress
from services.edge.keys import SETTINGS
from services.edge.metering.answers import StoredAnswer
from services.edge.middlewares import REPLAYED_HEADER, REQUEST_ID
from services.edge.params import ResponseFormat
from services.edge.tasks import end
from services.edge.transcript import Segment, Transcript

_DOCUMENTS: dict[ResponseFormat, tuple[str, Callable[[Transcript], str]]] = {
    "txt": ("text/plain", lambda transcript: transcript.text),
    "srt": ("application/x-subrip", subtitles.to_srt),
    "vtt": ("text/vtt", subtitles.to_vtt),
}
_PIECE_BYTES = 65_536
"""What a caller has to read within the time limit for writes."""


class Answer:
    """The JSON answer; the other kinds differ in what they override."""

    content_type: ClassVar[str] = "application/json"

    def __init__(self, request: web.Request, duration_s: float, response_format: ResponseFormat) -> None:
        self._request = request
        self._duration_s = duration_s
        self._format = response_format
        self._settings = request.app[SETTINGS]
        self._response = web.StreamResponse(headers=self._headers())
        self._writing = asyncio.Lock()
        self.is_given = False
        """Whether the caller has got what he pays for: by all that is known he has read it."""

    @property
    def media_type(self) -> str:
        """Its whole Content-Type."""
        return self._response.headers["Content-Type"]

    @property
    def has_begun(self) -> bool:
        """Whether its head is sent."""
        return self._response.prepared

    async def report(self, event: Progress | Segment) -> None:
        """Tell the caller what happens, where this kind of answer can."""

    async def beat(self) -> None:
        """Show the caller that the answer is still coming."""
        await self._write(b" ")

    async def beat_at_eof(self) -> None:
        """Beat where the caller ends his side of the connection: what is sent finds out whether he is gone."""
        await cast(Connection, self._request.protocol).half_closed.wait()
        if self.has_begun:
            await self.beat()

    async def render(self, transcript: Transcript) -> bytes:
        """Return what ends the answer: the transcript as it is sent."""
        return await asyncio.to_thread(lambda: _dump(self._content(transcript)))

    async def finish(self, data: bytes) -> web.StreamResponse:
        """Send what `render` returned and end the answer."""
        response = await self._end(data)
        self.is_given = True
        return response

    async def fail(self, error: SttError) -> web.StreamResponse:
        """End an answer that has begun."""
        return self.abort()

    def abort(self) -> web.StreamResponse:
        """Cut the connection, so that nobody takes what was sent for the whole."""
        if self._request.transport is not None:
            self._request.transport.abort()
        return self._response

    def _headers(self) -> dict[str, str]:
        return {"Content-Type": self.content_type + "; charset=utf-8"}

    def _content(self, transcript: Transcript) -> dict[str, Any]:
        return formats.to_json(transcript)

    async def _end(self, data: bytes) -> web.StreamResponse:
        if not self.has_begun:
            self._response.content_length = len(data)
        await self._write(data)
        await self._timely(self._response.write_eof())
        return self._response

    async def _write(self, data: bytes) -> None:
        """Send `data`, after the head where that is not sent yet."""
        async with self._writing:
            if not self.has_begun:
                await self._response.prepare(self._request)
                if self._request.transport is not None:
                    # Written is what the kernel has: should this process die, it still arrives.
                    self._request.transport.set_write_buffer_limits(high=0)
            for start in range(0, len(data), _PIECE_BYTES):
                await self._timely(self._response.write(data[start : start + _PIECE_BYTES]))

    async def _timely(self, writing: Awaitable[None]) -> None:
        """Wait until the caller has read on; who does not is cut off."""
        try:
            async with asyncio.timeout(self._settings.write_timeout_s):
                await writing
        except TimeoutError:
            self.abort()
            raise ConnectionAbortedError("the caller does not read the answer") from None


class WrappedDocument(Answer):
    """A document as `{"text": ...}`: the vendor's Python SDK parses every 200 as JSON and knows no other."""

    def _content(self, transcript: Transcript) -> dict[str, Any]:
        _, render = _DOCUMENTS[self._format]
        return {"text": render(transcript)}


class Document(Answer):
    """A text, SRT or VTT document; nothing is sent before it is whole."""

    def _headers(self) -> dict[str, str]:
        content_type, _ = _DOCUMENTS[self._format]
        return {"Content-Type": content_type + "; charset=utf-8"}

    async def beat(self) -> None:
        """Send nothing: white space at its start would change the document."""

    async def render(self, transcript: Transcript) -> bytes:
        """Return the document."""
        _, render = _DOCUMENTS[self._format]
        return (await asyncio.to_thread(render, transcript)).encode()


class EventStream(Answer):
    """Server-sent events: `progress` and `segment` as they come, then `result`, or `error` once the head is sent.

    The result is the JSON answer, whatever `response_format` says. Speakers are known at the end, so only it has them.
    """

    content_type = "text/event-stream"

    def _headers(self) -> dict[str, str]:
        return {**super()._headers(), "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

    async def report(self, event: Progress | Segment) -> None:
        """Send an event."""
        match event:
            case Segment():
                await self._write(_event("segment", formats.segment_to_json(event)))
                self.is_given = True
            case Progress():
                progress = {
                    "stage": event.stage,
                    "processed": round(event.processed_s, 3),
                    "duration": round(self._duration_s, 3),
                }
                await self._write(_event("progress", progress))

    async def beat(self) -> None:
        """Send a comment."""
        await self._write(b":\n\n")

    async def render(self, transcript: Transcript) -> bytes:
        """Return the `result`."""
        return await asyncio.to_thread(lambda: _event("result", self._content(transcript)))

    async def fail(self, error: SttError) -> web.StreamResponse:
        """Send the `error`."""
        return await self._end(_event("error", errors.body(error.message, error.reason, self._request[REQUEST_ID])))


class Replay(Answer):
    """An answer that was given before to the same Idempotency-Key, as it was then."""

    def __init__(self, request: web.Request, first: StoredAnswer) -> None:
        self._first = first
        super().__init__(request, 0.0, "json")

    async def give(self) -> web.StreamResponse:
        """Send it."""
        return await self.finish(self._first.body)

    def _headers(self) -> dict[str, str]:
        return {"Content-Type": self._first.content_type, REPLAYED_HEADER: "true"}


def choose_answer(request: web.Request, duration_s: float, response_format: ResponseFormat) -> Answer:
    """Choose how to answer by what the caller accepts, asks for, and is."""
    kind = Answer
    if "text/event-stream" in request.headers.get("Accept", ""):
        kind = EventStream
    elif response_format in _DOCUMENTS:
        is_sdk = request.headers.get("User-Agent", "").startswith("stt-ai-python/")
        kind = WrappedDocument if is_sdk else Document
    return kind(request, duration_s, response_format)


@asynccontextmanager
async def beating(answer: Answer, after_s: float, every_s: float) -> AsyncIterator[None]:
    """Let `answer` beat while the body runs, the first time after `after_s`, and when the caller sends no more."""

    async def beat() -> None:
        await asyncio.sleep(after_s)
        while True:
            await answer.beat()
            await asyncio.sleep(every_s)

    tasks = [asyncio.create_task(beat()), asyncio.create_task(answer.beat_at_eof())]
    try:
        yield
    finally:
        for task in tasks:
            await end(task)


def _dump(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def _event(name: str, content: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + _dump(content) + b"\n\n"
