"""A session's rules without a wire: a client and a recognition that do what a test says."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from services.common.audio import Flush
from services.common.errors import SttError
from services.edge.engine import Diarized, Partial, Recognized, Started, Update
from services.edge.params import LiveParams
from services.edge.settings import EdgeSettings
from services.edge.stream.allowance import Allowance
from services.edge.stream.session import Session
from services.edge.transcript import Segment

FRAME = bytes(3_200)
STOP = '{"action": "stop"}'


class FakePeer:
    """A client that has sent `frames`, and then nothing."""

    def __init__(self, *frames: str | bytes) -> None:
        self.told: list[dict[str, Any]] = []
        self.is_readable = True
        self.heard_s = self.told_s = asyncio.get_running_loop().time()
        self._frames = list(frames)

    async def receive_frame(self) -> str | bytes:
        if not self._frames:
            await asyncio.Event().wait()
        return self._frames.pop(0)

    async def send_message(self, message: dict[str, Any]) -> None:
        self.told.append(message)

    async def send_ping(self) -> None:
        pass

    async def send_pong(self) -> None:
        pass

    def is_gone(self) -> bool:
        return False


class SlowRecognition:
    """Takes nothing for `after_s`, then everything."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self.pcm = b""

    async def listen(
        self, audio: AsyncIterator[bytes | Flush], params: LiveParams
    ) -> AsyncGenerator[Started | Partial | Segment | Recognized, None]:
        yield Started(params.model, ())
        await asyncio.sleep(self._after_s)
        async for portion in audio:
            assert isinstance(portion, bytes)
            self.pcm += portion
        yield Recognized(params.model, "en", 0.0, ())


def no_diarization(audio: AsyncIterator[bytes | Flush], speakers: int) -> AsyncGenerator[Update | Diarized, None]:
    """For clients who do not ask for speakers."""
    raise AssertionError("nobody asked for speakers")


class EndlessAllowance(Allowance):
    """Lets all audio be heard."""

    def __init__(self) -> None:
        pass

    async def ask(self, heard_bytes: int, more_bytes: int) -> tuple[int, SttError | None]:
        return more_bytes, None


def session_of(peer: FakePeer, recognition: SlowRecognition) -> Session:
    settings = EdgeSettings(stream_lag_s=0.7)
    params = LiveParams("any", "en")
    return Session(peer, recognition.listen, no_diarization, lambda config: params, EndlessAllowance(), settings)


async def test_audio_that_waits_too_long_ends_a_session() -> None:
    with pytest.raises(SttError, match="cannot keep up"):
        await session_of(FakePeer(FRAME), SlowRecognition(after_s=60)).run()


async def test_audio_that_waited_too_long_is_heard_before_its_session_ends_for_that() -> None:
    recognition = SlowRecognition(after_s=1.2)
    with pytest.raises(SttError, match="cannot keep up"):
        await session_of(FakePeer(FRAME), recognition).run()
    assert recognition.pcm == FRAME


async def test_after_the_stop_the_rest_may_take_its_own_time() -> None:
    peer, recognition = FakePeer(FRAME, STOP), SlowRecognition(after_s=1)
    await session_of(peer, recognition).run()
    assert peer.told[-1]["final"]
    assert recognition.pcm == FRAME
