"""What the diarization service can be told."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from services.common.settings import GrpcSettings
from services.diarize.engines.sortformer.presets import PRESETS

_LATENCIES = ", ".join(f"{latency_s:g}" for latency_s in PRESETS)


class DiarizeSettings(GrpcSettings):
    """Settings of the diarization service, read from DIARIZE_* variables."""

    model_config = SettingsConfigDict(env_prefix="DIARIZE_")

    port: int = Field(50052, description="Port to listen on; 0 picks a free one.", ge=0, le=65535)
    metrics_port: int = Field(
        9466, description="Port where Prometheus reads metrics; 0 picks a free one.", ge=0, le=65535
    )
    model: str = Field(
        "auto",
        description="diar_streaming_sortformer_4spk-v2 (fetched where it is not here), pyannote-community-1, which is "
        "embedded, or auto: the first where its files and NeMo are here.",
        min_length=1,
    )
    model_dir: Path | None = Field(
        None,
        validation_alias="MODEL_DIR",
        description="Folder with the Sortformer's .nemo file; where it has none, it comes from the hub.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the Sortformer runs.")
    latency_s: float = Field(
        30.4, description=f"Preset of its model card for recordings: {_LATENCIES}; the longest is the most exact."
    )
    live_latency_s: float = Field(
        1.04, description="The same for live sessions, which on a CPU are the embedded engine's."
    )
    max_batch: int = Field(
        0,
        description="Chunks of audio that it hears together; 0: 8 on a GPU, 1 on a CPU.",
        ge=0,
        le=64,
    )
    load_retry_s: float = Field(30.0, description="Seconds until it is tried again where it cannot be had.", gt=0)
    workers: int = Field(2, description="Threads that run the networks.", ge=1)
    ahead: int = Field(2, description="Stretches of 10 s of one recording that may wait or be at work.", ge=1)
    max_requests: int = Field(4, description="Recordings taken at once; more are refused.", ge=1)
    max_sessions: int = Field(
        default_factory=lambda: 2 * (os.cpu_count() or 1),
        description="Live sessions at once; more are refused. By default two for each core, which keep a quarter of it "
        "busy on the embedded engine; a GPU carries more.",
        ge=1,
    )
    max_audio_s: float = Field(43_200.0, description="Longest recording in seconds.", gt=0)
    steps_s: dict[float, float] = Field(
        {0.0: 2.5, 10_800.0: 5.0},
        description="Step of the 10 s windows by the length of the recording, both in seconds, as a JSON object; "
        "a step divides 10 s.",
    )

    @field_validator("latency_s", "live_latency_s")
    @classmethod
    def _is_a_preset(cls, latency_s: float) -> float:
        if latency_s not in PRESETS:
            raise ValueError(f"{latency_s:g} is none of {_LATENCIES}")
        return latency_s

    @field_validator("steps_s")
    @classmethod
    def _steps_divide_a_window(cls, steps_s: dict[float, float]) -> dict[float, float]:
        if 0 not in steps_s:
            raise ValueError("a step for the length 0 is missing")
        for step in steps_s.values():
            if not 0.5 <= step <= 10 or (10 / step) % 1:
                raise ValueError(f"{step:g} is not a step from 0.5 to 10 that divides 10")
        return steps_s
