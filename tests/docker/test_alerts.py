"""The alert rules: right by promtool, of metrics that exist, each shown to fire where it should and only there."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.edge.errors import STATUS
from tests.docker.promql import SCRAPED, VALUES, compared_values, grouping_labels, known_metrics, selectors

FOLDER = Path(__file__).parents[2] / "docker" / "prometheus"
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CHECKS = [
    check
    for case in yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]
    for check in case["alert_rule_test"]
]


def promtool(*arguments: str) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install --no-install-recommends prometheus).")
    done = subprocess.run([tool, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_would_start_with_this_config() -> None:
    promtool("check", "config", "prometheus.yml")


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    promtool("check", "rules", "--lint-fatal", "alerts.yml")


def test_alerts_fire_when_they_should_with_the_words_they_should() -> None:
    promtool("test", "rules", "alerts.test.yml")


def test_every_program_is_scraped_by_its_name_where_it_serves_metrics() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    found = {
        job["job_name"]: [(dns["names"], dns["type"], dns["port"]) for dns in job["dns_sd_configs"]]
        for job in config["scrape_configs"]
    }
    assert found == {name: [([name], "A", 9464)] for name in VALUES["job"]}


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_case_where_it_fires_and_one_where_it_does_not(name: str) -> None:
    assert {bool(check["exp_alerts"]) for check in CHECKS if check["alertname"] == name} == {True, False}


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_how_bad_it_is_what_was_measured_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert "$value" in rule["annotations"]["description"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_use_metrics_labels_and_values_that_exist(rule: dict[str, Any]) -> None:
    known = known_metrics(RULES)
    used = selectors(rule["expr"])
    assert used
    for selector in used:
        assert selector.metric in known
        assert {label for label, _ in selector.matchers} <= known[selector.metric] | SCRAPED
        for label, value in compared_values(selector):
            assert value in VALUES[label]
    labels = set().union(SCRAPED, *(known[selector.metric] for selector in used))
    assert grouping_labels(rule["expr"]) <= labels
    texts = " ".join(rule.get("annotations", {}).values())
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= labels


def test_faults_are_the_reasons_that_the_edge_answers_with_500_or_503() -> None:
    (rule,) = (rule for rule in RULES if rule.get("record") == "stt:faults:rate5m")
    ((selector),) = selectors(rule["expr"])
    assert {value for _, value in compared_values(selector)} == {
        reason for reason, status in STATUS.items() if status >= 500
    }
