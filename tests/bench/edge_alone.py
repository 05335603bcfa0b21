"""The edge alone: live sessions on one core, with a recognition behind them that does nothing but answer.

Run as a program it is that recognition: `python -m tests.bench.edge_alone PORT`. It answers every second of audio with
a partial that says when (CLOCK_MONOTONIC, the same in all processes) the audio came in: from there to the client is the
way back, from the client's sending to there the way in.
"""

import asyncio
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import aiohttp
import grpc
import psutil
from stt.asr.v1 import asr_pb2, asr_pb2_grpc

from tests.bench.account import Account, paid_account
from tests.bench.figures import Figure, Measured, Target
from tests.bench.latency import percentiles
from tests.bench.plan import Plan
from tests.bench.system import free_ports, port_settings, tree_rss

_SESSIONS, _STEP, _MOST = 200, 100, 1000
_SECONDS, _QUICK_SECONDS = 20, 5
_LATENCY_MS, _SESSION_MIB = 20, 1.0
_FRAME_S, _FRAME_BYTES = 0.1, 3200
_BYTES_PER_S = 32_000
_START_S, _STOP_S, _CLOSING_S = 30.0, 10.0, 30.0
_HOST = "127.0.0.1"
_MIB = 1024 * 1024


@dataclass
class _Load:
    """What a number of sessions saw, in seconds: the way in, the way back, and both."""

    in_s: list[float] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)
    both_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    """By how much the client itself sent late: what it measures is no better than this."""
    failed: int = 0
    session_mib: float = 0.0
    cores_busy: float = 0.0


def measure(plan: Plan, log_dir: Path) -> Measured:
    """Hold 200 sessions against the edge on one core and, with `--long`, more until it adds too much latency."""
    seconds = _QUICK_SECONDS if plan.quick else _SECONDS
    series: dict[str, list[float]] = {"sessions": [], "p50_ms": [], "p95_ms": [], "cores_busy": []}
    figures: list[Figure] = []
    broke_at = None
    for count in range(_SESSIONS, _MOST + 1, _STEP) if plan.long else (_SESSIONS,):
        plan.say(f"edge-alone: {count} sessions")
        with (
            (log_dir / "edge-alone.log").open("wb") as log,
            paid_account() as account,
            _edge(log, account) as (process, address),
        ):
            load = asyncio.run(_hold(address, account, process, count, seconds))
        p50, p95, p99 = (1000 * value for value in percentiles(load.both_s))
        in_ms, back_ms, late_ms = (1000 * percentiles(each)[1] for each in (load.in_s, load.back_s, load.late_s))
        series["sessions"].append(count)
        series["p50_ms"].append(p50)
        series["p95_ms"].append(p95)
        series["cores_busy"].append(load.cores_busy)
        is_target = count == _SESSIONS
        figures += [
            Figure(
                f"edge alone, added latency p95, {count} sessions",
                p95,
                "ms",
                Target(_LATENCY_MS) if is_target else None,
                note=f"p50 / p95 / p99 {p50:.1f} / {p95:.1f} / {p99:.1f}; p95 in {in_ms:.1f}, back {back_ms:.1f}, "
                f"client itself {late_ms:.1f} late; {load.cores_busy:.2f} of its core; {load.failed} failed; "
                f"load average {os.getloadavg()[0]:.1f}",
            ),
            Figure(
                f"edge alone, RSS per session, {count} sessions",
                load.session_mib,
                "MiB",
                Target(_SESSION_MIB) if is_target else None,
            ),
        ]
        if p95 > _LATENCY_MS or load.failed:
            broke_at = count
            break
    why = "the first count above the target" if broke_at else f"not reached by {series['sessions'][-1]:g} sessions"
    note = why if plan.long or broke_at else f"{why}; more only with --long"
    figures.append(Figure("edge alone, sessions at which it breaks", broke_at, note=note))
    return Measured(figures, {"edge_alone": series})


