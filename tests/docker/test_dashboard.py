"""The Grafana dashboard: its queries parse and ask for what programs tell, its panels have places of their own."""

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.edge.errors import STATUS
from tests.docker.promql import SCRAPED, VALUES, compared_values, grouping_labels, known_metrics, selectors

DOCKER = Path(__file__).parents[2] / "docker"
DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "stt.json").read_text())
PANELS = DASHBOARD["panels"]
DRAWN = [panel for panel in PANELS if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in DRAWN for target in panel["targets"]]
RULES = [
    rule
    for group in yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
EXPRESSIONS = [target["expr"] for _, target in TARGETS] + [each["expr"] for each in DASHBOARD["annotations"]["list"]]


def provisioned(kind: str) -> dict[str, Any]:
    (file,) = (DOCKER / "grafana" / "provisioning" / kind).iterdir()
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    return content


def test_every_query_parses(tmp_path: Path) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install --no-install-recommends prometheus).")
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(EXPRESSIONS)
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run([tool, "check", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(EXPRESSIONS)} rules found" in done.stdout


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_queries_use_metrics_labels_and_values_that_exist(expression: str) -> None:
    known = known_metrics(RULES)
    used = selectors(expression)
    assert used
    for selector in used:
        assert selector.metric in known
        assert {label for label, _ in selector.matchers} <= known[selector.metric] | SCRAPED
        for label, value in compared_values(selector):
            assert value in VALUES[label]
    assert grouping_labels(expression) <= set().union(SCRAPED, *(known[selector.metric] for selector in used))


def test_legends_name_labels_that_their_queries_keep() -> None:
    for _, target in TARGETS:
        kept = grouping_labels(target["expr"]) | ({"job"} if target["expr"] == "stt:replicas:up" else set())
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept


def test_every_query_of_a_programs_metrics_obeys_the_choice_of_replicas() -> None:
    for _, target in TARGETS:
        for selector in selectors(target["expr"]):
            if selector.metric.startswith(("stt_", "process_")):
                assert ("instance", '"$instance"') in selector.matchers


def test_solid_errors_are_the_servers_and_dashed_ones_the_callers() -> None:
    (panel,) = (panel for panel in DRAWN if panel["title"] == "Errors by reason")
    named = [
        {value for one in selectors(target["expr"]) for label, value in compared_values(one) if label == "reason"}
        for target in panel["targets"]
    ]
    assert named == [{reason for reason, status in STATUS.items() if status >= 500}] * 2


def test_panels_have_ids_of_their_own_a_unit_and_a_sentence() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    for panel in DRAWN:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_panels_do_not_overlap_and_stay_within_the_24_columns() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_rows_are_the_four_questions() -> None:
    rows = [panel["title"] for panel in PANELS if panel["type"] == "row"]
    assert rows == ["Is it up", "Is it fast", "Who waits", "What does it cost"]


def test_panels_ask_the_data_source_that_is_chosen_and_the_provisioned_one_is_at_first() -> None:
    for place in (*DRAWN, *(target for _, target in TARGETS), *DASHBOARD["annotations"]["list"]):
        assert place["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    (source,) = provisioned("datasources")["datasources"]
    (variable,) = (each for each in DASHBOARD["templating"]["list"] if each["name"] == "datasource")
    assert variable["current"]["value"] == source["uid"]
    assert variable["query"] == source["type"] == "prometheus"


def test_the_data_source_knows_how_often_prometheus_scrapes() -> None:
    (source,) = provisioned("datasources")["datasources"]
    config = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
