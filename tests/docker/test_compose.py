"""compose.yaml, read as Compose reads it, held against the programs, the images and its own rules."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.asr.settings import AsrSettings
from services.common.settings import Settings
from services.diarize.settings import DiarizeSettings
from services.edge.settings import EdgeSettings
from services.summarize.settings import SummarizeSettings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
SETTINGS: dict[str, type[Settings]] = {
    "edge": EdgeSettings,
    "asr": AsrSettings,
    "diarize": DiarizeSettings,
    "summarize": SummarizeSettings,
}
OURS = [name for name in SERVICES if name.removesuffix("-gpu") in SETTINGS]
BACKENDS = [name for name in OURS if name != "edge"]
THIRD_PARTIES = ("valkey", "otel-collector", "prometheus", "grafana")
# What libraries read by themselves.
LIBRARIES = re.compile(r"OTEL_EXPORTER_OTLP_\w+|OTEL_SERVICE_NAME|HF_(HUB_OFFLINE|HOME|ENDPOINT|TOKEN)")
every_service = pytest.mark.parametrize("name", SERVICES)
our_services = pytest.mark.parametrize("name", OURS)


def seconds(text: str) -> float:
    """Read a duration such as 62m or 30s."""
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def settings_of(name: str) -> Settings:
    """Return what the program would make of its image's and compose's variables, the shell's left out."""
    cls, given = SETTINGS[name.removesuffix("-gpu")], environment(name)
    return cls(**{field: given[variable] for field, variable in variables(cls).items() if variable in given})


def variables(cls: type[Settings]) -> dict[str, str]:
    """Return the variable of each field."""
    prefix = cls.model_config["env_prefix"]
    return {name: str(field.validation_alias or prefix + name.upper()) for name, field in cls.model_fields.items()}


def environment(name: str) -> dict[str, str]:
    """Return the variables of a container: the image's, then compose's with their defaults."""
    found: dict[str, str] = {}
    final_stage = dockerfile(name).rpartition("\nFROM ")[2]
    for line in re.findall(r"^ENV (.*)$", final_stage, re.MULTILINE):
        found |= dict(word.split("=", 1) for word in line.split())
    return found | {
        key: re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", value) for key, value in SERVICES[name]["environment"].items()
    }


def dockerfile(name: str) -> str:
    """Return the text of a service's Dockerfile, continued lines joined."""
    return (ROOT / "docker" / name.removesuffix("-gpu") / "Dockerfile").read_text().replace("\\\n", " ")


def networks(name: str) -> set[str]:
    return set(SERVICES[name]["networks"])


def members(network: str) -> set[str]:
    return {name for name in SERVICES if network in networks(name)}


def mounts(name: str) -> list[tuple[str, str, str]]:
    """Return source, target and options of each volume."""
    return [(*volume.split(":"), "")[:3] for volume in SERVICES[name]["volumes"]]


@every_service
def test_a_container_can_change_nothing_but_what_is_mounted_for_it(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"cap_add", "privileged", "network_mode", "pid", "ipc"} & set(service)
    assert all("size=" in mount for mount in service["tmpfs"])


@every_service
def test_a_container_is_not_root(name: str) -> None:
    user = SERVICES[name].get("user")
    assert user.split(":")[0].isdigit() if name in THIRD_PARTIES else user is None  # our images say it themselves
    assert user != "0"


