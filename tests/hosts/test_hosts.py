"""The house on several hosts, found by a nameserver: work is shared out, hosts go, come back and are added."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.hosts.client import (
    BYTES_PER_S,
    LOOK_S,
    Answer,
    Balancer,
    Caller,
    Clients,
    Live,
    become,
    in_turn,
    pcm_of,
    traffic,
    wav_of,
)
from tests.hosts.house import EDGES, ROOT, House
from tests.hosts.network import Network

KEEPALIVE_S = 30
"""A dead peer is noticed by then: 20 s of silence, and 10 s for an answer."""
BACK_LIMIT_S = 30
NEW_HOST_LIMIT_S = 60


@pytest.fixture(scope="module")
def speech(recordings: Path) -> bytes:
    """Ten seconds."""
    return pcm_of(recordings / "beckett.wav")


@pytest.fixture(scope="module")
def short(speech: bytes) -> bytes:
    """A recording of two seconds."""
    return wav_of(speech[: 2 * BYTES_PER_S])


@pytest.fixture(scope="module")
def long(recordings: Path) -> bytes:
    """A recording of 44 seconds."""
    return (recordings / "two_cities.wav").read_bytes()


def failed(answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.status != 200]


def share(first: float, second: float) -> float:
    return first / (first + second)


def audit(house: House) -> bool:
    """Whether every account is what its ledger says."""
    command = ["ip", "netns", "exec", house.client.namespace, sys.executable, "-m", "services.edge.accounts", "audit"]
    env = {**os.environ, "REDIS_URL": house.store_url}
    result = subprocess.run([*command, "--json"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    return bool(json.loads(result.stdout)["ok"])


async def be_used(clients: Clients, host: str, caller: Caller, recording: bytes) -> None:
    """Return when both edges have work done by a host of recognition."""
    for edge in EDGES:
        # A lost request ends there, too, once the host hears of it.
        enough = await clients.done(host) + 2

        async def is_used(edge: str = edge, enough: float = enough) -> bool:
            await clients.transcribe(edge, caller, recording)
            return await clients.done(host) >= enough

        await become(is_used, BACK_LIMIT_S)


async def test_work_is_shared_out_evenly(clients: Clients, speech: bytes) -> None:
    recording = wav_of(speech[: 4 * BYTES_PER_S])

    callers = [await clients.caller() for _ in EDGES]

    async def send(edge: str, caller: Caller, times: int) -> list[int]:
        """Send recordings one after the other."""
        return [(await clients.transcribe(edge, caller, recording, diarize="true")).status for _ in range(times)]

    async def done() -> list[float]:
        services = (("asr1", "Transcribe"), ("asr2", "Transcribe"), ("diarize1", "Diarize"), ("diarize2", "Diarize"))
        return [await clients.done(*service) for service in services]

    # The first ones go to whoever is connected first.
    await asyncio.gather(*(send(edge, caller, 1) for edge, caller in zip(EDGES, callers, strict=True)))
    before = await done()
    sent = await asyncio.gather(*(send(edge, caller, 10) for edge, caller in zip(EDGES, callers, strict=True)))
    assert sent == [[200] * 10] * 2
    asr1, asr2, diarize1, diarize2 = (now - then for now, then in zip(await done(), before, strict=True))
    recognition, diarization = share(asr1, asr2), share(diarize1, diarize2)
    print(f"asr1 {recognition:.0%}, diarize1 {diarization:.0%}")
    assert 0.4 <= recognition <= 0.6
    assert 0.4 <= diarization <= 0.6


async def test_what_a_host_had_that_is_cut_off_another_does_and_it_gets_work_again_when_it_is_back(
    clients: Clients, house: House, short: bytes, long: bytes
) -> None:
    callers = [await clients.caller() for _ in range(6)]
    running = [
        asyncio.create_task(clients.transcribe(edge, caller, long))
        for edge, caller in zip(EDGES * 3, callers, strict=True)
    ]
    await become(lambda: clients.metric("asr2", "stt_requests_running", kind="recording"), 60)
    house.hosts["asr2"].cut_off()
    async with traffic(clients, callers, short, in_turn(EDGES)) as answers:

        async def is_left_out() -> bool:
            last = [[a.status for a in answers if a.edge == edge][-6:] for edge in EDGES]
            return last == [[200] * 6] * 2 and all(task.done() for task in running)

        await become(is_left_out, KEEPALIVE_S + 30)
        house.hosts["asr2"].reconnect()
        known = await clients.done("asr2")

        async def is_used() -> bool:
            return await clients.done("asr2") > known

        print(f"used {await become(is_used, BACK_LIMIT_S):.1f} s after it was back")
    answers += [task.result() for task in running]
    slowest_s = max(answer.ended_s - answer.began_s for answer in answers)
    print(f"{len(answers)} requests meanwhile, the slowest took {slowest_s:.1f} s")
    assert failed(answers) == []
    accounts = await clients.settled(callers)
    assert sum(account["spent"] for account in accounts) == len(answers)
    await be_used(clients, "asr2", callers[0], short)


async def test_a_live_session_whose_host_is_cut_off_is_told_to_come_again_and_costs_nothing(
    clients: Clients, house: House, speech: bytes, short: bytes
) -> None:
    callers = [await clients.caller() for _ in range(2)]

    async def speak(live: Live) -> None:
        with suppress(ConnectionError):  # who is cut off cannot go on
            await live.speak(speech * 6)

    async with clients.session("edge1", callers[0]) as first, clients.session("edge1", callers[1]) as second:
        sessions = first, second
        speaking = [asyncio.create_task(speak(live)) for live in sessions]
        await asyncio.gather(*(live.until(lambda live=live: live.segments) for live in sessions))
        assert await clients.metric("asr2", "stt_requests_running", kind="live") == 1
        house.hosts["asr2"].cut_off()

        async def has_ended() -> bool:
            return first.socket.closed or second.socket.closed

        print(f"told {await become(has_ended, KEEPALIVE_S + 10):.1f} s after the cut")
        house.hosts["asr2"].reconnect()
        for task in speaking:
            task.cancel()
        lost, kept = sorted(sessions, key=lambda live: not live.socket.closed)
        await kept.stop()
    assert ("error" in lost.messages[-1], lost.socket.close_code) == (True, 1013)
    assert kept.messages[-1]["is_final"]
    shown = await clients.settled(callers)
    assert [account["spent"] for account in shown] == [0 if live is lost else 1 for live in sessions]
    await be_used(clients, "asr2", callers[0], short)


async def test_a_new_host_is_used_within_a_minute_and_neither_requests_nor_sessions_notice(
    clients: Clients, house: House, short: bytes, speech: bytes
) -> None:
    callers = [await clients.caller() for _ in range(4)]

    async def talk(edge: str) -> None:
        """Have a session that outlives its connection's age, to its good end."""
        async with clients.session(edge, await clients.caller()) as live:
            await live.speak(speech * 4)
            await live.stop()
        assert live.messages[-1].get("is_final"), live.messages[-1]
        # It is heard to its last words, which the fourth repetition ends with.
        assert live.segments[-1]["end"] > 3.5 * len(speech) / BYTES_PER_S, live.segments

    async with traffic(clients, callers, short, in_turn(EDGES)) as answers, asyncio.TaskGroup() as tasks:
        for edge in EDGES:
            tasks.create_task(talk(edge))
        house.start("asr3")
        await asyncio.to_thread(house.wait_ready)
        house.announce("asr3")
        print(f"used {await become(lambda: clients.done('asr3'), NEW_HOST_LIMIT_S):.1f} s after it was announced")
    print(f"{len(answers)} requests meanwhile")
    assert failed(answers) == []


