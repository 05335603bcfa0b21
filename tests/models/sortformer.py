"""Make Sortformers of random weights, of the true one's parts and config: as large as it, or a hundredth of that.

Left as they come, random weights answer every frame nearly alike. So the last layer is scaled and shifted until each
channel is active about a third of the time on given voices: what comes out means nothing, but depends on what is said.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nemo.collections.asr.models import SortformerEncLabelModel
from omegaconf import OmegaConf

_MODULES = "nemo.collections.asr.modules"
_SPREAD = 3.0
_ACTIVE = 0.35


@dataclass(frozen=True)
class Size:
    """How large a model is: widths and layers of its two encoders, attention heads, bands of sound."""

    width: int
    layers: int
    narrow: int
    narrow_layers: int
    heads: int
    bands: int


SMALL = Size(width=64, layers=2, narrow=24, narrow_layers=2, heads=4, bands=32)
TRUE = Size(width=512, layers=17, narrow=192, narrow_layers=18, heads=8, bands=128)


def save(path: Path, size: Size, voices: npt.NDArray[np.int16], **changes: Any) -> None:
    """Save a model as a .nemo file; `changes` go into its config."""
    torch.manual_seed(1)
    model = SortformerEncLabelModel(_config(size, **changes)).eval()
    if not changes:
        _spread(model, voices)
    model.save_to(str(path))


def _config(size: Size, **changes: Any) -> Any:
    """Return the config of NVIDIA's streaming Sortformer without what training needs, in another size."""
    width, narrow, heads, bands = size.width, size.narrow, size.heads, size.bands
    return OmegaConf.create(
        {
            "sample_rate": 16_000,
            "max_num_of_spks": 4,
            "streaming_mode": True,
            "model_defaults": {"fc_d_model": width, "tf_d_model": narrow},
            "preprocessor": {
                "_target_": f"{_MODULES}.AudioToMelSpectrogramPreprocessor",
                "normalize": "NA",
                "window_size": 0.025,
                "window_stride": 0.01,
                "window": "hann",
                "features": bands,
                "n_fft": 512,
                "dither": 1e-5,
                "sample_rate": 16_000,
            }
            | changes.pop("preprocessor", {}),
            "sortformer_modules": {
                "_target_": f"{_MODULES}.sortformer_modules.SortformerModules",
                "num_spks": 4,
                "fc_d_model": width,
                "tf_d_model": narrow,
            },
            "encoder": {
                "_target_": f"{_MODULES}.ConformerEncoder",
                "feat_in": bands,
                "feat_out": -1,
                "n_layers": size.layers,
                "d_model": width,
                "subsampling": "dw_striding",
                "subsampling_factor": 8,
                "subsampling_conv_channels": width // 2,
                "self_attention_model": "rel_pos",
                "n_heads": heads,
                "conv_kernel_size": 9,
            },
            "transformer_encoder": {
                "_target_": f"{_MODULES}.transformer.transformer_encoders.TransformerEncoder",
                "num_layers": size.narrow_layers,
                "hidden_size": narrow,
                "inner_size": narrow * 4,
                "num_attention_heads": heads,
            },
            "loss": {"_target_": "nemo.collections.asr.losses.bce_loss.BCELoss", "weight": None},
        }
        | changes
    )


def _spread(model: Any, voices: npt.NDArray[np.int16]) -> None:
    last = model.sortformer_modules.single_hidden_to_spks
    seen: list[torch.Tensor] = []
    hook = last.register_forward_hook(lambda module, given, answer: seen.append(answer[0]))
    samples = torch.from_numpy(voices.astype(np.float32) / 32768)[None]
    with torch.inference_mode():
        model.forward(audio_signal=samples, audio_signal_length=torch.tensor([samples.shape[1]]))
        hook.remove()
        answers = torch.cat(seen)
        scale = _SPREAD / answers.std(dim=0)
        border = torch.quantile(answers, 1 - _ACTIVE, dim=0)
        last.weight.mul_(scale[:, None])
        last.bias.sub_(border).mul_(scale)