@every_service
def test_a_container_has_limits_and_a_log_that_ends(name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory"}
    assert set(SERVICES[name]["logging"]["options"]) == {"max-size", "max-file"}


@pytest.mark.parametrize("name", THIRD_PARTIES)
def test_images_of_others_are_pinned_to_a_release(name: str) -> None:
    assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@our_services
def test_images_of_ours_are_named_by_version_and_variant(name: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    variant = "cuda" if name.endswith("-gpu") else "cpu"
    base = name.removesuffix("-gpu")
    assert SERVICES[name]["image"] == f"localhost/stt-{base}:{version}-{variant}"
    assert SERVICES[name]["build"]["dockerfile"] == f"docker/{base}/Dockerfile"
    assert SERVICES[name]["build"].get("args", {"VARIANT": "cpu"}) == {"VARIANT": variant}


@every_service
def test_every_server_has_a_health_check(name: str) -> None:
    if name in ("models", "otel-collector"):  # the one serves nothing, the other's image has nothing to ask with
        assert SERVICES[name]["healthcheck"] == {"disable": True}
    elif name in OURS:
        assert "HEALTHCHECK" in dockerfile(name)
        assert "healthcheck" not in SERVICES[name]
    else:
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_only_the_edge_can_be_reached_from_outside_and_grafana_from_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"edge", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in published["grafana"])


def test_services_share_a_network_with_the_edge_and_who_watches_them_only() -> None:
    for name in BACKENDS:
        assert networks(name) == {"services"}
    assert members("services") == {"edge", "prometheus", "otel-collector", *BACKENDS}
    assert members("store") == {"edge", "valkey"}
    assert networks("valkey") == {"store"}
    assert all(COMPOSE["networks"][each]["internal"] for each in ("services", "store", "dashboards"))


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_both_profiles_give_each_service_under_the_same_name(profile: str) -> None:
    names = [name for name, service in SERVICES.items() if service.get("profiles") == [profile]]
    assert [SERVICES[name]["networks"]["services"]["aliases"] for name in names] == [
        ["asr"],
        ["diarize"],
        ["summarize"],
    ]
    devices = [SERVICES[name]["deploy"]["resources"].get("reservations", {}).get("devices") for name in names]
    gpu = [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert devices == [gpu if profile == "gpu" else None] * 3


@every_service
def test_what_a_container_waits_for_exists_and_becomes_healthy(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        assert wait["condition"] == "service_healthy"
        assert not SERVICES[other].get("healthcheck", {}).get("disable")
        # One that a profile leaves out is not waited for.
        assert wait.get("required", True) is ("profiles" not in SERVICES[other])


@every_service
def test_every_mounted_file_is_in_the_repository_and_every_volume_declared(name: str) -> None:
    for source, _, options in mounts(name):
        if source.startswith("."):
            assert options == "ro"
            assert (ROOT / "docker" / source).exists()
        else:
            assert source in COMPOSE["volumes"]


@our_services
def test_every_variable_is_one_that_the_program_reads(name: str) -> None:
    known = set(variables(SETTINGS[name.removesuffix("-gpu")]).values())
    unknown = {variable for variable in SERVICES[name]["environment"] if variable not in known}
    assert {variable for variable in unknown if not LIBRARIES.fullmatch(variable)} == set()


@our_services
def test_an_images_variables_are_ones_that_the_program_reads(name: str) -> None:
    known = set(variables(SETTINGS[name.removesuffix("-gpu")]).values()) | {"PATH", "HOME", "LD_LIBRARY_PATH"}
    given = set(environment(name)) - set(SERVICES[name]["environment"])
    assert {each for each in given if each not in known and not LIBRARIES.fullmatch(each)} <= {
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPATH",
        "PYTHONUNBUFFERED",
    }


@our_services
def test_ports_agree_with_what_is_exposed_and_asked(name: str) -> None:
    settings = settings_of(name)
    assert settings.host == "0.0.0.0"
    assert settings.metrics_port == 9464
    assert f"EXPOSE {settings.port} 9464" in dockerfile(name)
    if name != "edge":
        assert f'"127.0.0.1:{settings.port}"' in dockerfile(name)
        base = name.removesuffix("-gpu")
        assert getattr(settings_of("edge"), f"{base}_address") == f"dns:///{base}:{settings.port}"
        assert getattr(settings_of("edge"), f"{base}_metrics_port") == settings.metrics_port


def test_the_published_port_is_the_edges() -> None:
    assert [port.rpartition(":")[2] for port in SERVICES["edge"]["ports"]] == [str(settings_of("edge").port)]


def test_a_container_is_given_the_time_that_a_live_session_may_last() -> None:
    edge = settings_of("edge")
    assert isinstance(edge, EdgeSettings)
    assert edge.stream_drain_s >= edge.stream_max_s
    # The store has as long again to take what is settled.
    ends_s = edge.drain_s + edge.stream_drain_s + 2 * edge.grace_s
    assert seconds(SERVICES["edge"]["stop_grace_period"]) > ends_s
    for name in BACKENDS:
        settings = settings_of(name)
        assert seconds(SERVICES[name]["stop_grace_period"]) > settings.drain_s + settings.grace_s
        if "summarize" not in name:
            assert settings.grace_s > edge.drain_s + edge.stream_drain_s + edge.grace_s


def test_the_store_keeps_every_write_and_evicts_nothing() -> None:
    command = SERVICES["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"
    assert ("accounts", "/data", "") in mounts("valkey")


def test_the_folders_that_programs_write_are_volumes_owned_by_their_user() -> None:
    edge = settings_of("edge")
    assert isinstance(edge, EdgeSettings)
    writable = {target for _, target, options in mounts("edge") if options != "ro"}
    assert {str(edge.data_dir), str(edge.spool_dir)} == writable
    assert "install --directory --owner stt --group stt /data /spool" in dockerfile("edge")
    for name in ("asr", "diarize", "summarize"):
        assert "install --directory --owner stt --group stt /models" in dockerfile(name)
        assert ("models", "/models", "ro") in mounts(name)


def test_no_password_has_a_default() -> None:
    text = (ROOT / "docker/compose.yaml").read_text()
    secrets = re.findall(r"^\s*\w*(?:PASSWORD|SECRET|TOKEN|AUTHORIZATION)\w*: *(.*)$", text, re.MULTILINE)
    assert secrets
    assert all(value.startswith("${") and ":?" in value for value in secrets)
