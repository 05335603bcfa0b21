"""How much of a live session's audio may be heard: paid minute by minute before it is, and within its tier's limits."""

import structlog

from services.common.audio import SAMPLE_BYTES, SAMPLE_RATE
from services.common.errors import Reason, SttError
from services.edge.metering.meter import UNIT_SAMPLES, Job
from services.edge.metering.refusals import LeaseLostError
from services.edge.metering.store import StoreDownError

_UNIT_BYTES = UNIT_SAMPLES * SAMPLE_BYTES
_log = structlog.get_logger(__name__)


class Allowance:
    """What one session may cost: whole minutes are held as its audio comes."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._held_units = 0
        limits = job.limits
        self._limit_bytes = min(limits.upload_bytes, limits.audio_s * SAMPLE_RATE * SAMPLE_BYTES)

    async def ask(self, heard_bytes: int, more_bytes: int) -> tuple[int, SttError | None]:
        """Return how many more bytes may be heard after `heard_bytes`, and why that is not all of them."""
        wanted_bytes = min(heard_bytes + more_bytes, self._limit_bytes)
        while self._held_units * _UNIT_BYTES < wanted_bytes:
            try:
                await self._job.reserve(self._held_units + 1)
            except (StoreDownError, LeaseLostError) as error:
                # What runs goes on; it is settled with what is there then.
                _log.warning("a live minute is not reserved", message=error.message)
            except SttError as error:
                return max(0, self._held_units * _UNIT_BYTES - heard_bytes), error
            self._held_units += 1
        if wanted_bytes < heard_bytes + more_bytes:
            return wanted_bytes - heard_bytes, self._too_long()
        return more_bytes, None

    def _too_long(self) -> SttError:
        minutes = self._limit_bytes / _UNIT_BYTES
        return SttError(Reason.TOO_LARGE, f"A session may have {minutes:.0f} minutes of audio; connect again.")
