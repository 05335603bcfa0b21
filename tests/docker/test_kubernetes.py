"""The Kubernetes manifests: they fit the API, name only what exists, confine every container, and outlast a session."""

import importlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.asr.settings import AsrSettings
from services.common.settings import Settings, read
from services.diarize.settings import DiarizeSettings
from services.edge.settings import EdgeSettings
from services.summarize.settings import SummarizeSettings
from tests.docker.manifests import (
    FOLDER,
    NAMESPACE,
    ROOT,
    Object,
    Workload,
    build,
    environment,
    kustomize,
    name_of,
    of_kind,
    overlay,
    quantity,
    selects,
    walk,
    workloads,
)

pytestmark = pytest.mark.skipif(kustomize() is None, reason="Neither kustomize nor kubectl is installed.")

SETTINGS: dict[str, type[Settings]] = {
    "edge": EdgeSettings,
    "asr": AsrSettings,
    "diarize": DiarizeSettings,
    "summarize": SummarizeSettings,
}
# What the user makes; kinds that are an operator's have no schema here.
SECRETS = {"store/url", "store/password", "signing-key", "hub/token"}
OPERATORS_KINDS = {"PodMonitor"}
# Read by libraries, whose names start so.
LIBRARIES = ("HF_", "OTEL_", "OMP_")
OLDEST, NEWEST = "1.28", "1.37"


@pytest.fixture(params=["cpu", "gpu", "all", "all on gpu"])
def objects(request: pytest.FixtureRequest) -> Sequence[Object]:
    return overlay(request.param)


@pytest.fixture
def servers(objects: Sequence[Object]) -> list[Workload]:
    return [each for each in workloads(objects) if each.is_server]


@pytest.fixture
def programs(objects: Sequence[Object]) -> dict[str, Workload]:
    found = {each.name: each for each in workloads(objects) if each.name in SETTINGS}
    assert found.keys() == SETTINGS.keys()
    return found


@pytest.fixture
def settings(objects: Sequence[Object], programs: dict[str, Workload]) -> dict[str, Any]:
    """What each program reads in its container."""
    found = {}
    for name, program in programs.items():
        with pytest.MonkeyPatch.context() as patch:
            for cls in SETTINGS.values():
                for variable in _variables(cls):
                    patch.delenv(variable, raising=False)
            for variable, value in environment(objects, program.containers[0]).items():
                patch.setenv(variable, value)
            found[name] = read(SETTINGS[name])
    return found


def _variables(cls: type[Settings]) -> dict[str, str]:
    """Return the variables that a class reads, with the names of its fields."""
    prefix = cls.model_config["env_prefix"]
    return {str(f.validation_alias or f"{prefix}{name}").upper(): name for name, f in cls.model_fields.items()}


def _one(items: Iterable[Any]) -> Any:
    (item,) = items
    return item


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("objects", ["all", "all on gpu"], indirect=True)  # with all that is in the others
def test_every_object_is_as_the_api_wants_it(objects: Sequence[Object], version: str) -> None:
    for each in objects:
        if each["kind"] not in OPERATORS_KINDS:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("name", ["edge", "asr", "diarize", "summarize", "valkey"])
def test_every_service_can_be_deployed_by_itself(name: str) -> None:
    for each in build(FOLDER / "base" / name):
        kubernetes_validate.validate(each, NEWEST, strict=True)


def test_no_object_is_there_twice(objects: Sequence[Object]) -> None:
    names = [(each["kind"], name_of(each)) for each in objects]
    assert len(names) == len(set(names))


def test_the_overlay_of_all_puts_everything_into_one_namespace() -> None:
    for each in build(FOLDER / "overlays" / "all"):
        assert name_of(each) == NAMESPACE if each["kind"] == "Namespace" else each["metadata"]["namespace"] == NAMESPACE


