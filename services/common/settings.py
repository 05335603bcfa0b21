"""Settings: one frozen class per program, read once from the environment; nothing else reads it."""

import argparse
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What every program can be told; a subclass sets `env_prefix` and adds its own fields."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(description="Port to listen on; 0 picks a free one.", ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias="LOG_LEVEL", description="Least severe log line to print."
    )
    log_format: Literal["console", "json"] = Field(
        "console", validation_alias="LOG_FORMAT", description="For people, or one JSON object a line."
    )
    metrics_port: int = Field(0, description="Port where Prometheus reads metrics; 0 picks a free one.", ge=0, le=65535)
    traces_exporter: Literal["none", "otlp"] = Field(
        "none",
        validation_alias="OTEL_TRACES_EXPORTER",
        description="otlp sends traces over HTTP; OpenTelemetry's other variables (OTEL_*) say where to and how.",
    )
    drain_s: float = Field(
        0.2, description="Seconds between saying that it stops and refusing requests, on SIGTERM.", ge=0
    )
    grace_s: float = Field(30.0, description="Seconds a running request may still take after SIGTERM.", ge=0)


class GrpcSettings(Settings):
    """What every gRPC service can be told."""

    reflection: bool = Field(True, description="Serve gRPC reflection.")
    idle_timeout_s: float = Field(30.0, description="Seconds a client may send nothing before its request ends.", gt=0)


S = TypeVar("S", bound=Settings)


def load(cls: type[S], prog: str, description: str) -> S:
    """Read `cls` from the environment; `--help` prints every setting, a bad one ends the program with a sentence."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog="Settings, read from the environment:\n\n" + "\n".join(_describe(cls)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    try:
        return read(cls)
    except ValueError as error:
        parser.exit(2, f"{prog}: {error}\n")


def read(cls: type[S]) -> S:
    """Read `cls` from the environment; ValueError, in one sentence, where a setting is bad."""
    try:
        return cls()
    except ValidationError as error:
        problems = (
            f"{_env_name(cls, str(p['loc'][0]))}: {p['msg']} (got {p['input']!r})"
            for p in error.errors()
            if p["type"] != "default_factory_not_called"  # a default that follows from what is bad
        )
        raise ValueError("; ".join(problems)) from None


def _env_name(cls: type[Settings], name: str) -> str:
    field: FieldInfo | None = cls.model_fields.get(name)
    if field is None:
        return name
    return (
        field.validation_alias
        if isinstance(field.validation_alias, str)
        else f"{cls.model_config['env_prefix']}{name}".upper()
    )


def _describe(cls: type[Settings]) -> list[str]:
    defaults: dict[str, Any] = {}
    for name, field in cls.model_fields.items():
        defaults[name] = field.get_default(call_default_factory=True, validated_data=defaults)
    rows = [
        (_env_name(cls, name), str(defaults[name]), field.description or "") for name, field in cls.model_fields.items()
    ]
    width = max(len(name) for name, _, _ in rows)
    return [f"  {name:<{width}}  {text} [{default}]" for name, default, text in rows]
