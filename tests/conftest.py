"""What tests of every folder share."""

import importlib.util
import os
from pathlib import Path

import pytest

# Programs that tests start side by side: each finds a port of its own for its metrics.
os.environ |= {f"{name}_METRICS_PORT": "0" for name in ("EDGE", "ASR", "DIARIZE", "SUMMARIZE")}


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real voices in the moonshine-voice wheel: two_cities.wav, beckett.wav, endgame_nagg_nell.wav."""
    spec = importlib.util.find_spec("moonshine_voice")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "assets"