async def test_limits_and_credits_hold_across_both_edges(clients: Clients, house: House, short: bytes) -> None:
    poor, free, nobody = await clients.caller(credits=6), await clients.caller("free"), Caller("", {})
    most = Counter[str]()

    async def watch() -> None:
        while True:
            for account in (poor.account, free.account):
                most[account] = max(most[account], (await clients.registry.show(account))["running"])

    async def persist(caller: Caller, edge: str) -> int:
        """Ask until he is not refused for what else of his runs."""
        while True:
            answer = await clients.transcribe(edge, caller, short)
            if answer.body.get("code") != "TOO_MANY_REQUESTS":
                return answer.status
            await asyncio.sleep(LOOK_S)

    watching = asyncio.create_task(watch())
    try:
        async with asyncio.timeout(120):
            of_poor, of_free, of_nobody = await asyncio.gather(
                asyncio.gather(*(persist(poor, edge) for edge in EDGES * 6)),
                asyncio.gather(*(persist(free, edge) for edge in EDGES * 3)),
                asyncio.gather(*(persist(nobody, edge) for edge in EDGES * 3)),
            )
    finally:
        watching.cancel()
    assert (Counter(of_poor), Counter(of_free), Counter(of_nobody)) == ({200: 6, 402: 6}, {200: 6}, {200: 3, 429: 3})
    assert 1 < most[poor.account] <= 5
    assert 1 <= most[free.account] <= 2
    poor_shown, free_shown = await clients.settled([poor, free])
    assert (poor_shown["balance"], poor_shown["spent"], free_shown["minutes"]) == (0, 6, 6)
    assert await asyncio.to_thread(audit, house)


