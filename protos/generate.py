"""Generate the Python stubs of every .proto into build/stubs; both a script and hatchling's build hook."""

import os
import shutil
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent.parent


def generate(out: Path) -> None:
    """Write messages, services and their type stubs below `out`, in folders equal to the proto packages."""
    out.mkdir(parents=True, exist_ok=True)
    protos = ROOT / "protos"
    # The plugins are console scripts: pip's build environment has them on PATH, a plain call beside the interpreter.
    path = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    plugins = [
        f"--plugin={name}={shutil.which(name, path=path)}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    ]
    status = protoc.main([
        "protoc", f"-I{protos}", f"-I{files('grpc_tools') / '_proto'}", *plugins,
        *(f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        *sorted(str(path) for path in protos.glob("stt/**/*.proto")),
    ])  # fmt: skip
    if status:
        raise SystemExit(f"protoc failed with status {status}")


class StubsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Makes the stubs part of every wheel, editable ones included."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate before hatchling collects the files."""
        generate(ROOT / "build" / "stubs")


if __name__ == "__main__":
    generate(ROOT / "build" / "stubs")
