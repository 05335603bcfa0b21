"""Files on disk that have no name: uploads and decoded PCM, within one budget. What is in them is not known here.

A spool file is unlinked from the start, so that no crash and no forgotten branch leaves one behind. Blocking calls run
in the event loop's executor, in blocks; memory does not grow with the file.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

from services.edge.media.errors import SpoolFullError
from services.edge.metrics import SPOOL_BYTES, SPOOL_LIMIT_BYTES

BLOCK_BYTES = 1 << 20
"""Size of one disk access: large enough that the hop to a thread costs nothing beside it."""

T = TypeVar("T")


class Spool:
    """The folder for nameless files, and how many bytes they may hold together."""

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._budget_bytes = budget_bytes
        self._used_bytes = 0
        SPOOL_LIMIT_BYTES.set(budget_bytes)

    @property
    def used_bytes(self) -> int:
        """Bytes of the budget that open files hold."""
        return self._used_bytes

    def reserve(self, size_bytes: int) -> None:
        """Take `size_bytes` of the budget; SpoolFullError, with nothing taken, where they are not left."""
        if self._used_bytes + size_bytes > self._budget_bytes:
            raise SpoolFullError
        self._used_bytes += size_bytes
        SPOOL_BYTES.inc(size_bytes)

    def release(self, size_bytes: int) -> None:
        """Give back what `reserve` took."""
        self._used_bytes -= size_bytes
        SPOOL_BYTES.dec(size_bytes)

    def file(self) -> "SpoolFile":
        """Open an empty file, to be closed by its owner."""
        return SpoolFile(self, tempfile.TemporaryFile(dir=self._folder, buffering=0))


class SpoolFile:
    """A nameless file: written by one task, read by any number, each at its own pace."""

    def __init__(self, spool: Spool, file: FileIO) -> None:
        self._spool = spool
        self._file = file
        self._unwritten = bytearray()
        self._in_threads: set[asyncio.Future[Any]] = set()
        self._closed = False
        self.size_bytes = 0

    def fileno(self) -> int:
        """Return the descriptor, for a child process to inherit."""
        return self._file.fileno()

    async def write(self, data: bytes) -> None:
        """Append `data`, which reaches the disk with its block or with `flush`; SpoolFullError past the budget."""
        self._spool.reserve(len(data))
        self.size_bytes += len(data)
        self._unwritten += data
        if len(self._unwritten) >= BLOCK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Bring everything that was written to the disk; SpoolFullError if that is full."""
        block, self._unwritten = self._unwritten, bytearray()
        if block:
            await self._in_thread(_write_all, self._file, block)

    def account_growth(self) -> None:
        """Charge the budget with what a child process has written so far; SpoolFullError past it."""
        grown_bytes = os.fstat(self.fileno()).st_size - self.size_bytes
        self._spool.reserve(grown_bytes)
        self.size_bytes += grown_bytes

    async def chunks(self, chunk_bytes: int) -> AsyncIterator[bytes]:
        """Yield the file from its start in pieces of `chunk_bytes`, the last one shorter."""
        block_bytes = max(chunk_bytes, BLOCK_BYTES - BLOCK_BYTES % chunk_bytes)
        offset = 0
        while block := await self._in_thread(os.pread, self.fileno(), block_bytes, offset):
            for start in range(0, len(block), chunk_bytes):
                yield block[start : start + chunk_bytes]
            offset += len(block)

    def close(self) -> None:
        """Let the file and its share of the budget go, at the latest when the last thread is done with it."""
        self._closed = True
        # A thread cannot be cancelled. Were the descriptor closed under it, it could write into a stranger's file.
        if not self._in_threads and not self._file.closed:
            self._file.close()
            self._spool.release(self.size_bytes)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        future = asyncio.get_running_loop().run_in_executor(None, work, *arguments)
        self._in_threads.add(future)
        future.add_done_callback(self._thread_is_done)
        return await asyncio.shield(future)

    def _thread_is_done(self, future: asyncio.Future[Any]) -> None:
        self._in_threads.discard(future)
        if self._closed:
            future.exception()  # nobody is left to hear of it
            self.close()


def _write_all(file: FileIO, block: bytearray) -> None:
    rest = memoryview(block)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise SpoolFullError from error
