"""The store's client: where it connects to."""

from pathlib import Path

import pytest

from services.edge.metering.store import connect, is_there, socket_path
from tests.store import valkey


async def test_a_data_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "a?b#c%d e"
    with valkey(folder):
        async with connect("", folder) as redis:
            assert await is_there(redis)


async def test_a_socket_in_a_deep_folder_is_reached_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    with valkey(tmp_path / "store"):
        (deep / "store").symlink_to(tmp_path / "store")
        monkeypatch.chdir(deep)
        assert socket_path(deep / "store") == "store/valkey.sock"
        async with connect("", deep / "store") as redis:
            assert await is_there(redis)


async def test_a_store_elsewhere_is_reached_by_its_url(tmp_path: Path) -> None:
    with valkey(tmp_path):
        async with connect(f"unix://{socket_path(tmp_path)}?db=1", Path("nowhere")) as redis:
            assert await is_there(redis)
