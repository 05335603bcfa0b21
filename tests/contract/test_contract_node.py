"""The Node example of the vendor's page, as it stands there, with the two kinds of fetch that Node's users have.

Its address and its key are all that is changed, and not in the example: a module that is loaded before it chooses the
fetch, points `https://api.stt.ai` at the local edge, puts a key in, and prints what the server answered.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.conftest import ASSETS

EXAMPLE = ASSETS / "vendor_node_example.js"
PREPARE = """
const chosen = process.env.FETCH === "node-fetch" ? require("node-fetch") : globalThis.fetch;
globalThis.fetch = async (url, options) => {
  options.headers.Authorization = options.headers.Authorization.replace("YOUR_API_KEY", process.env.KEY);
  const answer = await chosen(url.replace("https://api.stt.ai", process.env.BASE), options);
  console.error(answer.status, await answer.clone().text());
  return answer;
};
"""


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, encode: Callable[..., bytes]) -> Path:
    """A folder with the example, the packages it needs, and a meeting.mp3."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node.js and npm are not installed (Debian: apt-get install nodejs npm).")
    folder = tmp_path_factory.mktemp("node")
    command = [
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--prefix",
        folder,
        "node-fetch@2",
        "form-data@4",
    ]
    subprocess.run(command, check=True, timeout=120)
    (folder / "meeting.mp3").write_bytes(encode(container="mp3", audio="libmp3lame"))
    (folder / "prepare.js").write_text(PREPARE)
    shutil.copy(EXAMPLE, folder / "example.js")
    return folder


def run_example(project: Path, house: str, key: str, fetch: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", "--require", "./prepare.js", "example.js"],
        cwd=project, env={"PATH": "/usr/local/bin:/usr/bin:/bin", "BASE": house, "KEY": key, "FETCH": fetch},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_with_node_fetch_it_prints_the_transcript(project: Path, house: str, key: str) -> None:
    result = run_example(project, house, key, "node-fetch")
    assert result.returncode == 0, result.stderr
    first, *segments = result.stdout.splitlines()
    assert first == "Duration: 10.0s"
    assert segments
    assert all("] Speaker 1: " in line for line in segments)
    assert "fail better" in result.stdout.lower()


def test_with_nodes_own_fetch_it_is_told_what_to_use(project: Path, house: str, key: str) -> None:
    result = run_example(project, house, key, "own")
    assert result.stderr.startswith("400 ")
    assert "built-in FormData" in result.stderr
    assert "node-fetch" in result.stderr
