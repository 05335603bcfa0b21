"""The engines alone: each driven in a fresh process without gRPC, with its own best number of workers.

Recognition: voiced chunks, cut by the service's own segmenter or (`asr-stock`) by faster-whisper's, decoded by a thread
per worker; no word times.
Diarization: the engine's own way through the whole recording. Loading and a first pass over a few seconds are not
timed.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from services.common.audio import SAMPLE_RATE
from tests.bench.data import Samples, pcm_messages
from tests.bench.scoring import SpeakerTurn

Kind = Literal["asr", "asr-stock", "diarize"]
Work = Callable[[Samples], dict[str, Any]]
_LIMIT_S = 3600.0
_WARM_UP_S = 5


@dataclass(frozen=True)
class AloneResult:
    """What an engine made of one recording; `text` is recognition's, `turns` are diarization's."""

    wall_s: float
    text: str
    turns: list[SpeakerTurn]


def engine_alone(kind: Kind, recordings: Mapping[str, Samples]) -> dict[str, AloneResult]:
    """Run the engine of `kind` over the recordings, one after the other, in one fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "recordings.npz"), Path(folder, "result.json")
        np.savez(source, **recordings)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "tests.bench.alone", kind, str(source), str(result)]
        subprocess.run(command, check=True, timeout=_LIMIT_S)
        rows = json.loads(result.read_text())
    return {
        name: AloneResult(row["wall_s"], row.get("text", ""), [SpeakerTurn(*turn) for turn in row.get("turns", ())])
        for name, row in rows.items()
    }


# Each process imports only the engine it runs.
def _recognizer(cut: Callable[[Samples, float], list[Samples]]) -> Work:
    from services.asr.engine import Utterance
    from services.asr.engines.moonshine import Moonshine, bundled_model_dir
    from services.asr.settings import AsrSettings

    settings = AsrSettings()
    engine = Moonshine(bundled_model_dir(), confidence_floor=settings.confidence_floor)
    executor = ThreadPoolExecutor(settings.workers)

    def recognize(samples: Samples) -> dict[str, Any]:
        utterances = [Utterance(chunk, "en") for chunk in cut(samples, engine.max_chunk_s)]
        hypotheses = executor.map(lambda utterance: engine.decode([utterance])[0], utterances)
        return {"text": " ".join(hypothesis.text for hypothesis in hypotheses)}

    return recognize


def _service_chunks(samples: Samples, max_chunk_s: float) -> list[Samples]:
    from services.asr.segmenter import Cutting, Segmenter
    from services.asr.vad import SileroModel, SileroStream, bundled_silero_path

    segmenter = Segmenter(SileroStream(SileroModel(bundled_silero_path())), Cutting(max_chunk_s=max_chunk_s))
    return [chunk.samples for chunk in [*segmenter.push(samples), *segmenter.finish()]]


def _stock_chunks(samples: Samples, max_chunk_s: float) -> list[Samples]:
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    spans = get_speech_timestamps(samples.astype(np.float32) / 32768.0, VadOptions(max_speech_duration_s=max_chunk_s))
    return [samples[span["start"] : span["end"]] for span in spans]


def _diarizer() -> Work:
    from services.diarize.engines.community1 import load_community1
    from services.diarize.settings import DiarizeSettings

    settings = DiarizeSettings()
    engine = load_community1(ThreadPoolExecutor(settings.workers), settings.steps_s, settings.ahead)

    async def diarize(samples: Samples) -> dict[str, Any]:
        recording = engine.open(speakers=0, expected_duration_s=len(samples) / SAMPLE_RATE)
        for message in pcm_messages(samples.tobytes()):
            await recording.feed(message)
        turns = await recording.finish()
        return {"turns": [(str(turn.speaker), turn.start_s, turn.end_s) for turn in turns]}

    return lambda samples: asyncio.run(diarize(samples))


def _main(kind: str, source: str, result: str) -> None:
    load: dict[str, Callable[[], Work]] = {
        "asr": lambda: _recognizer(_service_chunks),
        "asr-stock": lambda: _recognizer(_stock_chunks),
        "diarize": _diarizer,
    }
    work = load[kind]()
    rows = {}
    with np.load(source) as recordings:
        warm_up = np.resize(recordings[recordings.files[0]], _WARM_UP_S * SAMPLE_RATE)
        work(warm_up)
        for name in recordings.files:
            samples = recordings[name]
            started = time.monotonic()
            outcome = work(samples)
            rows[name] = {"wall_s": time.monotonic() - started, **outcome}
    Path(result).write_text(json.dumps(rows))


if __name__ == "__main__":
    _main(*sys.argv[1:])
