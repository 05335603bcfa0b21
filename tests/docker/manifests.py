"""The Kubernetes manifests as kustomize builds them, and who may reach whom by their NetworkPolicies."""

import ipaddress
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "kubernetes"
NAMESPACE = "stt"
Object = dict[str, Any]
_TEMPLATED = ("Deployment", "StatefulSet", "Job")


def kustomize() -> list[str] | None:
    """Return the command that builds a folder; None where there is none."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    return ["kubectl", "kustomize"] if shutil.which("kubectl") else None


@cache
def build(folder: Path) -> Sequence[Object]:
    """Return the objects of a folder with a kustomization."""
    command = kustomize()
    assert command is not None
    built = subprocess.run([*command, str(folder)], capture_output=True, text=True)
    assert not built.returncode, built.stderr
    return [each for each in yaml.safe_load_all(built.stdout) if each]


@cache
def overlay(name: str) -> Sequence[Object]:
    """Return "cpu", "gpu", "all" or "all on gpu"; all with what the accounts command runs in."""
    folder, _, variant = name.partition(" on ")
    if folder != "all":
        return build(FOLDER / "overlays" / folder)
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(FOLDER, copy, dirs_exist_ok=True)
        path = Path(copy, "overlays", folder, "kustomization.yaml")
        path.write_text(path.read_text().replace("  - ../cpu\n", f"  - ../{variant or 'cpu'}\n"))
        return [*build(path.parent), *build(Path(copy, "accounts"))]


@dataclass(frozen=True)
class Workload:
    """What makes pods: `spec` is the pods', `labels` are theirs."""

    kind: str
    name: str
    labels: Mapping[str, str]
    spec: Object
    whole: Object

    @property
    def containers(self) -> list[Object]:
        """All of them, those that run before the others included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def is_server(self) -> bool:
        """Whether it runs until it is told to stop."""
        return self.kind in ("Deployment", "StatefulSet")

    @property
    def ports(self) -> dict[str, int]:
        """Numbers of its ports by name."""
        return {port["name"]: port["containerPort"] for each in self.containers for port in each.get("ports", [])}

    def volume(self, name: str) -> Object:
        """Return a volume by its name, of a claim's template, too."""
        templates = self.whole["spec"].get("volumeClaimTemplates", [])
        claims = [{"name": each["metadata"]["name"], "claimTemplate": each["spec"]} for each in templates]
        return next(each for each in [*self.spec.get("volumes", []), *claims] if each["name"] == name)


def of_kind(objects: Sequence[Object], kind: str) -> list[Object]:
    """Return the objects of a kind."""
    return [each for each in objects if each["kind"] == kind]


def name_of(each: Object) -> str:
    """Return an object's name."""
    return str(each["metadata"]["name"])


def workloads(objects: Sequence[Object]) -> list[Workload]:
    """Return all that makes pods."""
    pods = [
        Workload("Pod", name_of(pod), pod["metadata"]["labels"], pod["spec"], pod) for pod in of_kind(objects, "Pod")
    ]
    for each in objects:
        if each["kind"] in _TEMPLATED:
            template = each["spec"]["template"]
            pods.append(Workload(each["kind"], name_of(each), template["metadata"]["labels"], template["spec"], each))
    return pods


def environment(objects: Sequence[Object], container: Object) -> dict[str, str]:
    """Return what a container's variables are; of a Secret's the name of the Secret and the key."""
    maps = {name_of(each): each["data"] for each in of_kind(objects, "ConfigMap")}
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        variables |= maps[source["configMapRef"]["name"]]
    for each in container.get("env", []):
        secret = each.get("valueFrom", {}).get("secretKeyRef")
        variables[each["name"]] = f"{secret['name']}/{secret['key']}" if secret else each["value"]
    return variables


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Return whether a label selector takes these labels; an empty one takes all."""
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions)
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def walk(node: object, key: str) -> Iterator[Any]:
    """Yield every value that stands under `key`, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from walk(value, key)
    elif isinstance(node, list):
        for each in node:
            yield from walk(each, key)


_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 1e-3, "": 1}


def quantity(text: str | int) -> float:
    """Return what "300m", "2" or "10Gi" stands for."""
    number = str(text).rstrip("Kimg" + "MG")
    return float(number) * _UNITS[str(text)[len(number) :]]


@dataclass(frozen=True)
class Peer:
    """Somebody at one end of a connection: a pod, or an address where `address` is set."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = NAMESPACE
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    address: str = ""


def lets_out(objects: Sequence[Object], source: Peer, target: Peer, port: int, protocol: str) -> bool:
    """Return whether the NetworkPolicies let `source` send to a port of `target`."""
    return _allows(objects, "Egress", source, target, "to", target.ports, (port, protocol))


def lets_in(objects: Sequence[Object], source: Peer, target: Peer, port: int, protocol: str) -> bool:
    """Return whether the NetworkPolicies let what `source` sends into a port of `target`."""
    return _allows(objects, "Ingress", target, source, "from", target.ports, (port, protocol))


def _allows(
    objects: Sequence[Object],
    direction: str,
    subject: Peer,
    other: Peer,
    side: str,
    names: Mapping[str, int],
    wanted: tuple[int, str],
) -> bool:
    if subject.address or subject.namespace != NAMESPACE:
        return True  # the policies are those of one namespace
    specs = [each["spec"] for each in of_kind(objects, "NetworkPolicy")]
    mine = [each for each in specs if direction in each["policyTypes"] and selects(each["podSelector"], subject.labels)]
    rules = [rule for each in mine for rule in each.get(direction.lower(), [])]
    return not mine or any(
        ("ports" not in rule or any(_is_port(each, names, wanted) for each in rule["ports"]))
        and (side not in rule or any(_is_peer(each, other) for each in rule[side]))
        for rule in rules
    )


def _is_port(port: Object, names: Mapping[str, int], wanted: tuple[int, str]) -> bool:
    number = port["port"] if isinstance(port["port"], int) else names.get(port["port"])
    return (number, port.get("protocol", "TCP")) == wanted


def _is_peer(rule: Object, peer: Peer) -> bool:
    if "ipBlock" in rule:
        block = rule["ipBlock"]
        return (
            bool(peer.address)
            and _is_in(peer.address, block["cidr"])
            and not any(_is_in(peer.address, each) for each in block.get("except", []))
        )
    if peer.address:
        return False
    if "namespaceSelector" in rule:
        is_there = selects(rule["namespaceSelector"], peer.namespace_labels)
    else:
        is_there = peer.namespace == NAMESPACE
    return is_there and selects(rule.get("podSelector", {}), peer.labels)


def _is_in(address: str, block: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(block)
