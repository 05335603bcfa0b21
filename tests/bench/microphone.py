"""Live sessions as a browser holds them: a WebSocket, the documented dialect, and audio at a microphone's pace.

What is said, and when it is said, is known from the energy of the clips; what was heard is scored in `latency`.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from services.common.audio import SAMPLE_RATE
from tests.bench.data import Joiner, Samples, Span, voiced_spans, wheel_clips
from tests.bench.system import EMBEDDED_MODEL, System

FRAME_S = 0.1
_MARGIN_S = 0.15
_SHORTEST_S = 1.0
_PAUSE_S = (1.0, 1.8)
_TAIL_S = 2.0
_CLOSING_S = 20.0


@dataclass(frozen=True)
class Speech:
    """Somebody's utterances with silence between them; `spans` (seconds) are where there is voice."""

    samples: Samples
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Talk:
    """What sessions say, and to which model; `speeches` makes it for so many sessions of so many seconds each."""

    model: str
    speeches: Callable[[int, float], list[Speech]]


@dataclass(frozen=True)
class Message:
    """A partial, or a final with its segment's times; `at_s` counts from the session's first sample."""

    at_s: float
    text: str
    span: Span | None

    @property
    def is_final(self) -> bool:
        """Tell whether this text is never changed again."""
        return self.span is not None


@dataclass
class Heard:
    """What one session was told; `closing_s` is how long after the end of its audio it was over."""

    messages: list[Message] = field(default_factory=list)
    closing_s: float = 0.0
    error: str = ""

    @property
    def text(self) -> str:
        """Return all finals."""
        return " ".join(message.text for message in self.messages if message.is_final)


def speeches(count: int, seconds: float) -> list[Speech]:
    """Lay the wheel's utterances out for so many sessions, in another order for each, 1.0 to 1.8 s between them.

    An utterance is what comes within 30 dB of its recording's loudest, pauses under 0.4 s included.
    """
    utterances = []
    for clip in wheel_clips():
        for begin, end in voiced_spans(clip, below_peak_db=30, bridge_s=0.4):
            if end - begin >= _SHORTEST_S:
                first = max(0, round((begin - _MARGIN_S) * SAMPLE_RATE))
                cut = clip[first : round((end + _MARGIN_S) * SAMPLE_RATE)]
                lead_s = begin - first / SAMPLE_RATE
                utterances.append((cut, lead_s, lead_s + end - begin))
    rng = np.random.default_rng(3)
    return [_lay_out(utterances, seconds, rng) for _ in range(count)]


READING = Talk(EMBEDDED_MODEL, speeches)


def _lay_out(utterances: Sequence[tuple[Samples, float, float]], seconds: float, rng: np.random.Generator) -> Speech:
    joiner = Joiner()
    spans = []
    while joiner.samples < seconds * SAMPLE_RATE:
        for pick in rng.permutation(len(utterances)):
            joiner.pause(rng.uniform(*_PAUSE_S))
            clip, begin, end = utterances[pick]
            start_s = joiner.add(clip)
            spans.append((start_s + begin, start_s + end))
            if joiner.samples >= seconds * SAMPLE_RATE:
                break
    joiner.pause(_TAIL_S)
    return Speech(joiner.joined(), tuple(spans))


async def listen_to_all(
    system: System, recordings: Sequence[Samples], at_once: int, model: str = EMBEDDED_MODEL
) -> list[Heard]:
    """Hold a session with the edge for each recording, `at_once` at a time; they begin spread over a second."""
    address = system.address("edge")
    places = asyncio.Semaphore(at_once)

    async def one(number: int, samples: Samples) -> Heard:
        async with places:
            await asyncio.sleep(number % at_once / at_once)
            try:
                return await _listen(client, address, model, samples)
            except aiohttp.ClientError as error:
                return Heard(error=repr(error))

    async with aiohttp.ClientSession(headers=system.account.headers) as client:
        return await asyncio.gather(*(one(number, samples) for number, samples in enumerate(recordings)))


async def _listen(client: aiohttp.ClientSession, address: str, model: str, samples: Samples) -> Heard:
    heard = Heard()
    async with client.ws_connect(f"ws://{address}/v1/stream", max_msg_size=0) as socket:
        await socket.send_json({"model": model, "language": "en"})
        ready = await socket.receive_json(timeout=_CLOSING_S)
        if ready.get("status") != "ready":
            return Heard(error=str(ready))
        began = time.monotonic()
        reading = asyncio.create_task(_read(socket, heard, began))
        try:
            await _speak(socket, samples, began)
            async with asyncio.timeout(_CLOSING_S):
                await reading
        except (TimeoutError, ConnectionError) as error:
            heard.error = heard.error or repr(error)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        heard.closing_s = time.monotonic() - began - len(samples) / SAMPLE_RATE
    return heard


async def _speak(socket: aiohttp.ClientWebSocketResponse, samples: Samples, began: float) -> None:
    frame = round(FRAME_S * SAMPLE_RATE)
    for start in range(0, len(samples), frame):
        piece = samples[start : start + frame]
        # A microphone hands a frame over when its last sample is in.
        await asyncio.sleep(began + (start + len(piece)) / SAMPLE_RATE - time.monotonic())
        await socket.send_bytes(piece.tobytes())
    await socket.send_str('{"action": "stop"}')


async def _read(socket: aiohttp.ClientWebSocketResponse, heard: Heard, began: float) -> None:
    async for frame in socket:
        at_s = time.monotonic() - began
        message = json.loads(frame.data)
        match message.get("type"):
            case "partial":
                heard.messages.append(Message(at_s, message["partial"], None))
            case "transcript":
                heard.messages.append(Message(at_s, message["text"], (message["start"], message["end"])))
            case "error":
                heard.error = message["error"]["message"] if isinstance(message.get("error"), dict) else str(message)
