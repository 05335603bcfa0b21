"""Silero's voice activity detection, driven frame by frame; its state is carried along while somebody speaks.

Probabilities only; what they mean for cutting audio is the segmenter's business.
"""

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

FRAME = 512
_CONTEXT = 64
_STATE = 128
# Carried on through silence the state drifts: behind a minute of zeros, noise or speech the network misses 4 to 8 % of
# the voice that follows. Begun anew after a second without voice it misses 0.5 %.
_FORGET_FRAMES = 31
_VOICE = 0.35
# Speech whose peaks are lower (int16) is raised to it: of speech at -70 dBFS the network misses 20 % of the voice as it
# is, and 2 % so. The level follows the loudest frame, and falls by half in four seconds without one as loud.
_LEAST_PEAK = 3_000.0
_LEVEL_DECAY = 0.995
# Peaks below are the last bit's noise, and not raised to speech.
_SILENT_PEAK = 4.0


class SileroModel:
    """The loaded network, which every stream shares."""

    def __init__(self, path: Path) -> None:
        """Load the ONNX file at `path`."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class SileroStream:
    """One recording on its way through the network."""

    def __init__(self, model: SileroModel) -> None:
        """Begin a recording in silence."""
        self._session = model.session
        self._context = np.zeros((1, _CONTEXT), np.float32)
        self._quiet_frames = 0
        self._peak = _SILENT_PEAK
        self._forget()

    def __call__(self, samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
        """Return the probability of speech of each frame of 512 samples; `samples` holds whole frames."""
        frames = self._raised(samples.reshape(-1, FRAME).astype(np.float32)) / 32768.0
        probabilities = np.zeros(len(frames), np.float32)
        done = 0
        while done < len(frames):
            # As many as can be heard before the state is forgotten, if there is no voice among them.
            ahead = frames[done : done + _FORGET_FRAMES - self._quiet_frames]
            probabilities[done : done + len(ahead)] = self._run(ahead)
            voice = np.flatnonzero(probabilities[done : done + len(ahead)] >= _VOICE)
            self._quiet_frames = len(ahead) - 1 - voice[-1] if len(voice) else self._quiet_frames + len(ahead)
            if self._quiet_frames >= _FORGET_FRAMES:
                self._forget()
            done += len(ahead)
        return probabilities

    def _raised(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return frames of quiet speech louder, and others as they are."""
        levels = np.empty(len(frames), np.float32)
        for number, peak in enumerate(np.abs(frames).max(axis=1).tolist()):
            levels[number] = self._peak = max(peak, self._peak * _LEVEL_DECAY, _SILENT_PEAK)
        return np.asarray(frames * np.maximum(1.0, _LEAST_PEAK / levels)[:, np.newaxis], np.float32)

    def _forget(self) -> None:
        self._h = np.zeros((1, 1, _STATE), np.float32)
        self._c = np.zeros((1, 1, _STATE), np.float32)
        self._quiet_frames = 0

    def _run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        contexts = np.concatenate([self._context, frames[:-1, -_CONTEXT:]])
        probabilities, self._h, self._c = self._session.run(
            ["speech_probs", "hn", "cn"],
            {"input": np.concatenate([contexts, frames], axis=1), "h": self._h, "c": self._c},
        )
        self._context = frames[-1:, -_CONTEXT:]
        return np.asarray(probabilities, np.float32).reshape(-1)


def bundled_silero_path() -> Path:
    """Return the Silero v6 file inside the installed faster-whisper, without importing that package."""
    spec = importlib.util.find_spec("faster_whisper")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package faster-whisper is not installed")
    path = Path(spec.submodule_search_locations[0]) / "assets" / "silero_vad_v6.onnx"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; faster-whisper 1.2 carries it")
    return path
