"""A few minutes of everything callers do: files, live sessions, texts, a rush that is too much, and mistakes."""

import asyncio
import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import numpy as np

from services.common.audio import SAMPLE_RATE
from tests.bench.data import Samples, looped, wav_bytes, wheel_clips
from tests.bench.microphone import FRAME_S
from tests.bench.system import EMBEDDED_MODEL

_SESSIONS, _SESSION_S = 4, 40.0
_RUSH_AT, _RUSH, _RUSH_S = 0.4, 20, 8
_FILE_EVERY_S, _TEXT_EVERY_S, _MISTAKE_EVERY_S = 10.0, 3.0, 4.0
_SENTENCES = (
    "Speaker 1: The launch moves to May, because the translation of the manual is late.",
    "Speaker 2: I will tell the press by Friday, and the shops by Monday at the latest.",
    "Speaker 1: Who takes care of the posters that were printed with the old date?",
    "Speaker 3: Anna does; she has asked the printer what a new run would cost.",
)


@dataclass(frozen=True)
class Callers:
    """Where the edge is, and who calls it: the headers of a paid and of a free account."""

    edge: str
    paid: Mapping[str, str]
    free: Mapping[str, str]


async def keep_up(callers: Callers, seconds: float) -> None:
    """Call for so long. What callers are told is theirs to see; a caller who is refused does not end the others."""
    clips = wheel_clips()
    until_s = time.monotonic() + seconds
    async with aiohttp.ClientSession(callers.edge) as client, asyncio.TaskGroup() as tasks:
        for number in range(_SESSIONS):
            tasks.create_task(_speak_again(client, callers, clips, number, until_s))
        tasks.create_task(_upload_again(client, callers, clips, until_s))
        tasks.create_task(_summarize_again(client, callers, until_s))
        tasks.create_task(_err_again(client, callers, until_s))
        tasks.create_task(_rush(client, callers, clips, seconds))


async def _speak_again(
    client: aiohttp.ClientSession, callers: Callers, clips: list[Samples], number: int, until_s: float
) -> None:
    """Hold one live session after the other, each other one with speakers; they begin one by one."""
    await asyncio.sleep(number * 4)
    first = number % len(clips)
    samples = looped(np.concatenate(clips[first:] + clips[:first]), _SESSION_S)
    while time.monotonic() < until_s:
        async with client.ws_connect("/v1/stream", headers=callers.paid) as socket:
            await socket.send_json({"model": EMBEDDED_MODEL, "language": "en", "diarize": number % 2 == 0})
            speaking = asyncio.create_task(_speak(socket, samples, until_s))
            async for _ in socket:
                pass
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
        await asyncio.sleep(3)


async def _speak(socket: aiohttp.ClientWebSocketResponse, samples: Samples, until_s: float) -> None:
    frame = round(FRAME_S * SAMPLE_RATE)
    began_s = time.monotonic()
    for start in range(0, len(samples), frame):
        await asyncio.sleep(began_s + (start + frame) / SAMPLE_RATE - time.monotonic())
        if time.monotonic() > until_s:
            break
        await socket.send_bytes(samples[start : start + frame].tobytes())
    await socket.send_str(json.dumps({"action": "stop"}))


async def _upload_again(client: aiohttp.ClientSession, callers: Callers, clips: list[Samples], until_s: float) -> None:
    for clip, headers in zip(itertools.cycle(clips), itertools.cycle((callers.paid, callers.free)), strict=False):
        if time.monotonic() > until_s:
            return
        await _upload(client, headers, wav_bytes(clip))
        await asyncio.sleep(_FILE_EVERY_S)


async def _upload(client: aiohttp.ClientSession, headers: Mapping[str, str], media: bytes) -> float | None:
    """Return after how many seconds to ask again, where the edge says that."""
    form = aiohttp.FormData({"model": EMBEDDED_MODEL, "diarize": "true"})
    form.add_field("file", media, filename="recording.wav")
    async with client.post("/v1/transcribe", data=form, headers=headers) as response:
        await response.read()
        wait_s = response.headers.get("Retry-After")
    return float(wait_s) if wait_s is not None else None


async def _summarize_again(client: aiohttp.ClientSession, callers: Callers, until_s: float) -> None:
    for length in itertools.cycle((4, 40, 400)):
        if time.monotonic() > until_s:
            return
        text = "\n".join(itertools.islice(itertools.cycle(_SENTENCES), length))
        await _summarize(client, callers.paid, text)
        await asyncio.sleep(_TEXT_EVERY_S)


async def _summarize(client: aiohttp.ClientSession, headers: Mapping[str, str], text: str) -> None:
    async with client.post("/v1/summarize", json={"text": text}, headers=headers) as response:
        await response.read()


async def _err_again(client: aiohttp.ClientSession, callers: Callers, until_s: float) -> None:
    """Send what is no media, a key that nobody gave out, and what is no text."""
    mistakes = itertools.cycle(
        (
            lambda: _upload(client, callers.paid, b"no media at all"),
            lambda: _summarize(client, {"Authorization": "Bearer nobody"}, "text"),
            lambda: _summarize(client, callers.paid, ""),
        )
    )
    while time.monotonic() < until_s:
        await next(mistakes)()
        await asyncio.sleep(_MISTAKE_EVERY_S)


async def _rush(client: aiohttp.ClientSession, callers: Callers, clips: list[Samples], seconds: float) -> None:
    """In the middle send more recordings at once than are taken; who is refused asks again when he is told to."""
    await asyncio.sleep(_RUSH_AT * seconds)
    media = wav_bytes(clips[1][: _RUSH_S * SAMPLE_RATE])

    async def send() -> None:
        wait_s: float | None = 0.0
        while wait_s is not None:
            await asyncio.sleep(wait_s)
            wait_s = await _upload(client, callers.paid, media)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_RUSH):
            tasks.create_task(send())