@contextmanager
def _edge(log: IO[bytes], account: Account) -> Iterator[tuple[psutil.Process, str]]:
    """Start the recognition and the edge, which gets the last core for itself; yields the edge and its address."""
    ports = free_ports()
    environment = {**os.environ, **port_settings(ports), **account.settings}
    cores = os.sched_getaffinity(0)
    own = {max(cores)}
    others = cores - own or own
    processes: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen([sys.executable, "-m", *command], env=environment, stdout=log, stderr=log))
        return processes[-1]

    try:
        nothing = start("tests.bench.edge_alone", str(ports["asr"]))
        with grpc.insecure_channel(f"{_HOST}:{ports['asr']}") as channel:
            grpc.channel_ready_future(channel).result(_START_S)
        edge = start("services.edge")
        _wait_until_up(edge, ports["edge"])
        for pid, pinned in ((nothing.pid, others), (edge.pid, own), (os.getpid(), others)):
            _pin(pid, pinned)
        yield psutil.Process(edge.pid), f"{_HOST}:{ports['edge']}"
    finally:
        _pin(os.getpid(), cores)
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _pin(pid: int, cores: set[int]) -> None:
    """Keep all threads of a process to `cores`."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def _wait_until_up(edge: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and edge.poll() is None:
        connection = http.client.HTTPConnection(_HOST, port, timeout=5)
        try:
            connection.request("GET", "/v1/models")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise RuntimeError("the edge alone did not start")


async def _hold(address: str, account: Account, edge: psutil.Process, count: int, seconds: int) -> _Load:
    """Hold `count` sessions at once whose frames are spread evenly over the time."""
    load = _Load()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=account.headers) as client:
        # What the first session makes the edge load is not a session's.
        await _session(client, address, time.monotonic(), 1, _Load())
        idle = tree_rss(edge)
        ready = time.monotonic() + 2 + count / 100
        sessions = [
            asyncio.create_task(_session(client, address, ready + number * _FRAME_S / count, seconds, load))
            for number in range(count)
        ]
        await asyncio.sleep(ready - time.monotonic())
        spent, began = sum(edge.cpu_times()[:2]), time.monotonic()
        await asyncio.sleep(seconds - 1)
        load.session_mib = (tree_rss(edge) - idle) / count / _MIB
        load.cores_busy = (sum(edge.cpu_times()[:2]) - spent) / (time.monotonic() - began)
        for outcome in await asyncio.gather(*sessions, return_exceptions=True):
            load.failed += outcome is not None
    return load


async def _session(client: aiohttp.ClientSession, address: str, start: float, seconds: int, load: _Load) -> None:
    """Connect, begin to send at `start`, and time the answer to every second of audio."""
    frames = round(seconds / _FRAME_S)
    sent_s: list[float] = []
    async with asyncio.timeout(start - time.monotonic() + seconds + _CLOSING_S):
        async with client.ws_connect(f"ws://{address}/v1/stream") as socket:
            await socket.send_json({"model": "nothing-en", "language": "en"})
            if (ready := await socket.receive_json()).get("status") != "ready":
                raise RuntimeError(f"unexpected: {ready}")
            reading = asyncio.create_task(_read(socket, sent_s, load))
            try:
                for number in range(frames):
                    due = start + number * _FRAME_S
                    await asyncio.sleep(due - time.monotonic())
                    now = time.monotonic()
                    load.late_s.append(now - due)
                    if (number + 1) * _FRAME_BYTES % _BYTES_PER_S == 0:
                        sent_s.append(now)
                    await socket.send_bytes(bytes(_FRAME_BYTES))
                await socket.send_str('{"action": "stop"}')
                await reading
            finally:
                reading.cancel()


async def _read(socket: aiohttp.ClientWebSocketResponse, sent_s: list[float], load: _Load) -> None:
    async for frame in socket:
        arrived_s = time.monotonic()
        message: dict[str, Any] = json.loads(frame.data)
        if message.get("is_final"):
            return
        if message.get("type") != "partial":
            raise RuntimeError(f"unexpected: {message}")
        second, heard_s = message["partial"].split()
        sent = sent_s[int(second)]
        load.in_s.append(float(heard_s) - sent)
        load.back_s.append(arrived_s - float(heard_s))
        load.both_s.append(arrived_s - sent)
    raise RuntimeError("the session was closed")


class _Nothing(asr_pb2_grpc.AsrServiceServicer):
    """Recognition without an engine."""

    async def Transcribe(
        self, request_iterator: AsyncIterator[asr_pb2.TranscribeRequest], context: Any
    ) -> AsyncIterator[asr_pb2.TranscribeResponse]:
        yield asr_pb2.TranscribeResponse(started=asr_pb2.TranscribeStarted(model="nothing-en"))
        heard_bytes = told = 0
        async for request in request_iterator:
            heard_bytes += len(request.audio)
            while told < heard_bytes // _BYTES_PER_S:
                text = f"{told} {time.monotonic():.6f}"
                told += 1
                yield asr_pb2.TranscribeResponse(partial=asr_pb2.Partial(text=text))
        samples = heard_bytes // 2
        yield asr_pb2.TranscribeResponse(
            finished=asr_pb2.TranscribeFinished(samples=samples, duration_s=samples / 16_000, language="en")
        )

    async def ListModels(self, request: Any, context: Any) -> asr_pb2.ListModelsResponse:
        model = asr_pb2.Model(id="nothing-en", name="Nothing", languages=["en"], available=True)
        return asr_pb2.ListModelsResponse(models=[model], device=asr_pb2.Device(kind="cpu"))


async def _serve(port: int) -> None:
    server = grpc.aio.server()
    asr_pb2_grpc.add_AsrServiceServicer_to_server(_Nothing(), server)
    server.add_insecure_port(f"{_HOST}:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
