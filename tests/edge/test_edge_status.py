"""`python -m services.edge.status`: real servers on two addresses of this machine stand for the replicas."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server

from services.common.server import GrpcServer
from services.common.settings import GrpcSettings
from services.edge.keys import STOPPING
from services.edge.settings import EdgeSettings
from services.edge.status.asking import Look, Replica, StoreNode, look, resolve
from services.edge.status.figures import Metrics, figures
from services.edge.status.screen import as_json, as_text
from tests.edge.conftest import Edge, FakeServices

ONE, OTHER = "127.0.0.1", "127.0.0.2"


class Figured:
    """The metrics of a pretended replica."""

    def __init__(self, started_s: float = 1_000.0) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("stt_requests", "x", ["method", "outcome"], registry=self.registry)
        self.running = Gauge("stt_requests_running", "x", ["kind"], registry=self.registry)
        self.limit = Gauge("stt_requests_limit", "x", ["kind"], registry=self.registry)
        self.length = Gauge("stt_queue_length", "x", ["kind"], registry=self.registry)
        self.wait = Histogram("stt_queue_wait_seconds", "x", ["kind"], buckets=(1, 2, 4), registry=self.registry)
        self.models = Gauge("stt_model_loaded", "x", ["model", "device"], registry=self.registry)
        Gauge("stt_build_info", "x", ["version"], registry=self.registry).labels("1.2.3").set(1)
        Gauge("process_start_time_seconds", "x", registry=self.registry).set(started_s)

    def ended(self, outcome: str, count: int = 1, method: str = "Transcribe") -> None:
        self.requests.labels(method, outcome).inc(count)


class Replicas:
    """Starts replicas, the first of which finds the ports for all of one name."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.metrics_port = 0
        self.port = 0
        self.hosts: list[str] = []

    @property
    def address(self) -> str:
        return f"dns:///many:{self.port}"

    async def resolve(self, name: str) -> list[str]:
        if name == "many":
            return self.hosts
        if name == "nobody":
            raise OSError("no such name")
        return [name]

    async def start(self, host: str, figured: Figured | None, is_ready: Callable[[], bool] = lambda: True) -> None:
        self.hosts.append(host)
        settings = GrpcSettings(host=host, port=self.port, drain_s=0, grace_s=0)
        server = GrpcServer(settings, [], lambda _: None, is_ready=is_ready)
        self.port = await server.start()
        self._stack.push_async_callback(server.stop)
        if figured:
            self.metrics_port = self.show(host, self.metrics_port, figured.registry)

    def show(self, host: str, port: int, registry: CollectorRegistry) -> int:
        server, thread = start_http_server(port, host, registry)
        self._stack.callback(thread.join)
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)
        return int(server.server_port)


@pytest.fixture
async def replicas() -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        yield Replicas(stack)


@pytest.fixture
def settings(edge: Edge, fakes: FakeServices, store_dir: Path, replicas: Replicas) -> EdgeSettings:
    """Of a house that is healthy, whose metrics cannot be read."""
    own = {"asr_metrics_port": 0, "diarize_metrics_port": 0, "summarize_metrics_port": 0, "metrics_port": 0}
    return EdgeSettings(**own, port=edge.port, redis_url="", data_dir=store_dir, **fakes.addresses)


async def looked(settings: EdgeSettings, replicas: Replicas, **changes: Any) -> Look:
    return await look(settings.model_copy(update=changes), replicas.resolve)


async def look_at_asr(settings: EdgeSettings, replicas: Replicas) -> Look:
    return await looked(settings, replicas, asr_address=replicas.address, asr_metrics_port=replicas.metrics_port)


def told(look: Look, program: str, before: Look | None = None) -> list[dict[str, Any]]:
    """What scripts are told of a program."""
    return [row for row in json.loads(as_json(look, before))["replicas"] if row["program"] == program]


def cells(look: Look, program: str, before: Look | None = None) -> dict[str, str]:
    """The row of a program that people see."""
    head, *rows = as_text(look, before).splitlines()
    row = next(row for row in rows if row.startswith(program))
    starts = [head.index(name) for name in head.split()]
    return {
        name: row[start:end].strip()
        for name, start, end in zip(head.split(), starts, [*starts[1:], len(row)], strict=True)
    }


