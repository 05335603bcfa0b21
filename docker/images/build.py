"""Building the images; what an image was built from is written on it, so that nothing is built twice."""

import configparser
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from docker.images.base import IMAGE as BASE
from docker.images.storage import Storage

SERVICES = ("edge", "asr", "diarize", "summarize")
_INPUTS_LABEL = "stt.inputs"
# What of pip's settings says how packages are reached. Folders of this machine are not there during a build.
_PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout", "retries")
_PIP_CA = "/run/secrets/ca.crt"


def image_name(service: str, variant: str) -> str:
    """Return the name of a service's image, which compose.yaml gives it, too."""
    return f"localhost/stt-{service}:0.1.0-{variant}"


def build(storage: Storage, service: str, variant: str) -> bool:
    """Build a service's image; return False where there is one of the same inputs already. Raises SystemExit."""
    name = image_name(service, variant)
    inputs = _inputs(storage, service, variant)
    if storage.image(name) and storage.config(name)["Labels"].get(_INPUTS_LABEL) == inputs:
        return False
    with tempfile.TemporaryDirectory() as folder:
        storage.buildah(
            "bud",
            "--isolation=chroot",
            "--format=docker",  # the other one has no health checks
            "--pull-never",
            # With vfs each layer is a copy of all below it, which takes longer than to do the steps again.
            f"--layers={str(storage.driver != 'vfs').lower()}",
            f"--build-arg=VARIANT={variant}",
            f"--label={_INPUTS_LABEL}={inputs}",
            *_secrets(Path(folder)),
            f"--file=docker/{service}/Dockerfile",
            f"--tag={name}",
            ".",
        )
    return True


def _inputs(storage: Storage, service: str, variant: str) -> str:
    """Return a hash of all that an image is made of."""
    base = storage.image(BASE)
    digest = hashlib.sha256(json.dumps([variant, base and base["FromImageID"]]).encode())
    paths = [Path("pyproject.toml"), Path("services/__init__.py"), Path("docker/images/requirements-build.txt")]
    for folder in (f"docker/{service}", "protos", "services/common", f"services/{service}"):
        paths += sorted(path for path in Path(folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _secrets(folder: Path) -> list[str]:
    """Hand this machine's way to packages to pip, for the time of the build only."""
    text = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    settings = {}
    # Lines are `global.cert='...'`, and `:env:.cert='...'`, which is stronger and comes first.
    for line in reversed(text.splitlines()):
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = value.strip("'\"")
    config = configparser.ConfigParser(interpolation=None)
    config["global"] = {
        name: remote
        for name in _PIP_SETTINGS
        if (remote := " ".join(word for word in settings.get(name, "").split() if not word.startswith(("/", "file:"))))
    }
    secrets = []
    if "cert" in settings:
        config["global"]["cert"] = _PIP_CA
        secrets.append(f"--secret=id=ca.crt,src={settings['cert']}")
    path = folder / "pip.conf"
    with path.open("w") as file:
        config.write(file)
    return [*secrets, f"--secret=id=pip.conf,src={path}"]
