"""Makes the engine of a folder of files: the tokenizer, the model on its device, and the memory it works in."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import torch
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, Qwen2ForCausalLM
from transformers.generation import ContinuousBatchingConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.utils.logging import disable_progress_bar

from services.common.memory import available_mib
from services.summarize.engine import UnavailableError
from services.summarize.engines.qwen.running import Running
from services.summarize.engines.qwen.sizing import MORE_TOKENS, PAGE_TOKENS, Sizes
from services.summarize.engines.qwen.tokens import ChatTokenizer

_ARCHITECTURE = "qwen2"
_MIB = 1024 * 1024

_log = structlog.get_logger(__name__)


class Model:
    """A loaded model, from which managers for it are made."""

    def __init__(self, model: Qwen2ForCausalLM, tokenizer: ChatTokenizer, sizes: Sizes, max_batch: int) -> None:
        self.tokenizer = tokenizer
        self.sizes = sizes
        self.max_batch = max_batch
        """How many prompts are worked on together."""
        self.device: str = model.device.type
        """Where it runs, "cpu" or "cuda"."""
        self._model: Any = model
        stated = model.generation_config.eos_token_id
        ends = [*(stated if isinstance(stated, list) else [stated]), tokenizer.end_token]
        self.ends = frozenset(token for token in ends if token is not None)
        """Tokens that end an answer."""
        self._generation = GenerationConfig(do_sample=False, eos_token_id=sorted(self.ends))
        self._batching = ContinuousBatchingConfig(
            page_size=PAGE_TOKENS,
            num_blocks=sizes.cache_pages,
            max_batch_tokens=sizes.step_tokens,
            max_requests_per_batch=max_batch,
            # Or it would look for kernels at a hub.
            auto_switch_to_flash=False,
        )

    def manager(self) -> ContinuousBatchingManager:
        """Return a new manager of batches, not started yet."""
        return self._model.init_continuous_batching(
            generation_config=self._generation, continuous_batching_config=self._batching
        )


def load(folder: Path, running: Running) -> Model:
    """Load what is in a folder, as transformers saves it. Raises UnavailableError."""
    # Bars and warnings are for those who load by hand; what goes wrong in batches is logged where it is dealt with.
    disable_progress_bar()
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
    device = _device(running.device)
    with _explained("Its configuration cannot be read."):
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.model_type != _ARCHITECTURE:
        raise UnavailableError(f"It is a {config.model_type} model, not {_ARCHITECTURE}.")
    if config.max_position_embeddings < MORE_TOKENS:
        raise UnavailableError(f"It has {config.max_position_embeddings} positions, and {MORE_TOKENS} are needed.")
    sizes = Sizes.on(device.type, running.max_input_tokens, config.max_position_embeddings, running.max_batch)
    dtype = _dtype(running.dtype, device)
    with _explained("Its configuration cannot be read."):
        weights_mib, cache_mib = _weights_mib(config, dtype), sizes.cache_mib(config, dtype.itemsize)
    needs_mib, has_mib = weights_mib + cache_mib, _free_mib(device)
    if needs_mib > has_mib:
        raise UnavailableError(f"It needs {needs_mib:,.0f} MiB of memory, and {has_mib:,.0f} MiB are free.")
    with _explained("Its tokenizer cannot be loaded, or has no chat template."):
        tokenizer = ChatTokenizer(AutoTokenizer.from_pretrained(folder, local_files_only=True))
    with _explained("Its weights cannot be loaded."):
        model, found = Qwen2ForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation="sdpa",
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
        model.to(device).eval()
    if found["missing_keys"]:  # they would be random
        raise UnavailableError(f"{len(found['missing_keys'])} of its weights are missing.")
    _log.info(
        "weights loaded",
        device=device.type,
        dtype=str(dtype).removeprefix("torch."),
        weights_mib=round(weights_mib),
        cache_tokens=sizes.cache_tokens,
        cache_mib=round(cache_mib),
    )
    return Model(model, tokenizer, sizes, running.max_batch)


@contextmanager
def _explained(sentence: str) -> Iterator[None]:
    """Turn whatever transformers raises into UnavailableError."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise UnavailableError("There is not enough memory for it.") from error
    except Exception as error:
        raise UnavailableError(sentence) from error


def _device(asked: str) -> torch.device:
    has_gpu = torch.cuda.is_available()
    if asked == "cuda" and not has_gpu:
        raise UnavailableError("No GPU that CUDA can use was found.")
    return torch.device("cuda" if has_gpu and asked != "cpu" else "cpu")


def _weights_mib(config: Any, dtype: torch.dtype) -> float:
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config)
    return float(model.num_parameters() * dtype.itemsize) / _MIB


def _free_mib(device: torch.device) -> float:
    return float(torch.cuda.mem_get_info(device)[0]) / _MIB if device.type == "cuda" else available_mib()


def _dtype(asked: str, device: torch.device) -> torch.dtype:
    """Return what to compute with: 16 bits where the device has them, which others imitate slowly."""
    if asked == "auto":
        if device.type == "cuda":
            able = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            able = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
        return torch.bfloat16 if able else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[asked]
