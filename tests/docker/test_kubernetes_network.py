"""Who reaches whom by the NetworkPolicies: every pair, worked out from the policies as they are built."""

from collections.abc import Mapping, Sequence

import pytest

from tests.docker.manifests import NAMESPACE, Object, Peer, kustomize, lets_in, lets_out, of_kind, overlay, workloads

pytestmark = pytest.mark.skipif(kustomize() is None, reason="Neither kustomize nor kubectl is installed.")

PROGRAMS = ("edge", "asr", "diarize", "summarize")
OUTSIDE = {
    "internet": Peer(address="203.0.113.7"),
    "another machine": Peer(address="10.1.2.3"),
    "dns": Peer({"k8s-app": "kube-dns"}, "kube-system", {"kubernetes.io/metadata.name": "kube-system"}),
    "prometheus": Peer(
        {"app.kubernetes.io/name": "prometheus"}, "monitoring", {"kubernetes.io/metadata.name": "monitoring"}
    ),
    "collector": Peer(
        {"app.kubernetes.io/name": "opentelemetry-collector"},
        "monitoring",
        {"kubernetes.io/metadata.name": "monitoring"},
    ),
    "caller": Peer({"stt-calls-asr": "true"}, "team", {"stt-callers": "true"}),
    "caller of an unlabelled namespace": Peer({"stt-calls-asr": "true"}, "other", {}),
    "prometheus of another namespace": Peer({"app.kubernetes.io/name": "prometheus"}, "other", {}),
    "pod of a labelled namespace": Peer({}, "team", {"stt-callers": "true"}),
    "newcomer": Peer({"app.kubernetes.io/name": "newcomer"}),
}
DOOR = {"edge:8080"}
METRICS = {f"{name}:9464" for name in PROGRAMS}
RESOLVED = {"dns:53/UDP", "dns:53"}
TRACED = {"collector:4318"}
REACHED: Mapping[str, set[str]] = {
    "internet": DOOR,
    "another machine": DOOR,
    "dns": DOOR,
    "collector": DOOR,
    "caller of an unlabelled namespace": DOOR,
    "prometheus of another namespace": DOOR,
    "pod of a labelled namespace": DOOR,
    "prometheus": DOOR | METRICS,
    "caller": DOOR | {"asr:50051"},
    # The metrics are for services.edge.status.
    "edge": DOOR | {"asr:50051", "diarize:50052", "summarize:50053", "valkey:6379"} | METRICS | RESOLVED | TRACED,
    "asr": RESOLVED | TRACED,
    "diarize": RESOLVED | TRACED,
    "summarize": RESOLVED | TRACED,
    "valkey": set(),
    "accounts": {"valkey:6379"} | RESOLVED,
    "models": {"internet:443"} | RESOLVED,
    "newcomer": set(),
}


# Who sends, who is sent to, at which port.
Way = tuple[str, str, int, str]


def _shown(way: Way) -> str:
    _, target, port, protocol = way
    return f"{target}:{port}" + ("/UDP" if protocol == "UDP" else "")


@pytest.fixture(params=["all", "all on gpu"])
def objects(request: pytest.FixtureRequest) -> Sequence[Object]:
    return overlay(request.param)


@pytest.fixture
def pods(objects: Sequence[Object]) -> dict[str, Peer]:
    namespace = next(iter(of_kind(objects, "Namespace")))["metadata"]
    labels = {"kubernetes.io/metadata.name": namespace["name"], **namespace["labels"]}
    return {each.name: Peer(each.labels, NAMESPACE, labels, each.ports) for each in workloads(objects)}


@pytest.fixture
def peers(pods: dict[str, Peer]) -> dict[str, Peer]:
    return {**OUTSIDE, **pods}


@pytest.fixture
def ways(pods: dict[str, Peer], peers: dict[str, Peer]) -> list[Way]:
    """All that have an end in the namespace; what others reach of each other is not this house's business."""
    ports = [
        *((name, port, "TCP") for name, pod in pods.items() for port in pod.ports.values()),
        *((name, 443, "TCP") for name in ("internet", "another machine")),
        *(("dns", 53, protocol) for protocol in ("TCP", "UDP")),
        ("another machine", 6379, "TCP"),
        ("internet", 80, "TCP"),
        ("collector", 4318, "TCP"),
        ("newcomer", 8080, "TCP"),
    ]
    inside = {*pods, "newcomer"}
    return [(source, *port) for source in peers for port in ports if source in inside or port[0] in inside]


def test_nobody_reaches_more_than_they_must(
    objects: Sequence[Object], pods: dict[str, Peer], peers: dict[str, Peer], ways: list[Way]
) -> None:
    assert pods.keys() - {"models"} == {*PROGRAMS, "valkey", "accounts"}
    reached: dict[str, set[str]] = {name: set() for name in peers}
    for way in ways:
        ends = peers[way[0]], peers[way[1]]
        if lets_out(objects, *ends, *way[2:]) and lets_in(objects, *ends, *way[2:]):
            reached[way[0]].add(_shown(way))
    assert reached == {name: found for name, found in REACHED.items() if name in peers}


def test_each_end_refuses_by_itself_what_the_other_would_refuse_too(
    objects: Sequence[Object], pods: dict[str, Peer], peers: dict[str, Peer], ways: list[Way]
) -> None:
    for way in ways:
        source, target, port, protocol = way
        ends = peers[source], peers[target]
        is_wanted = _shown(way) in REACHED[source]
        if source in pods:
            assert lets_out(objects, *ends, port, protocol) == is_wanted, way
        if target in pods:
            assert lets_in(objects, *ends, port, protocol) == (is_wanted or _shown(way) in DOOR), way
