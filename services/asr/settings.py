"""What the recognition service can be told."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from services.common.settings import GrpcSettings


def _ids(text: object) -> object:
    """Read ids separated by commas or spaces."""
    return tuple(text.replace(",", " ").split()) if isinstance(text, str) else text


Ids = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_ids)]


class AsrSettings(GrpcSettings):
    """Settings of the recognition service, read from ASR_* variables."""

    model_config = SettingsConfigDict(env_prefix="ASR_")

    port: int = Field(50051, description="Port to listen on; 0 picks a free one.", ge=0, le=65535)
    metrics_port: int = Field(
        9465, description="Port where Prometheus reads metrics; 0 picks a free one.", ge=0, le=65535
    )
    models: Ids = Field(
        ("base", "moonshine-tiny-en"),
        description="Models loaded from the start on, by id, separated by commas; they answer where none is named.",
    )
    models_on_demand: Ids = Field((), description="Models that are loaded when somebody asks for them.")
    fallback_models: Ids = Field(
        (),
        description="Answer, the first that can, and say so, for models that are not loaded; empty: nothing does.",
    )
    model_dir: Path | None = Field(
        None,
        validation_alias="MODEL_DIR",
        description="Folder of CTranslate2 models, each in a folder named by its id; others come from the hub.",
    )
    max_models: int = Field(4, description="Models loaded at once, the embedded one not counted.", ge=1)
    memory_mib: int = Field(
        0, description="Memory that loaded models may take together, in MiB; 0: what the device has free.", ge=0
    )
    load_wait_s: float = Field(10.0, description="Seconds that a request waits for its model to be loaded.", ge=0)
    load_retry_s: float = Field(
        5.0, description="Seconds until a model that could not be loaded is tried again; each time twice as long.", gt=0
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where Whisper models run.")
    visible_devices: str = Field(
        "", validation_alias="CUDA_VISIBLE_DEVICES", description="Which GPUs may be used; the first one is."
    )
    compute_type: str = Field(
        "auto", description="What Whisper models compute with, as CTranslate2 names it: float16, int8_float16, int8 ..."
    )
    least_window_s: float = Field(
        0.0,
        description="Seconds that Whisper's encoder hears at least; 0: what was measured for the model, else 30.",
        ge=0,
        le=30,
    )
    beam_size: int = Field(5, description="Beams of Whisper's search; 1 is fastest.", ge=1, le=10)
    max_batch: int = Field(
        0, description="Pieces of speech that Whisper decodes together; 0: 16 on a GPU, 4 on a CPU.", ge=0, le=64
    )
    workers: int = Field(
        default_factory=lambda: max(1, min(4, os.cpu_count() or 1)),
        description="Pieces of speech decoded at once on the CPU, a thread each; as many as there are cores for it.",
        ge=1,
    )
    gpu_workers: int = Field(2, description="Batches prepared and decoded at once for the GPU.", ge=1)
    max_requests: int = Field(16, description="Recordings transcribed at once; more are refused.", ge=1)
    max_sessions: int = Field(32, description="Live sessions at once; more are refused.", ge=1)
    max_ahead_s: float = Field(
        20.0, description="Seconds of speech that a live session is read ahead of its segments.", gt=0
    )
    max_waiting: int = Field(
        160, description="Pieces of speech that wait to be decoded; past it requests are refused.", ge=1
    )
    file_wait_s: float = Field(
        5.0, description="Seconds after which a recording's piece goes ahead of interim results.", ge=0
    )
    confidence_floor: float = Field(
        0.4, description="Moonshine's words below this mean probability are taken for noise.", ge=0, le=1
    )
    alignment_deadline_s: float = Field(
        15.0, description="Seconds after which a chunk's word times are estimated instead.", gt=0
    )
