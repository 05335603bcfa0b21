"""The program itself with Qwen: it starts, answers once the model is loaded, and stops when told."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import grpc
from stt.summarize.v1 import summarize_pb2, summarize_pb2_grpc

from tests.outside import metrics


async def test_the_program_loads_the_model_answers_and_stops_on_sigterm(model_dir: Path) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.summarize",
        env={
            **os.environ, "SUMMARIZE_PORT": "0", "SUMMARIZE_LOAD_WAIT_S": "60", "LOG_FORMAT": "json",
            "MODEL_DIR": str(model_dir), "OMP_NUM_THREADS": "1", "SUMMARIZE_DEVICE": "cpu",
        },
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(90):
            assert program.stderr is not None
            first, ready = [json.loads(await program.stderr.readline()) for _ in range(2)]
            assert first["event"] == "model being loaded"
            assert (ready["event"], ready["model"]) == ("ready", "qwen2.5-1.5b-instruct")
            async with grpc.aio.insecure_channel(f"127.0.0.1:{ready['port']}") as channel:
                stub = summarize_pb2_grpc.SummarizeServiceStub(channel)
                request = summarize_pb2.SummarizeRequest(
                    text="We talk about the launch of the app.", style=summarize_pb2.STYLE_HEADLINE
                )
                events = [event async for event in stub.Summarize(request)]
            assert events[-1].finished.model == "qwen2.5-1.5b-instruct"
            shown = await metrics(ready["metrics_port"])
            assert 'stt_model_loaded{device="cpu",model="qwen2.5-1.5b-instruct"} 1.0' in shown
            assert 'stt_engine_workers{device="cpu"} 1.0' in shown
            program.send_signal(signal.SIGTERM)
            *logged, _ = [json.loads(line) async for line in program.stderr]
            said = {line["event"]: line for line in logged}
            assert said["model loaded"]["model"] == "qwen2.5-1.5b-instruct"
            assert said["weights loaded"]["cache_tokens"] > 2 * 6_000
            assert await program.wait() == 0
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
