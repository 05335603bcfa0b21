"""The edge's settings."""

import tempfile
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import Settings

_MIB = 1024 * 1024


class EdgeSettings(Settings):
    """What the edge can be told."""

    model_config = SettingsConfigDict(env_prefix="EDGE_")

    port: int = Field(8080, description="Port to listen on; 0 picks a free one.", ge=0, le=65535)
    asr_address: str = Field(
        "127.0.0.1:50051", validation_alias="ASR_ADDRESS", description="host:port or dns:///name:port of recognition."
    )
    diarize_address: str = Field(
        "127.0.0.1:50052", validation_alias="DIARIZE_ADDRESS", description="The same of diarization."
    )
    summarize_address: str = Field(
        "127.0.0.1:50053", validation_alias="SUMMARIZE_ADDRESS", description="The same of summaries."
    )
    cors_origin: str = Field("*", description="Access-Control-Allow-Origin of every answer.")

    spool_dir: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()), description="Folder on disk for recordings in flight."
    )
    spool_budget_bytes: int = Field(
        8 * 1024 * _MIB, description="Bytes that recordings in flight may take; past it: 503.", gt=0
    )
    max_upload_bytes: int = Field(2 * 1024 * _MIB, description="Largest file that is accepted.", gt=0)
    max_duration_s: int = Field(12 * 3600, description="Longest decoded audio that is accepted, in seconds.", gt=0)
    decoders: int = Field(2, description="Files that are decoded at a time.", gt=0)
    decode_timeout_s: float = Field(300, description="Seconds (wall clock and CPU) one decoding may take.", gt=0)

    body_idle_s: float = Field(30, description="Seconds a client may send nothing of a body before it is ended.", gt=0)
    min_body_rate: int = Field(
        2048, description="Bytes a second a body must come with, on average, once it takes longer than that.", ge=0
    )
    keepalive_s: float = Field(
        75, description="Seconds to wait for a request's whole head, on a new and on a used connection.", gt=0
    )
    write_timeout_s: float = Field(60, description="Seconds a client may leave an answer unread.", gt=0)
    heartbeat_after_s: float = Field(
        50, description="Seconds after the upload until a JSON answer sends its head and begins to send spaces.", gt=0
    )
    heartbeat_every_s: float = Field(20, description="Seconds between those, and between SSE comments.", gt=0)

    asr_deadline_base_s: float = Field(120, description="Deadline of recognition for no audio at all.", gt=0)
    asr_deadline_factor: float = Field(4, description="What is added to it per second of audio.", ge=0)
    diarize_deadline_base_s: float = Field(60, description="Deadline of diarization for no audio at all.", gt=0)
    diarize_deadline_factor: float = Field(1, description="What is added to it per second of audio.", ge=0)
    summarize_deadline_s: float = Field(120, description="Deadline of a summary.", gt=0)
    probe_deadline_s: float = Field(5, description="Deadline of a service's list of models and of its health.", gt=0)

    stream_idle_s: float = Field(
        60, description="Seconds a live session may stand still: no audio from its client, or none taken.", gt=0
    )
    stream_lag_s: float = Field(
        5, description="Seconds audio may wait in a live session whose client sends in real time.", gt=0
    )
    stream_finish_s: float = Field(14, description="Seconds the rest of a live session may take after its end.", gt=0)
    stream_keepalive_s: float = Field(
        15, description="Seconds of silence after which a client is sent a message.", gt=0
    )
    stream_heartbeat_s: float = Field(20, description="Seconds of silence after which a client is pinged.", gt=0)
    stream_probe_s: float = Field(
        0.2, description="Seconds the answer to an upgrade may wait for the list of models.", gt=0
    )
