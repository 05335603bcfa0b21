"""Settings are read once, documented by --help, and a bad one is one sentence."""

import subprocess
import sys

import pytest

from services.edge.settings import EdgeSettings

PROGRAMS = ["asr", "diarize", "summarize", "edge"]


def start(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"services.{program}", *arguments],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_prints_every_setting_with_its_default(program: str) -> None:
    result = start(program, "--help")
    assert result.returncode == 0
    assert f"{program.upper()}_PORT" in result.stdout
    assert "LOG_LEVEL" in result.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_bad_setting_ends_the_program_with_one_sentence_that_names_it(program: str) -> None:
    name = f"{program.upper()}_PORT"
    result = start(program, **{name: "many"})
    assert result.returncode == 2
    assert name in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_edge_finds_the_services_at_their_ports() -> None:
    told = start("edge", "--help").stdout
    assert "[127.0.0.1:50051]" in told
    settings = EdgeSettings.model_validate({"ASR_PORT": 1, "DIARIZE_PORT": 2, "SUMMARIZE_ADDRESS": "there:3"})
    assert (settings.asr_address, settings.diarize_address) == ("127.0.0.1:1", "127.0.0.1:2")
    assert settings.summarize_address == "there:3"
