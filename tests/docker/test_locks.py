"""The locks of the images against pyproject.toml; nothing is asked of an index."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())
# What each lock is made of, as docker/images/locks.sh has it.
LOCKS = {
    "docker/edge/requirements-cpu.txt": "edge",
    "docker/asr/requirements-cpu.txt": "asr",
    "docker/asr/requirements-cuda.txt": "asr-cuda",
    "docker/diarize/requirements-cpu.txt": "diarize",
    "docker/diarize/requirements-cuda.txt": "diarize-nemo",
    "docker/summarize/requirements-cpu.txt": "summarize",
    "docker/summarize/requirements-cuda.txt": "summarize-qwen",
    "docker/images/requirements-build.txt": "",
}
every_lock = pytest.mark.parametrize("path", LOCKS)


def locked(path: str) -> dict[str, str]:
    """Return versions by name."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", Path(path).read_text(), re.MULTILINE))


def wanted(extra: str) -> Iterator[Requirement]:
    """Yield what pyproject.toml asks for, extras of its own resolved; of the build system without an extra."""
    if not extra:
        yield from map(Requirement, PROJECT["build-system"]["requires"])
        return
    yield from map(Requirement, PROJECT["project"]["dependencies"])
    for requirement in map(Requirement, PROJECT["project"]["optional-dependencies"][extra]):
        if requirement.name == PROJECT["project"]["name"]:
            for each in requirement.extras:
                yield from wanted(each)
        else:
            yield requirement


@every_lock
def test_a_lock_has_what_the_project_asks_for(path: str) -> None:
    versions = locked(path)
    environment = {**default_environment(), "python_version": "3.11", "sys_platform": "linux"}
    for requirement in wanted(LOCKS[path]):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


@every_lock
def test_every_package_of_a_lock_is_pinned_with_hashes_and_no_index_is_named(path: str) -> None:
    logical_lines = Path(path).read_text().replace("\\\n", " ").splitlines()
    for line in (line for line in logical_lines if not line.startswith("#")):
        assert re.fullmatch(r"[\w.-]+==\S+(?: ; [^#]*?)?(?:\s+--hash=sha256:[0-9a-f]{64})+\s*", line), line[:120]


@pytest.mark.parametrize("path", [path for path in LOCKS if path.endswith("-cpu.txt")])
def test_locks_without_cuda_hold_no_framework_and_no_driver_library(path: str) -> None:
    assert not {"torch", "nemo-toolkit", "transformers", "triton", "nvidia-cublas-cu12"} & set(locked(path))
