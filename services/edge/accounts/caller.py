"""Who asks, as the rest of the edge knows him."""

from dataclasses import dataclass

from services.edge.metering.store import Subject
from services.edge.metering.tiers import Tier


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose limits a request counts against, and the tier he had when it came."""

    subject: Subject
    tier: Tier
