"""The stock faster-whisper on recordings that come so many at once: in a fresh process, a thread for each request.

It is asked for what the service gives: each recording's language is told, five beams, word times, a voice activity
filter, no text of one window carried into the next, no time marks among the words. The rest is the library's default.
The recordings are in memory already; loading and a first recording are not timed.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from tests.bench.data import Samples

OPTIONS = {
    "beam_size": 5,
    "word_timestamps": True,
    "vad_filter": True,
    "condition_on_previous_text": False,
    "without_timestamps": True,
}
_LIMIT_S = 3600.0


@dataclass(frozen=True)
class Way:
    """How the library is run: its model's workers and threads (0: its default), and one request at a time or not.

    With a `batch` its batched pipeline cuts each recording into pieces and decodes so many of them together.
    """

    locked: bool
    workers: int = 1
    threads: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Run:
    """What came of all recordings: the seconds until the last was done, those of processors, and the texts."""

    wall_s: float
    cpu_s: float
    texts: Sequence[str]


def run(
    count: int,
    transcribe: Callable[[Samples, str], str],
    recordings: Sequence[Samples],
    languages: Sequence[str],
    cpu_s: Callable[[], float] = time.process_time,
) -> Run:
    """Transcribe all recordings, `count` at once; `cpu_s` returns the processor seconds used so far."""
    with ThreadPoolExecutor(count) as pool:
        started, used_s = time.monotonic(), cpu_s()
        texts = list(pool.map(transcribe, recordings, languages))
        return Run(time.monotonic() - started, cpu_s() - used_s, texts)


def stock(
    way: Way,
    model: Path,
    recordings: Sequence[Samples],
    languages: Sequence[str],
    counts: Sequence[int],
    device: str,
    compute_type: str,
) -> dict[int, Run]:
    """Run the library in one fresh process; return for each count of requests at once what came of the recordings."""
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "recordings.npz"), Path(folder, "result.json")
        np.savez(source, *recordings)
        asked = json.dumps([asdict(way), str(model), list(languages), list(counts), device, compute_type])
        command = [sys.executable, "-m", "tests.bench.stock_whisper", asked, str(source), str(result)]
        subprocess.run(command, check=True, timeout=_LIMIT_S)
        rows = json.loads(result.read_text())
    return {count: Run(*row) for count, row in zip(counts, rows, strict=True)}


def _transcriber(way: Way, model: str, device: str, compute_type: str) -> Callable[[Samples, str], str]:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    whisper = WhisperModel(
        model, device=device, compute_type=compute_type, num_workers=way.workers, cpu_threads=way.threads
    )
    options = {**OPTIONS, "batch_size": way.batch} if way.batch else OPTIONS
    stage = BatchedInferencePipeline(whisper) if way.batch else whisper
    turn: AbstractContextManager[object] = Lock() if way.locked else nullcontext()

    def transcribe(samples: Samples, language: str) -> str:
        with turn:
            segments, _ = stage.transcribe(samples.astype(np.float32) / 32768.0, language=language, **options)
            return "".join(segment.text for segment in segments)

    return transcribe


def _main(asked: str, source: str, result: str) -> None:
    way, model, languages, counts, device, compute_type = json.loads(asked)
    transcribe = _transcriber(Way(**way), model, device, compute_type)
    with np.load(source) as file:
        recordings = [file[name] for name in file.files]
    transcribe(recordings[0], languages[0])
    runs = [run(count, transcribe, recordings, languages) for count in counts]
    Path(result).write_text(json.dumps([(each.wall_s, each.cpu_s, each.texts) for each in runs]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