async def test_edges_are_rolled_one_by_one_and_no_request_fails(
    clients: Clients, house: House, short: bytes, speech: bytes
) -> None:
    callers = [await clients.caller() for _ in range(4)]
    speaker = await clients.caller()
    balancer = Balancer(clients)
    async with balancer.looking(), traffic(clients, callers, short, balancer.choose) as answers:
        async with clients.session("edge1", speaker) as live:
            await live.speak(speech[: 4 * BYTES_PER_S])
            await live.until(lambda: live.messages[-1].get("partial"))
            await asyncio.to_thread(house.stop, "edge1")
        await roll(house, "edge1", balancer, answers)
        await asyncio.to_thread(house.stop, "edge2")
        await roll(house, "edge2", balancer, answers)
    assert failed(answers) == []
    assert [message.get("type") for message in live.messages[-2:]] == ["transcript", "error"]
    assert live.segments[-1]["end"] > 3
    assert (live.messages[-1]["code"], live.socket.close_code) == ("SHUTTING_DOWN", 1001)
    *accounts, spoken = await clients.settled([*callers, speaker])
    assert sum(account["spent"] for account in accounts) == len(answers)
    # What the server breaks off costs nothing.
    assert spoken["spent"] == 0


async def roll(house: House, edge: str, balancer: Balancer, answers: Sequence[Answer]) -> None:
    """Start an edge again, and return when it has answered."""
    known = len(answers)
    house.start(edge)

    async def has_answered() -> bool:
        return edge in {answer.edge for answer in answers[known:]}

    await become(has_answered, 60)


async def test_while_the_store_is_cut_off_new_work_is_refused_and_running_work_is_settled_later(
    clients: Clients, house: House, short: bytes, long: bytes
) -> None:
    caller, other = await clients.caller(), await clients.caller()
    running = asyncio.create_task(clients.transcribe("edge1", caller, long))

    async def is_reserved() -> int:
        return int((await clients.registry.show(caller.account))["held"])

    await become(is_reserved, 60)
    house.hosts["store"].cut_off()
    refused = await asyncio.gather(*(clients.transcribe(edge, other, short) for edge in EDGES))
    assert [(answer.status, answer.retry_after) for answer in refused] == [(503, "5")] * 2
    assert (await running).status == 200
    house.hosts["store"].reconnect()
    (shown,) = await clients.settled([caller])
    assert shown["spent"] == 1
    for edge in EDGES:

        async def answers_again(edge: str = edge) -> bool:
            return (await clients.transcribe(edge, other, short)).status == 200

        await become(answers_again, BACK_LIMIT_S)
    assert await asyncio.to_thread(audit, house)


def test_nothing_of_a_network_is_left(network: Network) -> None:
    name = f"stt{os.getpid()}-other"
    other = Network(name)
    program = other.add("host").run(["sleep", "60"], Path(os.devnull), dict(os.environ))
    other.close()
    assert program.wait(5) == -9
    assert name not in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout
    assert list(Path("/etc/netns").glob(f"{name}*")) == []
