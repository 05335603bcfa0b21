"""Makes the engine of a folder of files: the tokenizer, the model on its device, and the memory it works in."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, Qwen2ForCausalLM
from transformers.generation import ContinuousBatchingConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.utils.logging import disable_progress_bar

from services.summarize.engine import UnavailableError
from services.summarize.engines.qwen.running import Running
from services.summarize.engines.qwen.tokens import ChatTokenizer

_ARCHITECTURE = "qwen2"
PAGE_TOKENS = 32
"""The least that prompts which begin alike share."""
# Tokens computed in one step: more are faster, and keep those who are being answered waiting for longer.
_STEP_TOKENS = {"cuda": 2048, "cpu": 128}
# Transcripts of the longest kind that have room at once. Shorter ones are more, longer requests wait for room.
_ROOM = {"cuda": 4, "cpu": 2}


class Model:
    """A loaded model, from which managers for it are made."""

    def __init__(self, model: Qwen2ForCausalLM, tokenizer: ChatTokenizer, running: Running) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = min(running.max_tokens, model.config.max_position_embeddings)
        self._model: Any = model
        stated = model.generation_config.eos_token_id
        ends = [*(stated if isinstance(stated, list) else [stated]), tokenizer.end_token]
        self.ends = frozenset(token for token in ends if token is not None)
        """Tokens that end an answer."""
        kind = model.device.type
        self._generation = GenerationConfig(do_sample=False, eos_token_id=sorted(self.ends))
        self._batching = ContinuousBatchingConfig(
            page_size=PAGE_TOKENS,
            num_blocks=_ROOM[kind] * (self.max_tokens // PAGE_TOKENS + 2),
            max_batch_tokens=_STEP_TOKENS[kind],
            max_requests_per_batch=running.max_batch,
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
    with _explained("Its tokenizer cannot be loaded, or has no chat template."):
        tokenizer = ChatTokenizer(AutoTokenizer.from_pretrained(folder, local_files_only=True))
    with _explained("Its weights cannot be loaded."):
        model, found = Qwen2ForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=_dtype(running.dtype, device),
            attn_implementation="sdpa",
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
        model.to(device).eval()
    if found["missing_keys"]:  # they would be random
        raise UnavailableError(f"{len(found['missing_keys'])} of its weights are missing.")
    return Model(model, tokenizer, running)


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


def _dtype(asked: str, device: torch.device) -> str:
    """Return what to compute with: 16 bits where the device has them, which others imitate slowly."""
    if asked != "auto":
        return asked
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
    return "bfloat16" if able else "float32"
