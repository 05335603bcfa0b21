"""Who speaks, live, on the embedded engine: how right it is at first and at last, how late, and for how many sessions.

What was told at last is what stood when no correction could come any more; what was told first is what stood of each
moment when it was first told of.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import grpc
import psutil
from stt.diarize.v1 import diarize_pb2, diarize_pb2_grpc

from services.common.audio import SAMPLE_RATE
from tests.bench.data import BenchData, Samples, looped, pcm_messages
from tests.bench.figures import Figure, Measured, Target
from tests.bench.latency import percentiles
from tests.bench.plan import Plan
from tests.bench.scoring import DiarizationScore, SpeakerTurn
from tests.bench.speakers import Reference, dialogue_reference, labelled_reference
from tests.bench.system import System

LIVE_SETTINGS = {"DIARIZE_MODEL": "pyannote-community-1", "DIARIZE_MAX_SESSIONS": "64"}

_DER_POINTS = 0.03
_FIRST_P95_S = 4.0
_PIECE_S = 0.1
_TICK_S = 0.1
_BREATH_S = 1.0
_RPC_S = 1800.0


@dataclass(frozen=True)
class _Update:
    """What was told, and when it came: seconds from the session's first sample."""

    at_s: float
    since_s: float
    until_s: float
    turns: Sequence[SpeakerTurn]


def measure(system: System, plan: Plan, data: BenchData) -> Measured:
    """Score `diarization` (trust A) and the joined dialogues live, as fast as it is taken, and as files."""
    figures: list[Figure] = []
    for name, references in (("diarization", _labelled(data)), ("dialogues", _dialogues(data))):
        plan.say(f"live speakers: {name}")
        first, last, file = DiarizationScore(), DiarizationScore(), DiarizationScore()
        otherwise_s = told_s = audio_s = cpu_s = 0.0
        numbers = speakers = 0
        for reference in references:
            before_s = _cpu_s(system)
            (updates,) = asyncio.run(_sessions(system, [reference.samples], paced=False))
            cpu_s += _cpu_s(system) - before_s
            audio_s += len(reference.samples) / SAMPLE_RATE
            first.add(reference.name, reference.turns, _told_first(updates), reference.region_s)
            last.add(reference.name, reference.turns, _told_last(updates), reference.region_s)
            whole = system.diarize(pcm_messages(reference.samples.tobytes()), len(reference.samples) / SAMPLE_RATE)
            file.add(reference.name, reference.turns, whole, reference.region_s)
            changed, spoken = _told_otherwise(updates)
            otherwise_s, told_s = otherwise_s + changed, told_s + spoken
            numbers += len({turn.speaker for update in updates for turn in update.turns})
            speakers += len({turn.speaker for turn in reference.turns})
        over = last.total - file.total
        note = f"as files {file.total:.3f}; {last.shares}"
        figures += [
            Figure(f"live DER over the file's, {name}", over, target=Target(_DER_POINTS)),
            Figure(f"live DER at last, {name}", last.total, note=note),
            Figure(f"live DER as told first, {name}", first.total, note=first.shares),
            Figure(f"live seconds told otherwise later, {name}", 100 * otherwise_s / told_s, "% of speech"),
            Figure(f"live numbers told, {name}", numbers, note=f"by {speakers} speakers"),
            Figure(f"live CPU seconds per second, {name}", cpu_s / audio_s),
        ]
    return Measured(figures)


