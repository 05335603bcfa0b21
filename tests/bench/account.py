"""What the edge needs before it measures anything: a store, and a paid account that no limit of its own stops."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.embedded_store import valkey
from tests.system.stack import accounts

_CREDITS, _AT_ONCE = 1_000_000, 100_000


@dataclass(frozen=True)
class Account:
    """A paid account: the variables of the environment that tell an edge of its store, and its key."""

    settings: dict[str, str]
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """Return what shows a request to be the account's."""
        return {"Authorization": f"Bearer {self.key}"}


@contextmanager
def paid_account() -> Iterator[Account]:
    """Run an embedded store of its own with an account in it."""
    with TemporaryDirectory() as folder, valkey(Path(folder)):
        settings = {"DATA_DIR": folder, "REDIS_URL": "", "EDGE_PAID_CONCURRENT": str(_AT_ONCE)}
        created = accounts(os.environ | settings, "create", "--tier", "paid", "--credits", str(_CREDITS))
        yield Account(settings, created["key"])
