"""What models run on: the GPU where there is one, else the CPU, and how much memory it has left."""

from dataclasses import dataclass

import ctranslate2
import pynvml

from services.common.memory import available_mib

_MIB = 1024 * 1024
# The first that the device can do; in 8 bits weights take half the memory of 16, on GPUs at some cost in speed.
_PREFERRED = {"cuda": ("float16", "int8_float16", "int8", "float32"), "cpu": ("int8", "float32")}


@dataclass(frozen=True, slots=True)
class Device:
    """A CPU ("cpu"), or the GPU that is used ("cuda") with its name and memory, the first that is `visible`."""

    kind: str
    name: str = ""
    memory_mib: int = 0
    visible: str = ""

    def compute_type(self, asked: str) -> str:
        """Return the type to compute with: what was asked for or, for "auto", what suits the device.

        Raises ValueError where the device cannot do it.
        """
        able = ctranslate2.get_supported_compute_types(self.kind)
        if asked == "auto":
            return next(each for each in _PREFERRED[self.kind] if each in able)
        if asked not in able:
            raise ValueError(f"{self.kind} cannot compute in {asked}, only in {', '.join(sorted(able))}")
        return asked

    def free_mib(self) -> float:
        """Return how much memory is left for models."""
        if self.kind == "cuda":
            return float(pynvml.nvmlDeviceGetMemoryInfo(_gpu(self.visible)).free) / _MIB
        return available_mib()


def find(asked: str, visible: str) -> Device:
    """Return the device: `asked` is "cpu", "cuda" or "auto", `visible` what CUDA_VISIBLE_DEVICES says.

    Raises OSError where there is no such.
    """
    gpus = ctranslate2.get_cuda_device_count() if asked != "cpu" else 0
    if asked == "cuda" and not gpus:
        raise OSError("no GPU that CUDA can use was found")
    if not gpus:
        return Device("cpu")
    try:
        gpu = _gpu(visible)
        total_mib = pynvml.nvmlDeviceGetMemoryInfo(gpu).total // _MIB
        return Device("cuda", pynvml.nvmlDeviceGetName(gpu), total_mib, visible)
    except pynvml.NVMLError as error:
        raise OSError(f"the GPU does not tell its name and memory: {error}") from None


def _gpu(visible: str) -> "pynvml.c_nvmlDevice_t":
    pynvml.nvmlInit()
    first = visible.split(",")[0].strip()
    if first and not first.isdigit():
        return pynvml.nvmlDeviceGetHandleByUUID(first)
    return pynvml.nvmlDeviceGetHandleByIndex(int(first or 0))
