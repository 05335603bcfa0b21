"""The browser example of the vendor's page, as it stands there, in a real Chromium with a recording for a microphone.

Its address is all that is changed, and not in the example: a script that runs before it points `wss://api.stt.ai` at
the local edge and keeps count of the close.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.contract.conftest import ASSETS

EXAMPLE = (ASSETS / "vendor_browser_example.js").read_text()
POINT_AT = """
const Native = WebSocket;
WebSocket = class extends Native {
  constructor(url) {
    super(url.replace("wss://api.stt.ai", "%s"));
    this.addEventListener("close", (event) => console.log("Closed:", event.code));
  }
};
"""
FLAGS = [
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]


@pytest.fixture
def page(house: str, recordings: Path, tmp_path: Path) -> Iterator[Page]:
    """A page in a browser whose microphone hears beckett.wav once, with the example loaded."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium).")
    microphone = f"--use-file-for-fake-audio-capture={recordings / 'beckett.wav'}%noloop"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            tmp_path, executable_path=chromium, headless=True, args=[*FLAGS, microphone]
        )
        page = browser.new_page()
        page.add_init_script(POINT_AT % house.replace("http://", "ws://"))
        # Any page of this machine: it may use the microphone without TLS, and connect to this machine.
        page.goto(f"{house}/health")
        yield page
        browser.close()


def test_the_example_prints_what_the_microphone_hears_and_ends_with_1000(page: Page) -> None:
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text) if message.type == "log" else None)
    with page.expect_console_message(lambda message: "better" in message.text.lower(), timeout=30_000):
        page.add_script_tag(content=EXAMPLE)
    with page.expect_console_message(lambda message: message.text.startswith("Closed:"), timeout=20_000):
        page.evaluate('ws.send(JSON.stringify({ action: "stop" }))')
    kinds = [line.partition(":")[0] for line in printed]
    assert set(kinds) == {"Partial", "Final", "Closed"}
    assert kinds.index("Partial") < kinds.index("Final")
    said = " ".join(line.removeprefix("Final: ") for line in printed if line.startswith("Final:"))
    assert "no matter" in said.lower()
    assert printed[-1] == "Closed: 1000"
