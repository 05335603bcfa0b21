"""Load a Sortformer with NeMo and run it chunk by chunk, several streams at once; the only module that imports torch.

What the network remembers of a stream is this module's `State`, which to all others is only handed back. What
NeMo does with a whole recording's features (`SortformerEncLabelModel.forward_streaming`) is done here with each
stream's as they come, so streams that began at different times share a batch.
"""

import logging
import lzma
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from services.common.engine_work import computing
from services.diarize.engines.sortformer.chunks import SUBSAMPLING, Chunk, Heard

_TARGET = "SortformerEncLabelModel"
_CONFIG = "model_config.yaml"
_NO_MEMORY = "allocate memory"  # what torch's allocator for CPUs says


@dataclass(frozen=True, slots=True)
class State:
    """What the network remembers of a stream; its tensors have a first dimension of 1."""

    spkcache: torch.Tensor
    spkcache_lengths: torch.Tensor
    spkcache_preds: torch.Tensor
    fifo: torch.Tensor
    fifo_lengths: torch.Tensor
    mean_sil_emb: torch.Tensor
    n_sil_frames: torch.Tensor


class Network:
    """A loaded Sortformer; used by one thread at a time."""

    def __init__(self, model_id: str, model: Any, device: torch.device) -> None:
        self._model_id = model_id
        self._model = model
        self._device = device
        self.max_speakers: int = model.sortformer_modules.n_spk

    def hear(self, chunks: Sequence[Chunk]) -> list[Heard]:
        """Hear chunks of one preset, all of them their streams' first ones or none; raises MemoryError."""
        try:
            with computing(self._model_id), torch.inference_mode():
                return self._hear(chunks)
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error)) from error
        except RuntimeError as error:
            if _NO_MEMORY in str(error):
                raise MemoryError(str(error)) from error
            raise

    def _hear(self, chunks: Sequence[Chunk]) -> list[Heard]:
        modules, preset, left = self._model.sortformer_modules, chunks[0].preset, chunks[0].left
        modules.chunk_len, modules.fifo_len = preset.chunk, preset.fifo
        modules.spkcache_len, modules.spkcache_update_period = preset.cache, preset.update
        heard = [self._features(chunk) for chunk in chunks]
        lengths = torch.tensor([len(features) for features in heard], device=self._device)
        # All as long as a whole chunk: what a batch computes does not depend on which ends in it.
        padded = torch.zeros(len(chunks), (left + preset.chunk + preset.right) * SUBSAMPLING, heard[0].shape[1])
        padded = padded.to(self._device)
        for row, features in zip(padded, heard, strict=True):
            row[: len(features)] = features
        state, answers = self._model.forward_streaming_step(
            processed_signal=padded,
            processed_signal_length=lengths,
            streaming_state=self._joined(chunks),
            total_preds=torch.zeros(len(chunks), 0, self.max_speakers, device=self._device),
            left_offset=left * SUBSAMPLING,
            right_offset=preset.right * SUBSAMPLING,
        )
        probabilities = answers.cpu().numpy().astype(np.float16)
        return [Heard(probabilities[i, : chunk.frames].copy(), _row(state, i)) for i, chunk in enumerate(chunks)]

    def _features(self, chunk: Chunk) -> torch.Tensor:
        """Return (features, bands)."""
        samples = torch.from_numpy(chunk.samples.astype(np.float32) / 32768)[None].to(self._device)
        length = torch.tensor([samples.shape[1]], device=self._device)
        found, lengths = self._model.preprocessor(input_signal=samples, length=length)
        features: torch.Tensor = found[0, :, chunk.skip : int(lengths[0])].T
        return features[: (chunk.left + chunk.preset.chunk + chunk.preset.right) * SUBSAMPLING]

    def _joined(self, chunks: Sequence[Chunk]) -> Any:
        joined = self._model.sortformer_modules.init_streaming_state(len(chunks), True, self._device)
        for i, chunk in enumerate(chunks):
            for field in fields(State) if chunk.state else ():
                getattr(joined, field.name)[i] = getattr(chunk.state, field.name)[0]
        return joined


def choose_device(asked: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """Return where to run; raises ValueError where there is no such device."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise ValueError("no GPU that CUDA can use was found")
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def load(path: Path, device: Literal["cpu", "cuda"], speakers: int, threads: int) -> Network:
    """Load a .nemo file; raises ValueError, a sentence, where it holds no Sortformer for so many that can stream.

    On a CPU it runs in so many threads.
    """
    _check(path)
    torch.set_num_threads(threads)
    model = _restore(path, device)
    if model.cfg.preprocessor.get("normalize") not in (None, "NA"):
        raise ValueError(f"{path.name} normalizes over whole recordings, so it cannot be streamed.")
    if model.encoder.subsampling_factor != SUBSAMPLING:
        raise ValueError(f"{path.name} answers every {model.encoder.subsampling_factor * 10} ms, not every 80.")
    if model.sortformer_modules.n_spk != speakers:
        raise ValueError(f"{path.name} tells {model.sortformer_modules.n_spk} speakers apart, not {speakers}.")
    model.eval()
    model.streaming_mode = model.async_streaming = True
    return Network(path.stem, model, torch.device(device))


def _check(path: Path) -> None:
    """Raise ValueError where a quick look shows that a file is something else."""
    try:
        with tarfile.open(path) as archive:
            name = next((each for each in archive.getnames() if Path(each).name == _CONFIG), None)
            config = archive.extractfile(name) if name else None
            content = config.read().decode() if config else ""
    except (tarfile.TarError, lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is damaged, or no .nemo file.") from error
    if _TARGET not in content:
        raise ValueError(f"{path.name} holds no Sortformer.")


def _restore(path: Path, device: str) -> Any:
    # It takes ten seconds, and says much that nobody who runs a service can use.
    logging.getLogger("nv_one_logger").setLevel(logging.CRITICAL)
    from nemo.collections.asr.models import SortformerEncLabelModel
    from nemo.utils import logging as nemo_logging

    nemo_logging.setLevel(logging.CRITICAL)
    try:
        return SortformerEncLabelModel.restore_from(str(path), map_location=torch.device(device))
    except torch.OutOfMemoryError:
        raise ValueError(f"{path.name} finds no room in the GPU's memory.") from None
    except Exception as error:  # of a dozen libraries
        raise ValueError(f"{path.name} cannot be loaded: {' '.join(str(error).split())[:200]}.") from error


def _row(state: Any, index: int) -> State:
    # Cloned: a slice would keep the whole batch's memory.
    return State(**{each.name: getattr(state, each.name)[index : index + 1].clone() for each in fields(State)})