def test_every_container_is_confined(objects: Sequence[Object]) -> None:
    for each in workloads(objects):
        spec, pod = each.spec, each.spec["securityContext"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False  # EDGE_PORT=tcp://... would be no port
        assert (pod["runAsNonRoot"], pod["runAsUser"], pod["runAsGroup"]) == (True, 10001, 10001)
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        for container in each.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_every_container_has_its_share_and_no_more(objects: Sequence[Object]) -> None:
    for each in workloads(objects):
        for container in each.containers:
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert {"cpu", "memory"} <= requests.keys() == limits.keys()
            assert all(0 < quantity(requests[name]) <= quantity(limits[name]) for name in requests)


def test_every_empty_volume_has_a_limit(objects: Sequence[Object]) -> None:
    for volume in walk([each.spec for each in workloads(objects)], "emptyDir"):
        assert quantity(volume["sizeLimit"]) > 0


def test_every_server_is_asked_three_different_things(servers: list[Workload]) -> None:
    for container in (container for server in servers for container in server.containers):
        startup, ready, live = (container[f"{each}Probe"] for each in ("startup", "readiness", "liveness"))
        assert startup != ready
        assert ready != live
        assert startup != live
        # Who is not ready gets no work; who is not alive is killed. That must not be the same question.
        assert _question(ready) != _question(live)
        # Soon, and late.
        assert _patience_s(ready) <= 15
        assert _patience_s(live) >= 60
        assert _patience_s(startup) >= 60


def _question(probe: Object) -> Object:
    return {key: value for key, value in probe.items() if key in ("exec", "httpGet", "grpc", "tcpSocket")}


def _patience_s(probe: Object) -> int:
    return int(probe["periodSeconds"] * probe["failureThreshold"])


def test_grpc_services_are_ready_when_they_serve_and_alive_until_beyond_repair(programs: dict[str, Workload]) -> None:
    for name in ("asr", "diarize", "summarize"):
        service = importlib.import_module(f"stt.{name}.v1.{name}_pb2").DESCRIPTOR.services_by_name[
            f"{name.title()}Service"
        ]
        container = _one(programs[name].containers)
        asked = {kind: container[f"{kind}Probe"]["grpc"]["service"] for kind in ("startup", "readiness", "liveness")}
        assert asked == {"startup": "live", "readiness": service.full_name, "liveness": "live"}
        # Models are loaded from a volume before it listens.
        assert _patience_s(container["startupProbe"]) >= 600


def test_the_edge_is_ready_until_it_stops_and_alive_while_its_loop_turns(programs: dict[str, Workload]) -> None:
    container = _one(programs["edge"].containers)
    asked = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert asked == {"startup": "/live", "readiness": "/ready", "liveness": "/live"}


def test_every_port_that_is_named_exists(objects: Sequence[Object]) -> None:
    for each in workloads(objects):
        for container in each.containers:
            known = {*each.ports, *each.ports.values()}
            asked = {probe.get("port") for kind in ("grpc", "httpGet", "tcpSocket") for probe in walk(container, kind)}
            assert asked <= known
    for service in of_kind(objects, "Service"):
        for target in _selected(objects, {"matchLabels": service["spec"]["selector"]}):
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= target.ports.keys()
    for policy in of_kind(objects, "NetworkPolicy"):
        for target in _selected(objects, policy["spec"]["podSelector"]):
            named = {port["port"] for rule in policy["spec"].get("ingress", []) for port in rule["ports"]}
            assert named <= target.ports.keys()


def test_ports_are_those_that_the_programs_listen_on(programs: dict[str, Workload], settings: dict[str, Any]) -> None:
    for name, program in programs.items():
        assert settings[name].host == "0.0.0.0"
        main = "http" if name == "edge" else "grpc"
        assert program.ports == {main: settings[name].port, "metrics": settings[name].metrics_port}
        assert settings[name].metrics_port == 9464


def _selected(objects: Sequence[Object], selector: Object) -> list[Workload]:
    return [each for each in workloads(objects) if selects(selector, each.labels)]


def test_every_selector_matches_pods(objects: Sequence[Object]) -> None:
    for each in objects:
        spec = each.get("spec", {})
        match each["kind"]:
            case "Service":
                assert len(_selected(objects, {"matchLabels": spec["selector"]})) == 1
            case "Deployment" | "StatefulSet":
                assert [found.name for found in _selected(objects, spec["selector"])] == [name_of(each)]
                for constraint in spec["template"]["spec"].get("topologySpreadConstraints", []):
                    assert [found.name for found in _selected(objects, constraint["labelSelector"])] == [name_of(each)]
            case "PodDisruptionBudget":
                assert len(_selected(objects, spec["selector"])) == 1
            case "PodMonitor":
                found = {workload.name for workload in _selected(objects, spec["selector"])}
                assert found == SETTINGS.keys()
            case "NetworkPolicy":
                assert _selected(objects, spec["podSelector"])
                for peer in (peer for side in ("from", "to") for peers in walk(spec, side) for peer in peers):
                    # Others' pods are in other namespaces, or callers of which there may be none.
                    if "podSelector" in peer and "namespaceSelector" not in peer and "stt-calls" not in str(peer):
                        assert _selected(objects, peer["podSelector"])


def test_clients_balance_over_the_pods_that_are_ready(objects: Sequence[Object], settings: dict[str, Any]) -> None:
    services = {name_of(each): each["spec"] for each in of_kind(objects, "Service")}
    for name in ("asr", "diarize", "summarize"):
        scheme, _, address = getattr(settings["edge"], f"{name}_address").partition(":///")
        host, _, port = address.partition(":")
        service = services[host]
        assert (scheme, host) == ("dns", name)
        assert service["clusterIP"] == "None"
        assert service["publishNotReadyAddresses"] is False
        assert [each["port"] for each in service["ports"]] == [int(port)] == [settings[name].port]
        assert getattr(settings["edge"], f"{name}_metrics_port") == settings[name].metrics_port
    assert "clusterIP" not in services["edge"]


def test_the_status_finds_every_edge(objects: Sequence[Object], settings: dict[str, Any]) -> None:
    host, _, port = settings["edge"].status_address.removeprefix("dns:///").partition(":")
    service = _one(each["spec"] for each in of_kind(objects, "Service") if name_of(each) == host)
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    assert [found.name for found in _selected(objects, {"matchLabels": service["selector"]})] == ["edge"]
    assert int(port) == settings["edge"].port


def test_every_variable_is_a_setting_of_its_program(objects: Sequence[Object], programs: dict[str, Workload]) -> None:
    for name, program in programs.items():
        given = environment(objects, program.containers[0])
        unknown = {each for each in given if not each.startswith(LIBRARIES)} - _variables(SETTINGS[name]).keys()
        assert not unknown
    for each in workloads(objects):
        if each.name == "accounts":
            assert environment(objects, each.containers[0]).keys() <= _variables(EdgeSettings).keys()


def test_programs_work_with_as_many_threads_as_they_may_use_cores(
    objects: Sequence[Object], programs: dict[str, Workload], settings: dict[str, Any]
) -> None:
    for name in ("asr", "diarize", "summarize"):
        container = programs[name].containers[0]
        cores = quantity(container["resources"]["limits"]["cpu"])
        assert settings[name].workers == int(environment(objects, container)["OMP_NUM_THREADS"]) == cores
    assert settings["edge"].decoders <= quantity(programs["edge"].containers[0]["resources"]["limits"]["cpu"])
    # By default it follows from the node's cores.
    assert "max_sessions" in settings["diarize"].model_fields_set


def test_what_the_edge_spools_fits_its_volume_and_the_volume_the_limit(
    programs: dict[str, Workload], settings: dict[str, Any]
) -> None:
    edge, container = programs["edge"], programs["edge"].containers[0]
    mounted = {each["mountPath"]: edge.volume(each["name"]) for each in container["volumeMounts"]}
    room = quantity(mounted[str(settings["edge"].spool_dir)]["emptyDir"]["sizeLimit"])
    assert settings["edge"].spool_budget_bytes < room
    volumes = sum(quantity(each["emptyDir"]["sizeLimit"]) for each in mounted.values())
    assert volumes <= quantity(container["resources"]["limits"]["ephemeral-storage"])
    assert settings["edge"].spool_budget_bytes < quantity(container["resources"]["requests"]["ephemeral-storage"])


def test_no_live_session_is_cut_off_by_a_rollout(programs: dict[str, Workload], settings: dict[str, Any]) -> None:
    edge = settings["edge"]
    session_s = edge.stream_max_s + edge.stream_finish_s
    assert edge.stream_drain_s >= session_s
    for name in ("asr", "diarize"):
        assert settings[name].grace_s >= session_s


def test_kubernetes_kills_nobody_before_its_drain_is_over(
    programs: dict[str, Workload], settings: dict[str, Any]
) -> None:
    for name, program in programs.items():
        each = settings[name]
        drain_s = each.drain_s + each.grace_s
        if name == "edge":  # then it waits as long again for the store to take what is settled
            drain_s += each.stream_drain_s + each.grace_s
        assert each.drain_s >= 10  # DNS and balancers need some seconds to notice
        assert program.spec["terminationGracePeriodSeconds"] >= drain_s + 10


def test_rollouts_take_nothing_away_before_the_new_is_ready(programs: dict[str, Workload]) -> None:
    for program in programs.values():
        rolling = program.whole["spec"]["strategy"]["rollingUpdate"]
        assert rolling["maxUnavailable"] == 0
        assert rolling["maxSurge"] >= 1


def test_no_budget_forbids_every_eviction(objects: Sequence[Object], programs: dict[str, Workload]) -> None:
    least = {name_of(each): each["spec"]["minReplicas"] for each in of_kind(objects, "HorizontalPodAutoscaler")}
    budgets = of_kind(objects, "PodDisruptionBudget")
    found = {_one(_selected(objects, each["spec"]["selector"])).name: each["spec"] for each in budgets}
    assert found.keys() == programs.keys()
    for name, spec in found.items():
        evictable = spec["maxUnavailable"] if "maxUnavailable" in spec else least[name] - spec["minAvailable"]
        assert 1 <= evictable < least[name]


def test_images_are_those_that_are_built(objects: Sequence[Object], programs: dict[str, Workload]) -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    on_gpu = any("nvidia.com/gpu" in limits for limits in walk(programs["asr"].spec, "limits"))
    for each in workloads(objects):
        for container in each.containers:
            name, _, tag = container["image"].partition(":")
            if name.startswith("stt-"):
                variant = "cuda" if on_gpu and name != "stt-edge" else "cpu"
                assert tag == f"{version[1]}-{variant}"
                assert (ROOT / "docker" / name.removeprefix("stt-") / "Dockerfile").is_file()
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    stores = {c["image"] for each in workloads(objects) if each.name == "valkey" for c in each.containers}
    assert stores <= {compose["valkey"]["image"]}


def test_containers_of_our_images_keep_the_first_process_that_hands_signals_on(objects: Sequence[Object]) -> None:
    started = [c for each in workloads(objects) for c in each.containers if c["image"].startswith("stt-")]
    assert [c["name"] for c in started if "command" in c] == []


def test_gpus_are_used_by_programs_that_have_one(programs: dict[str, Workload], settings: dict[str, Any]) -> None:
    for name in ("asr", "diarize", "summarize"):
        has_one = "nvidia.com/gpu" in programs[name].containers[0]["resources"]["limits"]
        assert (settings[name].device == "cuda") == has_one
        assert ("tolerations" in programs[name].spec) == has_one


def test_models_are_named_only_where_their_files_come_from_somewhere(
    objects: Sequence[Object], programs: dict[str, Workload], settings: dict[str, Any]
) -> None:
    fetched = str([c["args"] for each in workloads(objects) if each.kind == "Job" for c in each.containers])
    embedded = {"base", "moonshine-tiny-en", "pyannote-community-1", "extractive-lexrank"}
    wanted = {*settings["asr"].models, settings["diarize"].model, settings["summarize"].model} - embedded
    for model in wanted:
        assert model in fetched.lower()
    for name in ("asr", "diarize", "summarize"):
        container = programs[name].containers[0]
        given = environment(objects, container)
        assert given["HF_HUB_OFFLINE"] == "1"
        mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
        if wanted:
            assert given["HF_HOME"].startswith("/models/")
            assert mounts["/models"]["readOnly"] is True


def test_every_reference_resolves_or_is_what_the_readme_has_the_user_make(objects: Sequence[Object]) -> None:
    readme = (FOLDER / "README.md").read_text()
    claims = {name_of(each) for each in of_kind(objects, "PersistentVolumeClaim")}
    maps = {name_of(each) for each in of_kind(objects, "ConfigMap")}
    for each in workloads(objects):
        assert {found["claimName"] for found in walk(each.spec, "persistentVolumeClaim")} <= claims
        assert {found["name"] for key in ("configMap", "configMapRef") for found in walk(each.spec, key)} <= maps
        secrets = {f"{found['name']}/{found['key']}" for found in walk(each.spec, "secretKeyRef")}
        secrets |= {found["secretName"] for found in walk(each.spec, "secret")}
        assert secrets <= SECRETS
        for secret in secrets:
            name, _, key = secret.partition("/")
            assert re.search(rf"create secret generic {name} (.|\\\n)*{key}", readme)
        for container in each.containers:
            for mount in container["volumeMounts"]:
                assert each.volume(mount["name"])


def test_no_secret_is_kept_here(objects: Sequence[Object]) -> None:
    assert not of_kind(objects, "Secret")
    passwords = re.compile(r"://[^/\s]*:[^/\s]*@|PRIVATE KEY")
    for each in objects:
        assert not passwords.search(str(each))


def test_only_the_accounts_command_holds_the_key_that_keys_are_signed_with(objects: Sequence[Object]) -> None:
    holders = {each.name for each in workloads(objects) if "signing-key" in str(each.spec)}
    assert holders == {each.name for each in workloads(objects)} & {"accounts"}
