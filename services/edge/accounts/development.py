"""The key of `make run`: the one that is kept, so that a newcomer has one without asking."""

import os
from pathlib import Path

from services.common.errors import Reason, SttError
from services.edge.accounts.authentication import Authenticator
from services.edge.accounts.registry import Registry
from services.edge.accounts.signing import Signer
from services.edge.metering.store import Store
from services.edge.settings import EdgeSettings

FILE_NAME = "development.key"
_CREDITS = 100_000


async def development_key(store: Store, settings: EdgeSettings) -> Path:
    """Return the file (0600) with a key that opens a paid account of this store, made where there is none."""
    path = settings.data_dir / FILE_NAME
    if not await _opens(path, store, settings):
        registry = Registry(store)
        name = await registry.create("paid", _CREDITS)
        key = await registry.new_key(name, Signer.from_folder(settings.data_dir))
        _write(path, key)
    return path


async def _opens(path: Path, store: Store, settings: EdgeSettings) -> bool:
    try:
        async with Authenticator(store, settings) as authenticator:
            await authenticator.authenticate(_read(path))
    except SttError as error:
        if error.reason is not Reason.UNAUTHENTICATED:
            raise
        return False
    return True


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def _write(path: Path, key: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(key + "\n")