def measure_load(system: System, plan: Plan, data: BenchData) -> Measured:
    """Hold sessions at a microphone's pace: one for two cores, two and four for each, all of them dialogues."""
    cores = os.cpu_count() or 1
    dialogues = _dialogues(data)
    figures = []
    for count in (max(1, cores // 2), 2 * cores, 4 * cores):
        plan.say(f"live speakers: {count} sessions")
        references = [dialogues[index % len(dialogues)] for index in range(count)]
        said = [looped(reference.samples, plan.live_s) for reference in references]
        started, before_s = time.monotonic(), _cpu_s(system)
        heard = asyncio.run(_sessions(system, said, paced=True))
        busy = (_cpu_s(system) - before_s) / (time.monotonic() - started)
        begun = [
            seconds
            for reference, updates in zip(references, heard, strict=True)
            for seconds in _begun_s(reference, updates)
        ]
        p50, p95, _ = percentiles(begun)
        lag_s = max(update.at_s - update.until_s for updates in heard for update in updates)
        note = f"p50 {p50:.1f} s; {busy:.2f} cores busy; longest lag of an update behind its audio {lag_s:.1f} s"
        target = Target(_FIRST_P95_S) if count == 2 * cores else None
        figures.append(
            Figure(f"live, from a turn's start until told, p95, {count} sessions", p95, "s", target, note=note)
        )
    return Measured(figures)


def _cpu_s(system: System) -> float:
    spent = psutil.Process(system.pid("diarize")).cpu_times()
    return float(spent.user + spent.system)


async def _sessions(system: System, said: Sequence[Samples], *, paced: bool) -> list[list[_Update]]:
    """Hold sessions at once; return what each was told."""
    async with grpc.aio.insecure_channel(system.address("diarize")) as channel:
        stub = diarize_pb2_grpc.DiarizeServiceStub(channel)
        return await asyncio.gather(*(_session(stub, samples, paced) for samples in said))


async def _session(stub: "diarize_pb2_grpc.DiarizeServiceAsyncStub", samples: Samples, paced: bool) -> list[_Update]:
    started = time.monotonic()

    async def requests() -> AsyncIterator[diarize_pb2.DiarizeRequest]:
        yield diarize_pb2.DiarizeRequest(config=diarize_pb2.DiarizeConfig(live=diarize_pb2.LiveConfig()))
        length = round(_PIECE_S * SAMPLE_RATE)
        for start in range(0, len(samples), length):
            if paced:
                await asyncio.sleep(started + (start + length) / SAMPLE_RATE - time.monotonic())
            yield diarize_pb2.DiarizeRequest(audio=samples[start : start + length].tobytes())

    updates = []
    async for event in stub.Diarize(requests(), timeout=_RPC_S):
        if event.HasField("update"):
            told = event.update
            turns = [SpeakerTurn(str(turn.speaker), turn.start_s, turn.end_s) for turn in told.turns]
            updates.append(_Update(time.monotonic() - started, told.since_s, told.until_s, turns))
    return updates


def _cut(turns: Sequence[SpeakerTurn], start_s: float, end_s: float) -> list[SpeakerTurn]:
    cut = [SpeakerTurn(turn.speaker, max(turn.start_s, start_s), min(turn.end_s, end_s)) for turn in turns]
    return [turn for turn in cut if turn.start_s < turn.end_s]


def _told_last(updates: Sequence[_Update]) -> list[SpeakerTurn]:
    replaced_s = [*(update.since_s for update in updates[1:]), updates[-1].until_s]
    return [
        turn
        for update, until_s in zip(updates, replaced_s, strict=True)
        for turn in _cut(update.turns, update.since_s, until_s)
    ]


def _told_first(updates: Sequence[_Update]) -> list[SpeakerTurn]:
    known_s = [0.0, *(update.until_s for update in updates[:-1])]
    return [
        turn
        for update, since_s in zip(updates, known_s, strict=True)
        for turn in _cut(update.turns, since_s, update.until_s)
    ]


def _told_otherwise(updates: Sequence[_Update]) -> tuple[float, float]:
    """Return the seconds whose speakers were told otherwise by a later update, each time, and all seconds of speech."""
    otherwise, spoken = 0, set[int]()
    tracks = [_ticks(update) for update in updates]
    for track in tracks:
        spoken |= track.keys()
    for (before, was), (after, now) in pairwise(zip(updates, tracks, strict=True)):
        both = range(round(after.since_s / _TICK_S) + 1, int(before.until_s / _TICK_S) - 1)
        otherwise += sum(was[tick] != now[tick] for tick in both if tick in was and tick in now)
    return otherwise * _TICK_S, len(spoken) * _TICK_S


def _ticks(update: _Update) -> dict[int, set[str]]:
    told: dict[int, set[str]] = {}
    for turn in update.turns:
        for tick in range(round(turn.start_s / _TICK_S), round(turn.end_s / _TICK_S)):
            told.setdefault(tick, set()).add(turn.speaker)
    return told


def _begun_s(reference: Reference, updates: Sequence[_Update]) -> list[float]:
    """Return how long after its start each turn was told of; a breath does not begin another one."""
    seconds = []
    before: SpeakerTurn | None = None
    for turn in sorted(reference.turns, key=lambda turn: turn.start_s):
        goes_on = before is not None and before.speaker == turn.speaker and turn.start_s - before.end_s < _BREATH_S
        before = turn
        told = (update.at_s for update in updates if _cut(update.turns, turn.start_s, turn.end_s))
        if not goes_on and (at_s := next(told, None)) is not None:
            seconds.append(at_s - turn.start_s)
    return seconds


def _labelled(data: BenchData) -> list[Reference]:
    return [labelled_reference(entry) for entry in data.labelled("diarization", ("A",))]


def _dialogues(data: BenchData) -> list[Reference]:
    return [dialogue_reference(dialogue) for dialogue in data.dialogues()]
