"""What one GPU carries with a model of large-v3-turbo's size: live sessions, and hours of audio in an hour.

The model is untrained (see `tests.models.whisper`) and says four tokens to a second: of an average utterance live, and
of whole 30 s in every chunk of a recording. Both are rather too many: looks at what is still being spoken hear less of
it, and chunks end at pauses. What is spoken are the wheel's recordings.
"""

import tempfile
from pathlib import Path
from statistics import mean

import ctranslate2

from services.common.audio import SAMPLE_RATE
from tests.bench import live
from tests.bench.data import Samples, looped, pcm_messages, wheel_recordings
from tests.bench.figures import Figure, Measured
from tests.bench.microphone import Talk, speeches
from tests.bench.plan import Plan
from tests.bench.stock_whisper import Way, run, stock
from tests.bench.system import System
from tests.models.whisper import LARGE_V3_TURBO, save, words_of_one_token

_MODEL = "untrained"
_DEVICE, _COMPUTE_TYPE = "cuda", "float16"
_SETTINGS = {"ASR_MODELS": _MODEL, "ASR_DEVICE": _DEVICE, "ASR_COMPUTE_TYPE": _COMPUTE_TYPE}
_SESSIONS = (16, 32, 64, 96, 128, 192, 256)
_AT_ONCE, _BATCH = 16, 16
_LENGTH_S, _QUICK_LENGTH_S = 600.0, 120.0
_TOKENS_PER_S, _WINDOW_S = 4, 30


def measure(plan: Plan, log_dir: Path) -> Measured:
    """Hold more and more live sessions, then transcribe recordings, sixteen at once."""
    if not ctranslate2.get_cuda_device_count():
        names = ("GPU live sessions at which it breaks", "GPU hours of audio in an hour")
        return Measured([Figure(name, None, note="not measured: no GPU") for name in names])
    sessions = _sessions(plan, log_dir)
    return Measured([*sessions.figures, _hours(plan, log_dir)], sessions.series)


def _sessions(plan: Plan, log_dir: Path) -> Measured:
    utterance_s = mean(end - begin for begin, end in speeches(1, 60.0)[0].spans)
    talk = Talk(_MODEL, speeches)
    with tempfile.TemporaryDirectory() as folder:
        _save(Path(folder, _MODEL), round(_TOKENS_PER_S * utterance_s))
        with System(log_dir, _SETTINGS | live.LOAD_SETTINGS | {"MODEL_DIR": folder}) as system:
            live.warm_up(system, talk)
            # No count is a target: it is as many as the GPU at hand carries.
            figures, series = live.hold(system, plan, talk, _SESSIONS, None, "GPU live")
    return Measured(figures, {"gpu_live": series})


def _hours(plan: Plan, log_dir: Path) -> Figure:
    recordings = [looped(wheel_recordings(), _QUICK_LENGTH_S if plan.quick else _LENGTH_S)] * _AT_ONCE
    plan.say(f"GPU: {_AT_ONCE} recordings at once")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, _MODEL)
        _save(model, _TOKENS_PER_S * _WINDOW_S)
        peer = Way(locked=True, batch=_BATCH)
        languages = ["en"] * len(recordings)
        theirs = stock(peer, model, recordings, languages, (_AT_ONCE,), _DEVICE, _COMPUTE_TYPE)[_AT_ONCE]
        with System(log_dir, _SETTINGS | {"MODEL_DIR": folder}) as system:

            def transcribe(recording: Samples, language: str) -> str:
                return system.recognize(pcm_messages(recording.tobytes()), model=_MODEL, language=language)

            transcribe(recordings[0], languages[0])
            ours = run(_AT_ONCE, transcribe, recordings, languages)
    audio_s = sum(map(len, recordings)) / SAMPLE_RATE
    return Figure(
        "GPU hours of audio in an hour",
        audio_s / ours.wall_s,
        "h",
        alone=audio_s / theirs.wall_s,
        note=f"{_AT_ONCE} at once; alone: stock, batched by {_BATCH}, one after the other",
    )


def _save(folder: Path, words: int) -> None:
    save(folder, words_of_one_token(words), LARGE_V3_TURBO)
