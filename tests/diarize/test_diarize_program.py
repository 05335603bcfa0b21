"""The program itself: it starts, says where it listens, answers, and stops when told."""

import asyncio
import json
import os
import signal
import sys

import grpc
from stt.diarize.v1 import diarize_pb2_grpc

from tests.diarize.conftest import Server


async def test_the_program_starts_answers_and_stops_on_sigterm() -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.diarize",
        env={**os.environ, "DIARIZE_PORT": "0", "LOG_FORMAT": "json"},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            assert program.stderr is not None
            ready = json.loads(await program.stderr.readline())
            assert (ready["event"], ready["model"]) == ("ready", "pyannote-community-1")
            async with grpc.aio.insecure_channel(f"127.0.0.1:{ready['port']}") as channel:
                answer = await Server(diarize_pb2_grpc.DiarizeServiceStub(channel)).diarize(bytes(32_000))
                assert answer.finished.model == "pyannote-community-1"
            program.send_signal(signal.SIGTERM)
            assert await program.wait() == 0
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


async def test_help_prints_every_setting() -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.diarize", "--help", stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await program.communicate()
    assert program.returncode == 0
    for name in ("HOST", "PORT", "WORKERS", "AHEAD", "MAX_REQUESTS", "MAX_AUDIO_S", "STEPS_S"):
        assert f"DIARIZE_{name}" in printed.decode()
