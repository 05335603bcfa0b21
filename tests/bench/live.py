"""Live sessions through the whole chain: latency, many at once, beside files, error rate, and long silence."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import grpc
import jiwer
import numpy as np
import psutil
from stt.asr.v1 import asr_pb2, asr_pb2_grpc
from whisper_normalizer.english import EnglishTextNormalizer

from services.common.audio import SAMPLE_RATE
from tests.bench.data import BenchData, Samples, decode, looped, pcm_messages, wav_bytes, wheel_recordings
from tests.bench.figures import Figure, Measured, Target
from tests.bench.latency import ENDPOINT_S, Latencies, percentiles, score
from tests.bench.microphone import READING, Heard, Speech, Talk, listen_to_all, speeches
from tests.bench.plan import Plan
from tests.bench.scoring import plain_words, word_error_rate
from tests.bench.system import EMBEDDED_MODEL, MemorySampler, System, tree_rss

# The load that breaks it shall be the engine's, not a limit that is set.
LOAD_SETTINGS = {"ASR_MAX_SESSIONS": "256", "ASR_MAX_WAITING": "1024"}

_FEW, _MANY, _STEP, _MOST = 4, 12, 8, 96
_FIRST_MS, _FINAL_MS, _MANY_FINAL_MS = 900, 800, 1500
_PARTIALS_P50_MS, _PARTIALS_P95_MS = 600, 1000
_CHURN, _WER_POINTS = 0.25, 0.02
_FILE_MOVES_MS = 250
_FILE_S, _QUICK_FILE_S = 600, 120
_WER_AT_ONCE = 4
_SILENCE_S, _QUICK_SILENCE_S = 1800, 180
_SILENCE_GROWTH_MIB = 16
_ROOM_LEVEL = 4.0
_RPC_S = 1800.0
_WARM_UP_S = 60.0
_MIB = 1024 * 1024


def measure(system: System, plan: Plan) -> Measured:
    """Hold four sessions alone, beside a file, and beside a file whose speakers are told apart."""
    plan.say(f"live: {_FEW} sessions")
    warm_up(system)
    alone, heard = _latencies(system, _FEW, plan.live_s)
    final_ms = _ms(alone.final_s)
    figures = [*_few_figures(alone, heard)]
    for label, diarize, limit_ms in (
        ("a file", False, _FILE_MOVES_MS),
        ("a file with diarization", True, None),
    ):
        plan.say(f"live: {_FEW} sessions beside {label}")
        with _files(system, _QUICK_FILE_S if plan.quick else _FILE_S, diarize=diarize) as answered:
            beside, _ = _latencies(system, _FEW, plan.live_s)
        beside_ms = _ms(beside.final_s)
        figures.append(
            Figure(
                f"live finals p95, beside {label}, moved by",
                beside_ms[1] - final_ms[1],
                "ms",
                Target(limit_ms) if limit_ms else None,
                note=f"finals {_listed(beside_ms)}, first partials {_listed(_ms(beside.first_s))}; "
                f"files done meanwhile: {len(answered)}; {_load()}",
            )
        )
    return Measured(figures, {"live_latency": {"first_s": alone.first_s, "final_s": alone.final_s}})


def measure_load(system: System, plan: Plan) -> Measured:
    """Hold twelve sessions and, with `--long`, more and more until finals come too late."""
    warm_up(system)
    counts = [_FEW, _MANY]
    if plan.long:
        counts += range(_MANY + _STEP // 2, _MOST + 1, _STEP)
    figures, series = hold(system, plan, READING, counts, _MANY, "live")
    return Measured(figures, {"live_load": series})


def warm_up(system: System, talk: Talk = READING) -> None:
    """Post a file of what the sessions will say."""
    (speech,) = talk.speeches(1, _WARM_UP_S)
    system.transcribe(wav_bytes(speech.samples), diarize=True, model=talk.model)


def hold(
    system: System, plan: Plan, talk: Talk, counts: Sequence[int], target_at: int | None, name: str
) -> tuple[list[Figure], dict[str, list[float]]]:
    """Hold more and more sessions, up to the first count at which finals come too late, but at least `target_at`."""
    series: dict[str, list[float]] = {"sessions": [], "first_p95_s": [], "final_p50_s": [], "final_p95_s": []}
    figures = []
    broke_at = None
    for count in counts:
        plan.say(f"{name}: {count} sessions")
        with _busy_cores(system) as busy:
            latencies, heard = _latencies(system, count, plan.live_s, talk)
        behind = _behind(heard)
        plan.say(f"{name}: finals {_listed(_ms(latencies.final_s))}, {len(behind)} behind")
        firsts, finals = _ms(latencies.first_s), _ms(latencies.final_s)
        series["sessions"].append(count)
        series["first_p95_s"].append(firsts[1] / 1000)
        series["final_p50_s"].append(finals[0] / 1000)
        series["final_p95_s"].append(finals[1] / 1000)
        is_target = count == target_at
        target = Target(_MANY_FINAL_MS) if is_target else None
        note = (
            f"finals {_listed(finals)}, first partials {_listed(firsts)}, {_partials(latencies)}; {busy()}; {_load()}"
        )
        figures.append(Figure(f"{name} finals p95, {count} sessions", finals[1], "ms", target, note=note))
        figures.append(
            Figure(
                f"{name} sessions that fell behind, of {count}",
                len(behind),
                target=Target(0) if is_target else None,
                note="; ".join(sorted({told.error or f"over {told.closing_s:.1f} s after" for told in behind}))[:200],
            )
        )
        if count >= (target_at or 0) and (finals[1] > _MANY_FINAL_MS or behind):
            broke_at = count
            break
    why = "the first with late finals or a session behind" if broke_at else f"not reached by {counts[-1]} sessions"
    more = "" if broke_at or plan.long or target_at is None else "; more only with --long"
    figures.append(Figure(f"{name} sessions at which it breaks", broke_at, note=why + more))
    return figures, series


def measure_wer(system: System, plan: Plan, data: BenchData) -> Measured:
    """Speak `en_read` (trust A and B) at a microphone's pace, and post the same files."""
    plan.say("live-wer: read speech")
    entries = data.labelled("en_read", ("A", "B"))
    if plan.quick:
        entries = entries[:8]
    references = [entry.text for entry in entries]
    recordings = [decode(entry.path) for entry in entries]
    heard = asyncio.run(listen_to_all(system, recordings, _WER_AT_ONCE))
    failed = [told.error for told in heard if told.error]
    if failed:
        raise RuntimeError(f"{len(failed)} sessions failed: {failed[0]}")
    files = [system.transcribe(wav_bytes(samples), diarize=False).body["text"] for samples in recordings]
    normalize = EnglishTextNormalizer()
    streamed_wer = word_error_rate(references, [told.text for told in heard], normalize)
    file_wer = word_error_rate(references, files, normalize)
    texts = [
        {"name": entry.path.name, "reference": entry.text, "streamed": told.text, "file": text}
        for entry, told, text in zip(entries, heard, files, strict=True)
    ]
    latencies = score([Speech(samples, ()) for samples in recordings], heard)
    note = (
        f"{len(entries)} files, {_WER_AT_ONCE} at once; streamed {streamed_wer:.3f}, as files {file_wer:.3f}; {_load()}"
    )
    points = Figure(
        "streamed WER over file WER, en_read", streamed_wer - file_wer, target=Target(_WER_POINTS), note=note
    )
    return Measured([points, _churn("live churn, en_read", latencies)], {"live_wer_texts": texts})


