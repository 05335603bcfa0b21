"""Spool files leave nothing behind, keep to their budget and survive whatever is cancelled around them."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from services.edge.media.errors import SpoolFullError
from services.edge.media.spool import BLOCK_BYTES, Spool, SpoolFile


async def content_of(file: SpoolFile) -> bytes:
    return b"".join([chunk async for chunk in file.chunks(65_536)])


async def test_reads_back_what_was_written_in_pieces_of_any_size(spool: Spool) -> None:
    pieces = [os.urandom(size) for size in (1, 8192, BLOCK_BYTES, 0, BLOCK_BYTES * 2 + 3, 7)]
    with closing(spool.file()) as file:
        for piece in pieces:
            await file.write(piece)
        await file.flush()
        assert await content_of(file) == b"".join(pieces)
        chunks = [chunk async for chunk in file.chunks(65_536)]
        assert {len(chunk) for chunk in chunks[:-1]} == {65_536}
        assert file.size_bytes == sum(map(len, pieces))


async def test_has_no_name_while_it_is_open(spool: Spool, tmp_path: Path) -> None:
    with closing(spool.file()) as file:
        await file.write(bytes(2 * BLOCK_BYTES))
        assert list((tmp_path / "spool").iterdir()) == []


async def test_two_readers_go_at_their_own_pace(spool: Spool) -> None:
    with closing(spool.file()) as file:
        content = os.urandom(3 * BLOCK_BYTES)
        await file.write(content)
        await file.flush()
        slow = file.chunks(1000)
        first = await anext(slow)
        assert await content_of(file) == content
        assert first + b"".join([chunk async for chunk in slow]) == content


async def test_refuses_what_is_past_the_budget_and_has_room_again_afterwards(tmp_path: Path) -> None:
    spool = Spool(tmp_path, budget_bytes=1000)
    with closing(spool.file()) as file, closing(spool.file()) as other:
        await file.write(bytes(600))
        with pytest.raises(SpoolFullError) as refused:
            await other.write(bytes(401))
        assert refused.value.retryable
        await other.write(bytes(400))
    assert spool.used_bytes == 0


async def test_memory_stays_flat_however_much_is_written(spool: Spool) -> None:
    piece = bytes(64 * 1024)
    with closing(spool.file()) as file:
        for _ in range(64):
            await file.write(piece)
        before = psutil.Process().memory_info().rss
        for _ in range(4096):
            await file.write(piece)
        assert file.size_bytes == 4160 * len(piece)
        assert psutil.Process().memory_info().rss - before < 16 << 20


async def test_a_cancelled_write_keeps_its_descriptor_until_its_thread_is_done(spool: Spool) -> None:
    # A thread cannot be cancelled: a descriptor closed under it might be a stranger's by the time it writes.
    gate = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(max_workers=1))
    loop.run_in_executor(None, gate.wait)
    file = spool.file()
    descriptor = file.fileno()
    writing = asyncio.create_task(file.write(bytes(BLOCK_BYTES)))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    file.close()
    assert os.fstat(descriptor).st_size == 0
    assert spool.used_bytes == BLOCK_BYTES
    gate.set()
    await loop.run_in_executor(None, int)
    assert spool.used_bytes == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
