"""What the summary service can be told."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from services.common.settings import GrpcSettings

_LEAST_INPUT_TOKENS = 1_000


class SummarizeSettings(GrpcSettings):
    """Settings of the summary service, read from SUMMARIZE_* variables."""

    model_config = SettingsConfigDict(env_prefix="SUMMARIZE_")

    port: int = Field(50053, description="Port to listen on; 0 picks a free one.", ge=0, le=65535)
    metrics_port: int = Field(
        9467, description="Port where Prometheus reads metrics; 0 picks a free one.", ge=0, le=65535
    )
    model: Literal["auto", "extractive-lexrank", "qwen2.5-1.5b-instruct"] = Field(
        "auto", description="What summarizes; auto: Qwen where PyTorch and its files are here, else the extractive one."
    )
    model_dir: Path | None = Field(
        None,
        validation_alias="MODEL_DIR",
        description="Folder of models, each in a folder named by its id; others come from the hub.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where Qwen runs.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="What Qwen computes with; auto: bfloat16 where the device has it, else float32."
    )
    max_batch: int = Field(8, description="Texts, or parts of them, that Qwen works on together.", ge=1, le=256)
    max_input_tokens: int = Field(
        0,
        description="Tokens of a text that Qwen reads in one pass, 1,000 to 31,000; a longer text is summarized in"
        " parts. 0: 30,000 on a GPU, 6,000 on a CPU.",
        ge=0,
        le=31_000,
    )
    load_retry_s: float = Field(
        5.0, description="Seconds until loading that failed is tried again; each time twice as long.", gt=0
    )
    load_wait_s: float = Field(10.0, description="Seconds that a request waits for Qwen to be loaded.", ge=0)
    workers: int = Field(2, description="Texts that the extractive engine works on at once, a thread each.", ge=1)
    max_requests: int = Field(8, description="Texts taken at once, waiting ones included; more are refused.", ge=1)

    @field_validator("max_input_tokens")
    @classmethod
    def _holds_a_text(cls, value: int) -> int:
        if 0 < value < _LEAST_INPUT_TOKENS:
            raise ValueError(f"Input should be 0, or at least {_LEAST_INPUT_TOKENS}")
        return value
