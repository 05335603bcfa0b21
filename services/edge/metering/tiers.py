"""The tiers: what each may send, how much, and how many at a time."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from services.edge.settings import EdgeSettings

Tier = Literal["anonymous", "free", "paid"]
ACCOUNT_TIERS: tuple[Tier, ...] = ("free", "paid")


@dataclass(frozen=True, slots=True)
class Limits:
    """One tier's: bytes of a file, seconds of its audio, requests at a time; and what it has instead of credits."""

    upload_bytes: int
    audio_s: int
    concurrent: int
    minutes_per_month: int | None = None
    transcriptions_per_day: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return those that there are, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


Tiers = Mapping[Tier, Limits]


def tiers(settings: EdgeSettings) -> Tiers:
    """Return every tier's limits as they are set."""
    return {
        "anonymous": Limits(
            settings.anonymous_upload_bytes,
            settings.anonymous_audio_s,
            settings.anonymous_concurrent,
            transcriptions_per_day=settings.anonymous_per_day,
        ),
        "free": Limits(
            settings.free_upload_bytes,
            settings.free_audio_s,
            settings.free_concurrent,
            minutes_per_month=settings.free_minutes,
        ),
        "paid": Limits(settings.paid_upload_bytes, settings.paid_audio_s, settings.paid_concurrent),
    }


def read_tier(text: str) -> Tier:
    """Return a tier by its name; ValueError where there is no such."""
    if text not in get_args(Tier):
        raise ValueError(f"{text!r} is no tier")
    return cast(Tier, text)