def measure_silence(system: System, plan: Plan) -> Measured:
    """Send a quiet room for long, as fast as it is taken, then somebody who speaks."""
    length_s = _QUICK_SILENCE_S if plan.quick else _SILENCE_S
    plan.say(f"silence: {length_s / 60:g} minutes")
    speech = speeches(1, 4.0)[0].samples
    expected = plain_words(" ".join(text for _, text in _hear(system, [speech])))
    room = np.random.default_rng(4).normal(0, _ROOM_LEVEL, 60 * SAMPLE_RATE).astype(np.int16)
    minutes = [room] * (length_s // 60)
    # What one session leaves in pools is not this one's.
    _hear(system, minutes[:1])
    before = tree_rss(psutil.Process(system.pid("asr")))
    with MemorySampler(system.pid("asr")) as memory:
        started = time.monotonic()
        segments = _hear(system, [*minutes, speech])
        ended = time.monotonic()
    early = [text for start_s, text in segments if start_s < length_s]
    words = plain_words(" ".join(text for start_s, text in segments if start_s >= length_s))
    wrong = jiwer.process_words([" ".join(expected)], [" ".join(words)])
    label = f"{length_s / 60:g} min"
    return Measured(
        [
            Figure(f"words heard in silence, {label}", len(plain_words(" ".join(early))), target=Target(0)),
            Figure(
                f"words that differ after silence, {label}",
                wrong.substitutions + wrong.deletions + wrong.insertions,
                target=Target(0),
                note=f"of {len(expected)} that the same speech gives without the silence",
            ),
            Figure(
                f"asr RSS growth, silence of {label}",
                (memory.peak(started, ended) - before) / _MIB,
                "MiB",
                Target(_SILENCE_GROWTH_MIB),
                note=f"from {before / _MIB:.0f} MiB; sent in {ended - started:.1f} s; {_load()}",
            ),
        ]
    )


def _few_figures(latencies: Latencies, heard: Sequence[Heard]) -> list[Figure]:
    firsts, finals, between = _ms(latencies.first_s), _ms(latencies.final_s), _ms(latencies.between_s)
    missed = latencies.utterances - len(latencies.final_s)
    common = f"{len(latencies.final_s)} utterances, {missed} without words; {_load()}"
    return [
        Figure(f"live first partial p95, {_FEW} sessions", firsts[1], "ms", Target(_FIRST_MS), note=_listed(firsts)),
        Figure(
            f"live finals p95, {_FEW} sessions",
            finals[1],
            "ms",
            Target(_FINAL_MS),
            note=f"{_listed(finals)} after the endpoint's {ENDPOINT_S * 1000:g} ms; {common}",
        ),
        Figure(f"live partials apart p50, {_FEW} sessions", between[0], "ms", Target(_PARTIALS_P50_MS)),
        Figure(
            f"live partials apart p95, {_FEW} sessions",
            between[1],
            "ms",
            Target(_PARTIALS_P95_MS),
            note=_listed(between),
        ),
        _churn("live churn, short utterances", latencies),
        Figure(f"live sessions that fell behind, of {_FEW}", len(_behind(heard)), target=Target(0)),
    ]


def _churn(name: str, latencies: Latencies) -> Figure:
    note = f"{latencies.taken_back} shown words taken back, {latencies.final_words} final"
    return Figure(name, latencies.churn, target=Target(_CHURN), note=note)


def _latencies(system: System, count: int, seconds: float, talk: Talk = READING) -> tuple[Latencies, list[Heard]]:
    said = talk.speeches(count, seconds)
    heard = asyncio.run(listen_to_all(system, [speech.samples for speech in said], count, talk.model))
    return score(said, heard), heard


def _behind(heard: Sequence[Heard]) -> list[Heard]:
    """Return the sessions that failed, or still had finals to send when silence had long told their end."""
    return [told for told in heard if told.error or told.closing_s > _MANY_FINAL_MS / 1000]


@contextmanager
def _busy_cores(system: System) -> Iterator[Callable[[], str]]:
    """Yield what says how much of a core recognition and the edge took while the block ran."""
    processes = {name: psutil.Process(system.pid(name)) for name in ("asr", "edge")}
    before, started = {name: _cpu_s(process) for name, process in processes.items()}, time.monotonic()
    shares: dict[str, float] = {}
    yield lambda: "cores busy: " + ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    wall_s = time.monotonic() - started
    shares |= {name: (_cpu_s(process) - before[name]) / wall_s for name, process in processes.items()}


def _cpu_s(process: psutil.Process) -> float:
    times = [member.cpu_times() for member in (process, *process.children(recursive=True))]
    return float(sum(spent.user + spent.system for spent in times))


@contextmanager
def _files(system: System, seconds: float, *, diarize: bool) -> Iterator[list[float]]:
    """Post a file, and again when it is answered, while the block runs; yields the answers' times."""
    media = wav_bytes(looped(wheel_recordings(), seconds))
    done = threading.Event()
    walls_s: list[float] = []

    def post() -> None:
        while not done.is_set():
            walls_s.append(system.transcribe(media, diarize=diarize).wall_s)

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield walls_s
    finally:
        done.set()
        thread.join()


def _hear(system: System, parts: Sequence[Samples]) -> list[tuple[float, str]]:
    """Hold a live session over gRPC; return the segments' starts (seconds) and texts."""

    def requests() -> Iterator[asr_pb2.TranscribeRequest]:
        live = asr_pb2.LiveConfig(interim_results=True)
        config = asr_pb2.TranscribeConfig(model=EMBEDDED_MODEL, language="en", live=live)
        yield asr_pb2.TranscribeRequest(config=config)
        for part in parts:
            for message in pcm_messages(part.tobytes()):
                yield asr_pb2.TranscribeRequest(audio=message)

    with grpc.insecure_channel(system.address("asr")) as channel:
        events = asr_pb2_grpc.AsrServiceStub(channel).Transcribe(requests(), timeout=_RPC_S)
        return [
            (event.segment.start_s, event.segment.text) for event in events if event.WhichOneof("event") == "segment"
        ]


def _ms(seconds: Sequence[float]) -> tuple[float, float, float]:
    p50, p95, p99 = (1000 * value for value in percentiles(seconds))
    return p50, p95, p99


def _listed(milliseconds: tuple[float, float, float]) -> str:
    return "p50 / p95 / p99 " + " / ".join(f"{value:.0f}" for value in milliseconds)


def _partials(latencies: Latencies) -> str:
    return f"partials apart {_listed(_ms(latencies.between_s))}, churn {latencies.churn:.2f}"


def _load() -> str:
    return f"load average {os.getloadavg()[0]:.1f}"
