"""The browser example of the vendor's page, as it stands there, in a real Chromium with a recording for a microphone.

Its address is all that is changed, and not in the example: a script that runs before it points `wss://api.stt.ai` at
the local edge and keeps count of the close. It has no key, so it runs as one of the three that are free a day.
"""

import re
import shutil
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.contract.conftest import ASSETS

SPOKEN = ["ever", "tried", "ever", "failed", "no", "matter", "try", "again", "fail", "again", "fail", "better"]
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


def finals(printed: list[str]) -> list[str]:
    """The words that the example printed as final."""
    lines = [line.removeprefix("Final: ") for line in printed if line.startswith("Final:")]
    return re.findall(r"\w+", " ".join(lines).lower())


def test_the_example_prints_what_the_microphone_hears_and_ends_with_1000(page: Page) -> None:
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text) if message.type == "log" else None)
    with page.expect_console_message(lambda _: len(finals(printed)) >= len(SPOKEN) - 1, timeout=30_000):
        page.add_script_tag(content=EXAMPLE)
    with page.expect_console_message(lambda message: message.text.startswith("Closed:"), timeout=20_000):
        page.evaluate('ws.send(JSON.stringify({ action: "stop" }))')
    kinds = [line.partition(":")[0] for line in printed]
    assert set(kinds) == {"Partial", "Final", "Closed"}
    assert kinds.index("Partial") < kinds.index("Final")
    # What Chromium makes of the recording on its way through a sound card that is none costs a word or two.
    assert SequenceMatcher(None, SPOKEN, finals(printed)).ratio() > 0.6
    assert printed[-1] == "Closed: 1000"
