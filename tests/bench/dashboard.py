"""The picture of the dashboard: `python -m tests.bench.dashboard` runs the house under load and draws what it shows.

A real Prometheus with the rules of docker/prometheus reads the four programs; how it is drawn is in `picture`.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from tests.bench import picture
from tests.bench.system import PROGRAMS, System, free_ports
from tests.bench.traffic import Callers, keep_up
from tests.system.stack import accounts, free_loopback_ports

_DOCKER = Path(__file__).parents[2] / "docker"
_DASHBOARD = _DOCKER / "grafana" / "dashboards" / "stt.json"
_PICTURE = Path("docs/dashboard.png")
_SCRAPE_S = 2
_START_S = 30.0
_NOTE = (
    "{seconds:.0f} s on {cores} CPU cores with a load of {load:.0f} before, {date}. Drawn with Grafana's components "
    "from the dashboard's own queries to a real Prometheus, without a Grafana server."
)


def main() -> None:
    """Run, load and draw."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.dashboard", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180, help="how long the house is under load")
    parser.add_argument("--picture", type=Path, default=_PICTURE, help="where to save the PNG")
    arguments = parser.parse_args()
    picture.build()
    ports = free_ports()
    settings = {f"{name.upper()}_METRICS_PORT": str(port) for name, port in ports.items()}
    with (
        TemporaryDirectory() as folder,
        System(Path(folder), settings) as system,
        prometheus(ports, Path(folder)) as url,
    ):
        environment = {**os.environ, **system.account.settings}
        free = accounts(environment, "create", "--tier", "free")["key"]
        callers = Callers(
            f"http://{system.address('edge')}", system.account.headers, {"Authorization": f"Bearer {free}"}
        )
        load = os.getloadavg()[0]
        begin_s = time.time()
        asyncio.run(keep_up(callers, arguments.seconds))
        end_s = time.time()
        note = _NOTE.format(seconds=end_s - begin_s, cores=os.cpu_count(), load=load, date=datetime.now(UTC).date())
        empty = picture.draw(_DASHBOARD, url, begin_s, end_s, note, arguments.picture)
    print(f"Saved {arguments.picture}." + (f" Nothing to show: {', '.join(empty)}." if empty else ""))


@contextmanager
def prometheus(ports: Mapping[str, int], folder: Path) -> Iterator[str]:
    """Run a Prometheus that reads the programs' metrics at `ports`; yield its URL once it has read them all."""
    server = shutil.which("prometheus")
    if server is None:
        raise SystemExit("prometheus is needed (Debian: apt-get install --no-install-recommends prometheus).")
    config = yaml.safe_load((_DOCKER / "prometheus" / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], f"{_SCRAPE_S}s")
    config["rule_files"] = [str(_DOCKER / "prometheus" / "alerts.yml")]
    for job in config["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    (port,) = free_loopback_ports(1)
    command = [server, f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command) as process:
        try:
            _wait_until_read(url)
            yield url
        finally:
            process.terminate()


def _wait_until_read(url: str) -> None:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s:
        try:
            if len(picture.ask(url, "query", {"query": "up == 1"})) == len(PROGRAMS):
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError("Prometheus has not read the four programs")


if __name__ == "__main__":
    main()
