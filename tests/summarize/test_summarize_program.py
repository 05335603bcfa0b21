"""The program itself: it starts, says where it listens, answers, and stops when told."""

import asyncio
import json
import os
import signal
import sys

import grpc
from stt.summarize.v1 import summarize_pb2, summarize_pb2_grpc


async def test_the_program_starts_answers_and_stops_on_sigterm() -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.summarize",
        env={**os.environ, "SUMMARIZE_PORT": "0", "LOG_FORMAT": "json"},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            assert program.stderr is not None
            ready = json.loads(await program.stderr.readline())
            assert (ready["event"], ready["model"]) == ("ready", "extractive-lexrank")
            async with grpc.aio.insecure_channel(f"127.0.0.1:{ready['port']}") as channel:
                stub = summarize_pb2_grpc.SummarizeServiceStub(channel)
                call = stub.Summarize(summarize_pb2.SummarizeRequest(text="The boat sank. Nobody was hurt."))
                assert "".join([event.delta async for event in call]) == "The boat sank. Nobody was hurt."
            program.send_signal(signal.SIGTERM)
            assert await program.wait() == 0
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


async def test_help_prints_every_setting() -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.summarize", "--help", stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await program.communicate()
    assert program.returncode == 0
    for name in ("SUMMARIZE_HOST", "SUMMARIZE_PORT", "SUMMARIZE_MODEL", "SUMMARIZE_MAX_REQUESTS"):
        assert name in printed.decode()
