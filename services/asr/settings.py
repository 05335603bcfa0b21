"""What the recognition service can be told."""

import os
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import GrpcSettings


class AsrSettings(GrpcSettings):
    """Settings of the recognition service, read from ASR_* variables."""

    model_config = SettingsConfigDict(env_prefix="ASR_")

    port: int = Field(50051, description="Port to listen on; 0 picks a free one.", ge=0, le=65535)
    fallback_model: Literal["", "moonshine-tiny-en"] = Field(
        "moonshine-tiny-en", description="Answers for models that are not loaded; empty: they are unavailable."
    )
    workers: int = Field(
        default_factory=lambda: max(1, min(4, os.cpu_count() or 1)),
        description="Chunks decoded at once, a thread each; as many as there are cores for it.",
        ge=1,
    )
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