async def test_a_house_without_metrics_is_healthy_and_has_dashes(settings: EdgeSettings, replicas: Replicas) -> None:
    found = await looked(settings, replicas)
    assert found.is_healthy
    assert [(r.program, r.state) for r in found.replicas] == [
        (name, "serving") for name in ("edge", "asr", "diarize", "summarize")
    ]
    asr = cells(found, "asr")
    assert asr.pop("replica") == settings.asr_address
    assert list(asr.values()) == ["asr", "serving", *["-"] * 6]


async def test_each_address_of_a_name_is_a_replica_with_figures_of_its_own(
    settings: EdgeSettings, replicas: Replicas
) -> None:
    one, other = Figured(), Figured()
    for figured, running in ((one, 3), (other, 5)):
        figured.running.labels("live").set(running)
        figured.limit.labels("live").set(8)
    await replicas.start(ONE, one)
    await replicas.start(OTHER, other)
    rows = told(await look_at_asr(settings, replicas), "asr")
    assert [row["address"] for row in rows] == [f"{ONE}:{replicas.port}", f"{OTHER}:{replicas.port}"]
    assert [row["figures"]["running"] for row in rows] == [{"live": 3}, {"live": 5}]
    assert [row["figures"]["limits"] for row in rows] == [{"live": 8}, {"live": 8}]
    assert {row["figures"]["version"] for row in rows} == {"1.2.3"}


async def test_one_that_is_down_one_that_loads_and_one_without_metrics_are_shown_beside_the_others(
    settings: EdgeSettings, replicas: Replicas
) -> None:
    await replicas.start(ONE, Figured())
    await replicas.start(OTHER, None, is_ready=lambda: False)
    replicas.hosts.append("127.0.0.3")
    found = await look_at_asr(settings, replicas)
    assert not found.is_healthy
    rows = told(found, "asr")
    assert [row["state"] for row in rows] == ["serving", "not serving", "down"]
    assert [row["figures"] is None for row in rows] == [False, True, True]


async def test_a_name_without_an_address_is_a_row(settings: EdgeSettings, replicas: Replicas) -> None:
    found = await looked(settings, replicas, diarize_address="dns:///nobody:1")
    (row,) = told(found, "diarize")
    assert (row["state"], row["address"]) == ("unknown", "dns:///nobody:1")
    assert not found.is_healthy
    assert "diarize dns:///nobody:1: This name has no address." in as_text(found, None)


async def test_who_accepts_and_says_nothing_is_not_waited_for(settings: EdgeSettings, replicas: Replicas) -> None:
    with socket.create_server((ONE, 0)) as silent:
        port = silent.getsockname()[1]
        quiet = {"asr_address": f"{ONE}:{port}", "asr_metrics_port": port, "port": port, "metrics_port": port}
        async with asyncio.timeout(20):
            found = await looked(settings, replicas, probe_deadline_s=0.5, **quiet)
    states = {r.program: (r.state, r.metrics) for r in found.replicas}
    assert states["asr"] == states["edge"] == ("down", None)
    assert states["diarize"][0] == "serving"


async def test_something_else_at_the_port_of_metrics_is_none(
    settings: EdgeSettings, replicas: Replicas, edge: Edge
) -> None:
    found = await looked(settings, replicas, asr_metrics_port=edge.port)
    assert told(found, "asr")[0]["figures"] is None
    assert found.is_healthy


async def test_models_their_device_and_which_replicas_have_them_are_told(
    settings: EdgeSettings, replicas: Replicas
) -> None:
    one, other = Figured(), Figured()
    one.models.labels("small", "cuda").set(1)
    other.models.labels("small", "cuda").set(0)
    other.models.labels("tiny", "cpu").set(1)
    await replicas.start(ONE, one)
    await replicas.start(OTHER, other)
    text = as_text(await look_at_asr(settings, replicas), None)
    assert "asr has small on cuda: loaded by 1 of 2" in text
    assert "asr has tiny on cpu: loaded by 1 of 1" in text


