"""What the autoscalers go by: metrics that programs have, as the Prometheus adapter computes them of each pod."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docker.manifests import FOLDER, Object, kustomize, of_kind, overlay, workloads
from tests.docker.promql import compared_values, known_metrics, selectors

PROGRAMS = {"edge", "asr", "diarize", "summarize"}


@pytest.mark.skipif(kustomize() is None, reason="Neither kustomize nor kubectl is installed.")
@pytest.mark.parametrize("name", ["cpu", "gpu", "all", "all on gpu"])
def test_every_program_scales_by_metrics_that_the_adapter_serves(name: str) -> None:
    objects = overlay(name)
    programs = {each.name: each for each in workloads(objects) if each.kind == "Deployment"}
    served = {rule["name"]["as"] for rule in _adapter_rules()}
    asked = set()
    scalers = of_kind(objects, "HorizontalPodAutoscaler")
    assert {each["spec"]["scaleTargetRef"]["name"] for each in scalers} == programs.keys() == PROGRAMS
    for each in scalers:
        spec = each["spec"]
        target = programs[spec["scaleTargetRef"]["name"]]
        assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": target.kind, "name": target.name}
        assert "replicas" not in target.whole["spec"]  # applying again would set them back
        assert 2 <= spec["minReplicas"] < spec["maxReplicas"]
        own = {metric["pods"]["metric"]["name"] for metric in spec["metrics"] if metric["type"] == "Pods"}
        assert own
        asked |= own
        down = spec["behavior"]["scaleDown"]
        assert down["stabilizationWindowSeconds"] >= 600
        assert [policy["value"] for policy in down["policies"]] == [1]
    assert asked == served


def _adapter_rules() -> list[Object]:
    rules: list[Object] = yaml.safe_load((FOLDER / "monitoring" / "adapter.yaml").read_text())["rules"]["custom"]
    return rules


def test_the_adapter_asks_for_metrics_that_the_programs_have() -> None:
    known = known_metrics([])
    for rule in _adapter_rules():
        series = re.match(r"\w+", rule["seriesQuery"])
        assert series is not None
        filled = _filled(rule["metricsQuery"], series[0])
        found = [*selectors(filled), *selectors(rule["seriesQuery"])]
        for selector in found:
            labels = {label for label, _ in selector.matchers} - {"namespace", "pod"}
            assert labels <= known[selector.metric]
        kinds = {value for each in found for label, value in compared_values(each) if label == "kind"}
        assert kinds <= {"final", "look", "file", "recording", "live", "text"}


def _filled(query: str, series: str) -> str:
    """Put in what the adapter does."""
    fillers = {"<<.Series>>": series, "<<.LabelMatchers>>": 'namespace="stt",pod=~"a|b|c"', "<<.GroupBy>>": "pod"}
    for name, text in fillers.items():
        query = query.replace(name, text)
    assert "<<" not in query
    return query


def test_what_the_adapter_computes_is_the_wait_the_room_and_the_work_of_each_pod(tmp_path: Path) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install --no-install-recommends prometheus).")
    pod = 'namespace="stt",pod='
    wait = "stt_queue_wait_seconds_bucket{kind=" + '"%s",le="%s",' + pod + '"%s"}'
    series = {
        # All that is live waits up to 1 s at a, nothing waits at b; files up to 10 s at a.
        wait % ("final", "0.5", "a"): "0x20",
        wait % ("final", "1", "a"): "0+20x20",
        wait % ("final", "+Inf", "a"): "0+20x20",
        wait % ("final", "1", "b"): "7x20",
        wait % ("final", "+Inf", "b"): "7x20",
        wait % ("file", "5", "a"): "0x20",
        wait % ("file", "10", "a"): "0+20x20",
        wait % ("file", "+Inf", "a"): "0+20x20",
        'stt_requests_running{kind="live",' + pod + '"a"}': "6x20",
        'stt_requests_running{kind="recording",' + pod + '"a"}': "3x20",
        'stt_requests_limit{kind="live",' + pod + '"a"}': "24x20",
        'stt_engine_workers{device="cpu",' + pod + '"a"}': "2x20",
        'stt_engine_workers{device="cpu",' + pod + '"b"}': "2x20",
        # Has not worked yet.
        'stt_engine_workers{device="cpu",' + pod + '"c"}': "2x20",
        'stt_engine_busy_seconds_total{model="m",' + pod + '"a"}': "0+15x20",
    }
    wanted = {
        "stt_queue_wait_live_p95_seconds": {"a": 0.975, "b": 0, "c": 0},
        "stt_queue_wait_recorded_p95_seconds": {"a": 9.75, "b": 0, "c": 0},
        "stt_live_sessions": {"a": 6},
        "stt_live_places_taken_ratio": {"a": 0.25},
        "stt_engine_utilisation_ratio": {"a": 0.5, "b": 0, "c": 0},
    }
    checks = []
    for rule in _adapter_rules():
        name = re.match(r"\w+", rule["seriesQuery"])
        assert name is not None
        samples = [{"labels": f'{{pod="{p}"}}', "value": v} for p, v in wanted[rule["name"]["as"]].items()]
        expression = _filled(rule["metricsQuery"], name[0])
        checks.append({"expr": expression, "eval_time": "5m", "exp_samples": samples})
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    case = {"interval": "15s", "input_series": inputs, "promql_expr_test": checks}
    path = tmp_path / "adapter.test.yml"
    path.write_text(yaml.safe_dump({"evaluation_interval": "15s", "tests": [case]}))
    done = subprocess.run([tool, "test", "rules", str(path)], capture_output=True, text=True)
    assert not done.returncode, done.stdout + done.stderr


def test_a_prometheus_without_operator_names_jobs_after_programs() -> None:
    (job,) = yaml.safe_load((FOLDER / "monitoring" / "scrape.yaml").read_text())
    named = {each["target_label"]: each["source_labels"] for each in job["relabel_configs"] if "target_label" in each}
    assert named == {
        "job": ["__meta_kubernetes_pod_label_app_kubernetes_io_name"],
        "namespace": ["__meta_kubernetes_namespace"],
        "pod": ["__meta_kubernetes_pod_name"],
    }
    (kept,) = (each for each in job["relabel_configs"] if each.get("action") == "keep")
    assert (kept["source_labels"], kept["regex"]) == (["__meta_kubernetes_pod_container_port_name"], "metrics")
