"""However a decoding ends, its child is gone, its PCM is gone, and the next one works."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest

from services.edge.media.decoder import DecodeLimits, Decoder
from services.edge.media.errors import AudioTooLongError, DecodeTimeoutError, SpoolFullError, UndecodableError
from services.edge.media.spool import Spool, SpoolFile

LONG_AUDIO_S = 36_000


@pytest.fixture
async def endless(spool: Spool, make_wav: Callable[..., bytes]) -> AsyncIterator[SpoolFile]:
    """Ten hours of silence that take no room on the disk and many seconds to decode."""
    with closing(spool.file()) as upload:
        await upload.write(make_wav(np.zeros((1, 8), np.int16), rate=48_000, claimed_bytes=0))
        await upload.flush()
        upload._file.truncate(LONG_AUDIO_S * 48_000 * 16)
        yield upload


async def the_child(parent: psutil.Process | None = None) -> psutil.Process:
    """Wait for the decoding child to be at work."""
    async with asyncio.timeout(10):
        while True:
            for child in (parent or psutil.Process()).children():
                if "services.edge.media.child" in child.cmdline():
                    return child
            await asyncio.sleep(0.01)


async def test_a_killed_child_is_an_undecodable_file(
    spool: Spool, endless: SpoolFile, decode: Callable[..., Awaitable[np.ndarray]], encode: Callable[..., bytes]
) -> None:
    decoding = asyncio.create_task(Decoder(spool, DecodeLimits()).decode(endless, LONG_AUDIO_S))
    (await the_child()).send_signal(signal.SIGSEGV)
    with pytest.raises(UndecodableError):
        await decoding
    assert len(await decode(encode("wav", "pcm_s16le")))


async def test_a_cancelled_decoding_ends_its_child_at_once(spool: Spool, endless: SpoolFile) -> None:
    decoding = asyncio.create_task(Decoder(spool, DecodeLimits()).decode(endless, LONG_AUDIO_S))
    child = await the_child()
    started = time.monotonic()
    decoding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await decoding
    assert time.monotonic() - started < 1
    assert not child.is_running()


async def test_a_decoding_that_takes_too_long_is_ended(spool: Spool, endless: SpoolFile) -> None:
    with pytest.raises(DecodeTimeoutError, match=r"within 0\.5 seconds"):
        await Decoder(spool, DecodeLimits(wall_s=0.5)).decode(endless, LONG_AUDIO_S)


async def test_audio_past_the_cap_is_not_decoded_further(spool: Spool, endless: SpoolFile) -> None:
    with pytest.raises(AudioTooLongError, match="longer than 60 seconds"):
        await Decoder(spool, DecodeLimits()).decode(endless, 60)


async def test_a_full_spool_ends_the_decoding(tmp_path: Path, endless: SpoolFile) -> None:
    small = Spool(tmp_path / "small", budget_bytes=1 << 20)
    with pytest.raises(SpoolFullError):
        await Decoder(small, DecodeLimits()).decode(endless, LONG_AUDIO_S)
    assert small.used_bytes == 0


async def test_more_decodings_than_children_wait_their_turn(
    spool: Spool, endless: SpoolFile, encode: Callable[..., bytes]
) -> None:
    decoder = Decoder(spool, DecodeLimits(children=1))
    first = asyncio.create_task(decoder.decode(endless, LONG_AUDIO_S))
    await the_child()
    with closing(spool.file()) as upload:
        await upload.write(encode("wav", "pcm_s16le"))
        await upload.flush()
        second = asyncio.create_task(decoder.decode(upload, 60))
        assert not (await asyncio.wait({second}, timeout=0.5))[0]
        first.cancel()
        (await second).pcm.close()


async def test_the_child_knows_none_of_its_parents_secrets(
    spool: Spool, endless: SpoolFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_SECRET", "canary")
    decoding = asyncio.create_task(Decoder(spool, DecodeLimits()).decode(endless, LONG_AUDIO_S))
    assert "EDGE_SECRET" not in (await the_child()).environ()
    decoding.cancel()
    await asyncio.wait({decoding})


PARENT = """
import asyncio, sys
from pathlib import Path
from services.edge.media.decoder import DecodeLimits, Decoder
from services.edge.media.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]), 1 << 30)
    upload = spool.file()
    await upload.write(sys.stdin.buffer.read())
    await upload.flush()
    upload._file.truncate(10 << 30)
    await Decoder(spool, DecodeLimits()).decode(upload, 36_000)

asyncio.run(main())
"""


@pytest.fixture
def parent(tmp_path: Path, make_wav: Callable[..., bytes]) -> Iterator[psutil.Process]:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(make_wav(np.zeros((1, 8), np.int16), rate=48_000, claimed_bytes=0))
        process.stdin.close()
        yield psutil.Process(process.pid)


async def test_the_child_dies_with_its_parent(parent: psutil.Process) -> None:
    child = await the_child(parent)
    parent.kill()
    assert psutil.wait_procs([child], timeout=5)[1] == []