async def test_only_the_servers_faults_are_errors(settings: EdgeSettings, replicas: Replicas) -> None:
    figured = Figured()
    figured.ended("ok", 90)
    for mistake in ("cancelled", "UNKNOWN_MODEL", "INVALID_REQUEST", "IDLE_TIMEOUT"):
        figured.ended(mistake, 2)
    figured.ended("OVERLOADED")
    figured.ended("INTERNAL")
    figured.ended("ok", 1_000, method="ListModels")
    await replicas.start(ONE, figured)
    found = await look_at_asr(settings, replicas)
    row = told(found, "asr")[0]["figures"]
    assert (row["requests"], row["faults"]) == (100, 2)
    assert cells(found, "asr")["errors"] == "2.0% of 100"


async def test_the_queue_is_as_long_as_all_kinds_and_waits_as_long_as_the_slowest(
    settings: EdgeSettings, replicas: Replicas
) -> None:
    figured = Figured()
    for kind, length, wait_s in (("final", 1, 0.5), ("file", 6, 3.0)):
        figured.length.labels(kind).set(length)
        for _ in range(20):
            figured.wait.labels(kind).observe(wait_s)
    figured.length.labels("look").set(0)
    await replicas.start(ONE, figured)
    found = await look_at_asr(settings, replicas)
    assert told(found, "asr")[0]["figures"]["queues"] == {
        "final": {"length": 1, "wait_p95_s": pytest.approx(0.95)},
        "file": {"length": 6, "wait_p95_s": pytest.approx(3.9)},
        "look": {"length": 0, "wait_p95_s": None},
    }
    assert cells(found, "asr")["queue"] == "7, p95 3.90 s"


async def test_over_a_time_what_happened_before_it_does_not_count(settings: EdgeSettings, replicas: Replicas) -> None:
    figured = Figured()
    figured.length.labels("file").set(1)
    figured.ended("INTERNAL", 50)
    figured.wait.labels("file").observe(3.0)
    await replicas.start(ONE, figured)
    before = await look_at_asr(settings, replicas)
    figured.ended("ok", 19)
    figured.ended("INTERNAL")
    figured.wait.labels("file").observe(0.5)
    now = await look_at_asr(settings, replicas)
    now = Look(before.at_s + 10, now.replicas, now.store)
    row = told(now, "asr", before)[0]["figures"]
    assert (row["requests"], row["faults"]) == (20, 1)
    assert row["queues"] == {"file": {"length": 1, "wait_p95_s": pytest.approx(0.95)}}
    assert cells(now, "asr", before)["errors"] == "5.0% of 2.0/s"
    assert json.loads(as_json(now, before))["over_s"] == 10


def read(figured: Figured) -> Metrics:
    return Metrics.parse(generate_latest(figured.registry).decode())


def test_over_a_restart_everything_since_it_counts() -> None:
    before, after = Figured(started_s=1_000), Figured(started_s=2_000)
    before.ended("ok", 50)
    after.ended("ok", 60)
    assert figures(read(after).since(read(before)), 2_010).requests == 60


def test_waits_beyond_the_last_bucket_are_told_as_its_bound() -> None:
    figured = Figured()
    figured.length.labels("file").set(0)
    figured.wait.labels("file").observe(1_000)
    assert figures(read(figured), 0).queues["file"].wait_p95_s == 4


async def test_of_an_edge_its_requests_and_faults_are_those_of_the_public_paths(
    settings: EdgeSettings, replicas: Replicas, edge: Edge
) -> None:
    shown = {"metrics_port": replicas.show(ONE, 0, REGISTRY)}
    before = await looked(settings, replicas, **shown)
    await edge.request("GET", "/v1/languages")
    await edge.request("GET", "/nowhere")
    now = await looked(settings, replicas, **shown)
    figures = told(now, "edge", before)[0]["figures"]
    assert (figures["requests"], figures["faults"]) == (1, 0)
    assert figures["running"] == {"recording": 0, "live": 0, "text": 0}
    assert figures["up_s"] > 0


async def test_a_degraded_edge_says_why(
    settings: EdgeSettings, replicas: Replicas, start_edge: Callable[..., Any], fakes: FakeServices
) -> None:
    edge = await start_edge(**{**fakes.addresses, "summarize_address": "127.0.0.1:1"})
    found = await looked(settings, replicas, port=edge.port)
    assert not found.is_healthy
    (row,) = told(found, "edge")
    assert (row["state"], row["trouble"]) == ("degraded", "The summary service cannot be reached.")


async def test_an_edge_that_drains_is_stopping(settings: EdgeSettings, replicas: Replicas, edge: Edge) -> None:
    edge.runner.app[STOPPING].set()
    assert told(await looked(settings, replicas), "edge")[0]["state"] == "stopping"


