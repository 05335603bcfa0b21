"""What the summary service can be told."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import GrpcSettings


class SummarizeSettings(GrpcSettings):
    """Settings of the summary service, read from SUMMARIZE_* variables."""

    model_config = SettingsConfigDict(env_prefix="SUMMARIZE_")

    port: int = Field(50053, description="Port to listen on; 0 picks a free one.", ge=0, le=65535)
    workers: int = Field(2, description="Texts that are worked on at once, a thread each.", ge=1)
    max_requests: int = Field(8, description="Texts taken at once, waiting ones included; more are refused.", ge=1)
