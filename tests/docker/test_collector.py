"""The config of the OpenTelemetry collector: what its pipeline names is there, and it listens where programs send."""

import re
from pathlib import Path

import yaml

FILE = Path(__file__).parents[2] / "docker" / "otel-collector" / "config.yaml"
# A setting that is not set is its default, which may be any YAML.
CONFIG = yaml.safe_load(re.sub(r"\$\{env:\w+:-([^}]*)\}", r"\1", FILE.read_text()))


def test_what_the_pipeline_names_is_configured() -> None:
    (pipeline,) = CONFIG["service"]["pipelines"].values()
    for kind, names in (*pipeline.items(), ("extensions", CONFIG["service"]["extensions"])):
        assert names
        assert set(names) <= CONFIG[kind].keys()


def test_memory_is_limited_before_anything_else_is_done() -> None:
    assert CONFIG["service"]["pipelines"]["traces"]["processors"][0] == "memory_limiter"


def test_it_takes_otlp_over_grpc_and_http_at_the_usual_ports_of_every_address() -> None:
    listens = {name: protocol["endpoint"] for name, protocol in CONFIG["receivers"]["otlp"]["protocols"].items()}
    assert listens == {"grpc": "0.0.0.0:4317", "http": "0.0.0.0:4318"}


def test_every_setting_has_a_default() -> None:
    settings = [line.partition("#")[0] for line in FILE.read_text().splitlines()]
    used = re.findall(r"\$\{env:[^}]*\}", "\n".join(settings))
    assert used
    assert all(":-" in each for each in used)
