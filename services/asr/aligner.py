"""Owns the alignment worker: hands it chunks, one at a time, and replaces it when it crashes or hangs.

How words are found in audio is `alignment`'s business, which never runs in this process.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence

import structlog

from services.asr.engine import Pcm

Spans = list[tuple[int, int]]

_log = structlog.get_logger(__name__)


class Aligner:
    """Finds words in audio, in a process of its own; use as an async context manager."""

    def __init__(self, deadline_s: float) -> None:
        """Give every chunk at most `deadline_s` seconds, the worker's start included."""
        self._deadline_s = deadline_s
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "Aligner":
        """Start the worker, so that the first chunk need not wait for it."""
        self._process = await _start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the worker."""
        await self._end()

    @property
    def pid(self) -> int | None:
        """Return the worker's process id while it runs."""
        return self._process.pid if self._process else None

    async def align(self, samples: Pcm, words: Sequence[str], *, turn_s: float | None = None) -> Spans | None:
        """Return where each word begins and ends, in samples from the chunk's first.

        None where the words do not fit the audio, the worker crashed or hung on them, or others kept it busy for longer
        than `turn_s`.
        """
        try:
            async with asyncio.timeout(turn_s):
                await self._turn.acquire()
        except TimeoutError:
            _log.info("no turn for alignment", turn_s=turn_s)
            return None
        try:
            return await self._align(samples, words)
        finally:
            self._turn.release()

    async def _align(self, samples: Pcm, words: Sequence[str]) -> Spans | None:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._ask_twice(samples, words)
        except TimeoutError:
            _log.warning("alignment took too long", deadline_s=self._deadline_s)
            await self._end()
            return None
        except asyncio.CancelledError:
            # Its answer would be read as the next chunk's.
            await self._end()
            raise

    async def _ask_twice(self, samples: Pcm, words: Sequence[str]) -> Spans | None:
        """Ask; a worker that is found dead is replaced once."""
        for _ in range(2):
            try:
                return await self._ask(samples, words)
            except (ConnectionError, EOFError):
                _log.warning("alignment worker died", returncode=self._process and self._process.returncode)
                await self._end()
        return None

    async def _ask(self, samples: Pcm, words: Sequence[str]) -> Spans | None:
        process = self._process or await self._start()
        requests, answers = process.stdin, process.stdout
        assert requests is not None
        assert answers is not None
        pcm = samples.astype("<i2").tobytes()
        requests.write(json.dumps({"words": list(words), "bytes": len(pcm)}).encode() + b"\n")
        requests.write(pcm)
        await requests.drain()
        line = await answers.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        spans = json.loads(line)["spans"]
        return None if spans is None else [(start, end) for start, end in spans]

    async def _start(self) -> asyncio.subprocess.Process:
        """Start a worker; a caller who is cancelled meanwhile leaves one that can be ended."""
        starting = asyncio.create_task(_start())
        try:
            self._process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._process = await starting
            raise
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        # Its pipes are closed, too, when this returns; after `wait` they are not yet.
        await process.communicate()


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.asr.alignment_worker",
        str(os.getpid()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1024 * 1024,
    )
