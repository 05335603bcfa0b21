"""What the diarization service can be told."""

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from services.common.settings import GrpcSettings


class DiarizeSettings(GrpcSettings):
    """Settings of the diarization service, read from DIARIZE_* variables."""

    model_config = SettingsConfigDict(env_prefix="DIARIZE_")

    port: int = Field(50052, description="Port to listen on; 0 picks a free one.", ge=0, le=65535)
    workers: int = Field(2, description="Threads that run the networks, one window each.", ge=1)
    ahead: int = Field(2, description="Stretches of 10 s of one recording that may wait or be at work.", ge=1)
    max_requests: int = Field(4, description="Recordings taken at once; more are refused.", ge=1)
    max_audio_s: float = Field(43_200.0, description="Longest recording in seconds.", gt=0)
    steps_s: dict[float, float] = Field(
        {0.0: 2.5, 10_800.0: 5.0},
        description="Step of the 10 s windows by the length of the recording, both in seconds, as a JSON object; "
        "a step divides 10 s.",
    )

    @field_validator("steps_s")
    @classmethod
    def _steps_divide_a_window(cls, steps_s: dict[float, float]) -> dict[float, float]:
        if 0 not in steps_s:
            raise ValueError("a step for the length 0 is missing")
        for step in steps_s.values():
            if not 0.5 <= step <= 10 or (10 / step) % 1:
                raise ValueError(f"{step:g} is not a step from 0.5 to 10 that divides 10")
        return steps_s
