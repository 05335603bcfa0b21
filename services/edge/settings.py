"""The edge's settings."""

import tempfile
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from services.common.settings import Settings

_MIB = 1024 * 1024
_ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


class EdgeSettings(Settings):
    """What the edge can be told."""

    model_config = SettingsConfigDict(env_prefix="EDGE_")

    port: int = Field(8080, description="Port to listen on; 0 picks a free one.", ge=0, le=65535)
    metrics_port: int = Field(
        9464, description="Port where Prometheus reads metrics; 0 picks a free one.", ge=0, le=65535
    )
    asr_port: int = Field(
        50051, validation_alias="ASR_PORT", description="Where recognition listens, if it is here.", ge=0, le=65535
    )
    diarize_port: int = Field(
        50052, validation_alias="DIARIZE_PORT", description="The same of diarization.", ge=0, le=65535
    )
    summarize_port: int = Field(
        50053, validation_alias="SUMMARIZE_PORT", description="The same of summaries.", ge=0, le=65535
    )
    asr_address: str = Field(
        default_factory=lambda known: f"127.0.0.1:{known['asr_port']}",
        validation_alias="ASR_ADDRESS",
        description="host:port or dns:///name:port of recognition.",
    )
    diarize_address: str = Field(
        default_factory=lambda known: f"127.0.0.1:{known['diarize_port']}",
        validation_alias="DIARIZE_ADDRESS",
        description="The same of diarization.",
    )
    summarize_address: str = Field(
        default_factory=lambda known: f"127.0.0.1:{known['summarize_port']}",
        validation_alias="SUMMARIZE_ADDRESS",
        description="The same of summaries.",
    )
    asr_metrics_port: int = Field(
        9465,
        validation_alias="ASR_METRICS_PORT",
        description="Where the status reads recognition's metrics; 0: it does not.",
        ge=0,
        le=65535,
    )
    diarize_metrics_port: int = Field(
        9466, validation_alias="DIARIZE_METRICS_PORT", description="The same of diarization.", ge=0, le=65535
    )
    summarize_metrics_port: int = Field(
        9467, validation_alias="SUMMARIZE_METRICS_PORT", description="The same of summaries.", ge=0, le=65535
    )
    status_address: str = Field(
        "", description="host:port or dns:///name:port of all edges, for the status; empty: the one at EDGE_HOST."
    )
    cors_origin: str = Field("*", description="Access-Control-Allow-Origin of every answer.")

    redis_url: str = Field(
        "", validation_alias="REDIS_URL", description="Store of accounts and credits; empty: the one in DATA_DIR."
    )
    data_dir: Path = Field(
        Path(".data"), validation_alias="DATA_DIR", description="Folder of the embedded store and the signing key."
    )
    trusted_proxy_hops: int = Field(
        0,
        validation_alias="TRUSTED_PROXY_HOPS",
        description="Proxies in front that add to X-Forwarded-For; 0 ignores that header.",
        ge=0,
    )
    jwt_issuer: str = Field("", description="Name of an external issuer of keys, their iss.")
    jwt_audience: str = Field("", description="Whom its keys must be meant for, their aud.")
    jwt_algorithms: str = Field("RS256,ES256", description="What it may sign with.")
    jwks_url: str = Field("", description="Where it publishes its public keys; empty: there is no such issuer.")
    jwks_cooldown_s: float = Field(10, description="Seconds until they are read again for an unknown one.", gt=0)
    lease_s: float = Field(30, description="Seconds after which the jobs of an edge that is gone are given up.", gt=0)

    anonymous_per_day: int = Field(3, description="Transcriptions per UTC day of an address without a key.", ge=0)
    anonymous_concurrent: int = Field(1, description="Requests at a time of such an address.", gt=0)
    anonymous_upload_bytes: int = Field(100 * _MIB, description="Largest file without a key.", gt=0)
    anonymous_audio_s: int = Field(60 * 60, description="Longest decoded audio without a key.", gt=0)
    free_minutes: int = Field(600, description="Minutes per UTC month of a free account.", ge=0)
    free_concurrent: int = Field(2, description="Requests at a time of a free account.", gt=0)
    free_upload_bytes: int = Field(500 * _MIB, description="Largest file of a free account.", gt=0)
    free_audio_s: int = Field(300 * 60, description="Longest decoded audio of a free account.", gt=0)
    paid_concurrent: int = Field(5, description="Requests at a time of a paid account.", gt=0)
    paid_upload_bytes: int = Field(2 * 1024 * _MIB, description="Largest file of a paid account.", gt=0)
    paid_audio_s: int = Field(1440 * 60, description="Longest decoded audio of a paid account.", gt=0)

    spool_dir: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()), description="Folder on disk for recordings in flight."
    )
    spool_budget_bytes: int = Field(
        8 * 1024 * _MIB, description="Bytes that recordings in flight may take; past it: 503.", gt=0
    )
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
    summarize_deadline_base_s: float = Field(120, description="Deadline of the summary of a short text.", gt=0)
    summarize_deadline_factor: float = Field(10, description="What is added to it per 1,000 characters.", ge=0)
    probe_deadline_s: float = Field(5, description="Deadline of a service's list of models and of its health.", gt=0)

    stream_max_s: int = Field(12 * 3600, description="Seconds a live session may last.", gt=0)
    stream_drain_s: float = Field(
        0, description="Seconds a live session may go on after SIGTERM; then it is asked to leave.", ge=0
    )
    stream_idle_s: float = Field(
        60, description="Seconds a live session may stand still: no audio from its client, or none taken.", gt=0
    )
    stream_lag_s: float = Field(
        5, description="Seconds audio may wait in a live session whose client sends in real time.", gt=0
    )
    stream_finish_s: float = Field(
        14, description="Seconds after a live session's end that recognition may stand still before all is heard.", gt=0
    )
    stream_speakers_wait_s: float = Field(
        3, description="Seconds that the last speakers may take when all words are known, at most those.", ge=0
    )
    stream_keepalive_s: float = Field(
        15, description="Seconds of silence after which a client is sent a message.", gt=0
    )
    stream_heartbeat_s: float = Field(20, description="Seconds of silence after which a client is pinged.", gt=0)
    stream_probe_s: float = Field(
        0.2, description="Seconds sessions and uploads may wait for a list of models that is known.", gt=0
    )

    @field_validator("jwt_algorithms")
    @classmethod
    def _check_algorithms(cls, text: str) -> str:
        if not text or not set(text.split(",")) <= set(_ASYMMETRIC):
            raise ValueError(f"use some of {', '.join(_ASYMMETRIC)}, with commas between them")
        return text

    @field_validator("jwks_url")
    @classmethod
    def _check_issuer(cls, url: str, info: ValidationInfo) -> str:
        if url and not (info.data.get("jwt_issuer") and info.data.get("jwt_audience")):
            raise ValueError("EDGE_JWT_ISSUER and EDGE_JWT_AUDIENCE are needed with it")
        return url