async def test_several_edges_are_had_by_an_address_of_their_own(
    settings: EdgeSettings, replicas: Replicas, edge: Edge
) -> None:
    replicas.hosts = [ONE, OTHER]
    found = await looked(settings, replicas, status_address=f"dns:///many:{edge.port}")
    assert [row["state"] for row in told(found, "edge")] == ["serving", "down"]


async def test_the_store_is_shown_with_what_it_takes(
    settings: EdgeSettings, replicas: Replicas, tmp_path: Path
) -> None:
    found = await looked(settings, replicas)
    (node,) = json.loads(as_json(found, None))["store"]
    assert node["ping_ms"] > 0
    assert node["memory_bytes"] > 0
    assert node["clients"] >= 1
    away = await looked(settings, replicas, data_dir=tmp_path)
    assert not away.is_healthy
    assert f"store {tmp_path / 'valkey.sock'}: down" in as_text(away, None)


def test_a_large_house_fits_into_120_columns() -> None:
    def busy() -> Metrics:
        figured = Figured()
        for kind in ("recording", "live"):
            figured.running.labels(kind).set(250)
            figured.limit.labels(kind).set(1_000)
        figured.length.labels("file").set(1_234)
        figured.wait.labels("file").observe(3)
        figured.ended("ok", 9_999_999)
        return read(figured)

    rows = [Replica(name, f"100.100.100.{n}:50051", "not serving", "", busy())
            for name in ("asr", "summarize") for n in range(100, 110)]  # fmt: skip
    lines = as_text(Look(1e6, rows, [StoreNode("100.100.100.100:6379", 0.5, "9.1.0", 10**6, 10**9, 500)]), None)
    assert "250/1000  250/1000" in lines
    assert max(map(len, lines.splitlines())) <= 120
    assert "\x1b" not in lines


async def test_a_name_with_addresses_of_both_families_is_one_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "socket.getaddrinfo",
        lambda *_, **__: [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.2", 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0)),
        ],
    )
    assert await resolve("both") == ["10.0.0.1", "10.0.0.2"]


async def run(settings: EdgeSettings, *arguments: str) -> tuple[int | None, str]:
    """Run the program; returns its exit status and what it printed."""
    environment = os.environ | {
        "EDGE_PORT": str(settings.port),
        "REDIS_URL": "",
        "DATA_DIR": str(settings.data_dir),
        "ASR_ADDRESS": settings.asr_address,
        "DIARIZE_ADDRESS": settings.diarize_address,
        "SUMMARIZE_ADDRESS": settings.summarize_address,
    }
    command: Sequence[str] = (sys.executable, "-m", "services.edge.status", *arguments)
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_the_program_ends_with_0_where_all_is_healthy(settings: EdgeSettings) -> None:
    status, output = await run(settings, "--json")
    assert status == 0
    assert json.loads(output)["is_healthy"] is True


async def test_the_program_ends_with_1_where_something_is_down(settings: EdgeSettings) -> None:
    status, output = await run(settings.model_copy(update={"diarize_address": "127.0.0.1:1"}))
    assert status == 1
    assert output.startswith("program")


async def test_the_program_tells_what_happens_while_it_looks(settings: EdgeSettings) -> None:
    status, output = await run(settings, "--json", "--over", "0.2")
    assert status == 0
    assert json.loads(output)["over_s"] >= 0.2


async def test_the_program_waits_until_all_is_healthy(
    settings: EdgeSettings, replicas: Replicas, unused_tcp_port: int
) -> None:
    replicas.port = unused_tcp_port
    absent = settings.model_copy(update={"asr_address": f"{ONE}:{unused_tcp_port}"})
    waiting = asyncio.create_task(run(absent, "--wait-s", "50"))
    await replicas.start(ONE, None)
    assert (await waiting)[0] == 0


async def test_the_program_waits_no_longer_than_a_process_lives(settings: EdgeSettings) -> None:
    ended = await asyncio.create_subprocess_exec("true")
    await ended.wait()
    absent = settings.model_copy(update={"asr_address": "127.0.0.1:1"})
    async with asyncio.timeout(30):
        assert (await run(absent, "--wait-s", "600", "--while-pid", str(ended.pid)))[0] == 1
