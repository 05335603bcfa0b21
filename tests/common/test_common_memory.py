"""How much memory is left: to the machine or to the container, whichever has less."""

from pathlib import Path

import pytest

from services.common.memory import available_mib

MIB = 1024 * 1024


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       8388608 kB\nMemAvailable:   4194304 kB\nHugePages_Total:       0\n")
    return path


def group(tmp_path: Path, limit: str) -> Path:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{600 * MIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon {500 * MIB}\nactive_file {30 * MIB}\ninactive_file {70 * MIB}\n")
    return tmp_path


def test_without_a_container_it_is_what_the_machine_has(tmp_path: Path, meminfo: Path) -> None:
    assert available_mib(meminfo, tmp_path / "none") == 4096


def test_a_container_without_a_limit_has_what_the_machine_has(tmp_path: Path, meminfo: Path) -> None:
    assert available_mib(meminfo, group(tmp_path, "max")) == 4096


def test_the_limit_of_a_container_counts_and_files_kept_for_later_do_not(tmp_path: Path, meminfo: Path) -> None:
    assert available_mib(meminfo, group(tmp_path, str(1000 * MIB))) == 500


def test_this_machine_has_some() -> None:
    assert available_mib() > 0
