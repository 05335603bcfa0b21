"""Run the two networks of community-1 on a CPU: who is active in 10 s, and what a voice sounds like.

The embedding network is cut at its pooling layer: its convolutions run once over every stretch of audio, and each
voice of each window, however many overlap there, is pooled out of the same frames. Windows and clustering are not here.
"""

from typing import Any

import kaldi_native_fbank as knf
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from services.common.audio import SAMPLE_RATE
from services.diarize.engines.libmoonshine import Community1Files
from services.diarize.engines.ort_format import onnx_from_ort

WINDOW_SAMPLES = 10 * SAMPLE_RATE
"""What the segmentation network sees at once."""
FBANK_S = 0.01
FEATURE_S = 0.08
"""Step of the embedding network's frames before its pooling."""
FEATURE_CHANNELS = 2560
LOOKBACK_SAMPLES = 240
"""What the first Kaldi frame of a stretch needs of the audio before it, to be centred on the stretch's start."""

_POOL_INPUT = "/resnet/pool/Reshape_output_0"

Floats = npt.NDArray[np.float32]
Samples = npt.NDArray[np.int16]


class Networks:
    """The networks, each run on the calling thread alone; safe to share between threads."""

    def __init__(self, files: Community1Files) -> None:
        self._segmentation = _session(onnx_from_ort(files.segmentation))
        embedding = onnx_from_ort(files.embedding)
        embedding.graph.value_info.append(
            onnx.helper.make_tensor_value_info(
                _POOL_INPUT, onnx.TensorProto.FLOAT, ["batch", FEATURE_CHANNELS, "frames"]
            )
        )
        cut = onnx.utils.Extractor(embedding)
        self._convolutions = _session(cut.extract_model(["fbank"], [_POOL_INPUT]))
        self._pooling = _session(cut.extract_model([_POOL_INPUT, "weights"], ["embedding"]))

    def segment(self, windows: Samples) -> npt.NDArray[np.bool_]:
        """Say which of up to three voices are active: (n, WINDOW_SAMPLES) -> (n, WINDOW_FRAMES, WINDOW_VOICES)."""
        waveforms = windows[:, None, :].astype(np.float32) / 32768
        active: npt.NDArray[np.bool_] = self._segmentation.run(None, {"waveforms": waveforms})[0] > 0.5
        return active

    def features(self, samples: Samples, speech: npt.NDArray[np.bool_], first: int = 0) -> Floats:
        """Compute what voices are pooled from: LOOKBACK_SAMPLES and a stretch -> (2560, stretch / FEATURE_S).

        `speech` says for each 10 ms of the stretch whether somebody speaks; the mean of those frames is taken off.
        Features are computed from the `first` of these 10 ms on only, as if nothing were before.
        """
        fbank = _fbank(samples)
        spoken = fbank[speech[: len(fbank)]]
        mean = (spoken if len(spoken) else fbank).mean(axis=0)
        result: Floats = self._convolutions.run(None, {"fbank": (fbank[first:] - mean)[None]})[0][0]
        return result

    def embed(self, features: Floats, weights: Floats) -> Floats:
        """Pool voices out of features: (2560, frames) and (voices, frames) of 0 or 1 -> (voices, 256)."""
        result: Floats = self._pooling.run(None, {_POOL_INPUT: features[None], "weights": weights})[0]
        return result


def _fbank(samples: Samples) -> Floats:
    """Compute Kaldi's log mel energies as the network was trained on: (frames of 10 ms, 80)."""
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "hamming"
    options.mel_opts.num_bins = 80
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(SAMPLE_RATE, samples.astype(np.float32))
    fbank.input_finished()
    return np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])


def _session(model: onnx.ModelProto) -> Any:
    options = ort.SessionOptions()
    # One thread a run: the service runs several windows at once instead, which costs less CPU.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # An arena would keep the largest run's memory of each thread for good: 100 MB more for 5 % less CPU.
    options.enable_cpu_mem_arena = False
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
