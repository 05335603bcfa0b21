"""Draws a Grafana dashboard from a Prometheus: its own queries, in Grafana's own components, in Chromium.

No Grafana server is needed; the components come from npm, and are bundled with a page that lays them out.
"""

import json
import math
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

_PACKAGES = (
    "@grafana/data@12.4.10",
    "@grafana/ui@12.4.10",
    "@fontsource/inter@5.3.0",
    "esbuild@0.28.2",
    "react@18.3.1",
    "react-dom@18.3.1",
)
_FOLDER = Path("build/dashboard")
_PAGE = Path(__file__).with_name("dashboard.jsx")
_FONTS = ("svg", "ttf", "woff", "woff2")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
_WIDTH = 1600
_STEP_S = 2
_RATE_INTERVAL = "20s"
_VARIABLES = {"$__rate_interval": _RATE_INTERVAL, "$instance": ".+", "$job": ".+"}
_HTML = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css"><div id="root"></div>
<script>window.shown = %s</script><script src="page.js"></script>"""


def build() -> None:
    """Fetch the components, which are hundreds of megabytes, and bundle the page; nothing is done twice."""
    for tool in ("npm", "chromium"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is needed to draw the dashboard (Debian: apt-get install {tool}).")
    _FOLDER.mkdir(parents=True, exist_ok=True)
    if not (_FOLDER / "node_modules" / ".package-lock.json").exists():
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(_FOLDER), *_PACKAGES]
        subprocess.run(command, check=True)
    page = str(shutil.copy(_PAGE, _FOLDER / "page.jsx"))
    loaders = [f"--loader:.{kind}=dataurl" for kind in _FONTS]
    defined = ['--define:process.env.NODE_ENV="production"', "--define:global=window", "--jsx=automatic"]
    bundler = str(_FOLDER / "node_modules" / ".bin" / "esbuild")
    command = [bundler, page, "--bundle", f"--outdir={_FOLDER}", "--log-level=error", *loaders, *defined]
    subprocess.run(command, check=True)


def draw(dashboard: Path, prometheus: str, begin_s: float, end_s: float, note: str, picture: Path) -> list[str]:
    """Ask `prometheus` what the panels ask, from `begin_s` to `end_s`, and save them as a PNG; return empty panels."""
    content = json.loads(dashboard.read_text())
    for panel in content["panels"]:
        panel["series"] = list(_series(panel, prometheus, begin_s, end_s))
    shown = {
        "dashboard": content,
        "width": _WIDTH,
        "from": round(begin_s * 1000),
        "to": round(end_s * 1000),
        "note": note,
    }
    html = _FOLDER / "page.html"
    html.write_text(_HTML % json.dumps(shown).replace("</", "<\\/"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
        page = browser.new_page(viewport={"width": _WIDTH, "height": 1200})
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(html.absolute().as_uri())
        page.wait_for_function("document.fonts.status === 'loaded'")
        page.locator("#dashboard canvas").last.wait_for()
        page.locator("#dashboard").screenshot(path=picture)
        browser.close()
    if failures:
        raise RuntimeError("; ".join(failures))
    return [panel["title"] for panel in content["panels"] if panel["type"] != "row" and not panel["series"]]


def _series(panel: dict[str, Any], prometheus: str, begin_s: float, end_s: float) -> Iterator[dict[str, Any]]:
    """Return the panel's series; where Prometheus says nothing there is None, which is a gap."""
    for target in panel.get("targets", ()):
        expression = target["expr"]
        for name, value in _VARIABLES.items():
            expression = expression.replace(name, value)
        if target["instant"]:
            times, answers = [end_s], ask(prometheus, "query", {"query": expression, "time": end_s})
        else:
            times = [begin_s + step for step in range(0, round(end_s - begin_s), _STEP_S)]
            parameters = {"query": expression, "start": times[0], "end": times[-1], "step": _STEP_S}
            answers = ask(prometheus, "query_range", parameters)
        for answer in answers:
            points = {round(at): float(value) for at, value in answer.get("values") or [answer["value"]]}
            values = [points.get(round(at), math.nan) for at in times]
            known = [value if math.isfinite(value) else None for value in values]
            if any(value is not None for value in known):
                name = _legend(target["legendFormat"], answer["metric"])
                yield {"name": name, "times": [round(at) * 1000 for at in times], "values": known}


def ask(prometheus: str, what: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the series of an answer of Prometheus' API."""
    url = f"{prometheus}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=10) as response:
        return list(json.load(response)["data"]["result"])


def _legend(pattern: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), pattern)
