"""The books, checked: every account's figures computed again from its ledger alone."""

from collections import Counter
from dataclasses import dataclass

from services.edge.accounts.registry import Registry

_FIGURES = ("granted", "balance", "held", "spent", "written_off")


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A figure of an account that is not what it should be."""

    account: str
    figure: str
    stored: int
    expected: int


async def audit(registry: Registry, name: str) -> list[Discrepancy]:
    """Return what does not agree in an account's books. It may be in use: what is written meanwhile is left out."""
    state = await registry.show(name)
    sums: Counter[str] = Counter()
    async for entry in registry.ledger(name, until=state["last_entry"]):
        sums.update(entry.changes)
    found = [Discrepancy(name, figure, state[figure], sums[figure]) for figure in _FIGURES]
    found.append(Discrepancy(name, "granted", state["granted"], state["balance"] + state["held"] + state["spent"]))
    found.append(Discrepancy(name, "balance", state["balance"], max(0, state["balance"])))
    return [each for each in found if each.stored != each.expected]
