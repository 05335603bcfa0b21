"""What tests of every folder share."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real voices in the moonshine-voice wheel: two_cities.wav, beckett.wav, endgame_nagg_nell.wav."""
    spec = importlib.util.find_spec("moonshine_voice")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "assets"
