"""The books, checked: every account's figures computed again from its ledger alone."""

from collections import Counter
from dataclasses import dataclass

from services.common.errors import Reason, SttError
from services.edge.accounts.registry import Registry

_FIGURES = ("granted", "balance", "held", "spent", "written_off")


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A figure of an account that is not what it should be, or a part of its books that cannot be read (None)."""

    account: str
    figure: str
    stored: int | None = None
    expected: int | None = None

    def __str__(self) -> str:
        """Say it to a person, the account apart."""
        if self.expected is None:
            return f"{self.figure} cannot be read"
        return f"{self.figure} is {'no number' if self.stored is None else self.stored}, not {self.expected}"


async def audit(registry: Registry, name: str) -> list[Discrepancy]:
    """Return what does not agree in an account's books. It may be in use: what is written meanwhile is left out."""
    try:
        state = await registry.show(name)
    except SttError as error:
        if error.reason is not Reason.INVALID_REQUEST:
            raise
        return [Discrepancy(name, "state")]  # it has no tier, or nothing but a ledger
    sums: Counter[str] = Counter()
    try:
        async for entry in registry.ledger(name, until=state["last_entry"]):
            sums.update(entry.changes)
    except (KeyError, ValueError):
        return [Discrepancy(name, "ledger")]
    stored = {figure: state.get(figure) for figure in _FIGURES}
    found = [Discrepancy(name, figure, stored[figure], sums[figure]) for figure in _FIGURES]
    if None not in stored.values():
        found.append(Discrepancy(name, "granted", stored["granted"], state["balance"] + state["held"] + state["spent"]))
        found.append(Discrepancy(name, "balance", stored["balance"], max(0, state["balance"])))
    return [each for each in found if each.stored != each.expected]
