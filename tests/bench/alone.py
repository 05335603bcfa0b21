"""The engines alone: each driven in a fresh process without gRPC, with its own best number of workers.

Recognition: stock Silero chunks of at most the engine's length, decoded by a thread per worker; no word times.
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

Kind = Literal["asr", "diarize"]
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
def _recognizer() -> Callable[[Samples], dict[str, Any]]:
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    from services.asr.engine import Utterance
    from services.asr.engines.moonshine import Moonshine, bundled_model_dir
    from services.asr.settings import AsrSettings

    settings = AsrSettings()
    engine = Moonshine(bundled_model_dir(), workers=settings.workers, confidence_floor=settings.confidence_floor)
    options = VadOptions(max_speech_duration_s=engine.max_chunk_s)
    executor = ThreadPoolExecutor(engine.workers)

    def recognize(samples: Samples) -> dict[str, Any]:
        spans = get_speech_timestamps(samples.astype(np.float32) / 32768.0, options)
        utterances = [Utterance(samples[span["start"] : span["end"]], "en") for span in spans]
        hypotheses = executor.map(lambda utterance: engine.decode([utterance])[0], utterances)
        return {"text": " ".join(hypothesis.text for hypothesis in hypotheses)}

    return recognize


def _diarizer() -> Callable[[Samples], dict[str, Any]]:
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
    work = {"asr": _recognizer, "diarize": _diarizer}[kind]()
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
