"""Build the images of the services with buildah, without any engine: `python -m docker.images`, or `make images`.

Images lie in build/images. The base image is pulled where a registry can be reached; elsewhere debootstrap makes one of
its name out of this machine's own package sources (--base bootstrap or pull: only so).
"""

import argparse
import time

from docker.images import base, build
from docker.images.storage import Storage, missing


def main() -> None:
    """Build what is asked for and print how large it is."""
    parser = argparse.ArgumentParser(prog="python -m docker.images", description=__doc__)
    parser.add_argument("services", nargs="*", metavar="service", help=f"of {', '.join(build.SERVICES)}; none: all")
    parser.add_argument("--variant", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--base", choices=("auto", "pull", "bootstrap"), default="auto")
    parser.add_argument("--storage-driver", choices=("overlay", "vfs"), help="how buildah keeps images; by what works")
    arguments = parser.parse_args()
    if reason := missing():
        parser.exit(1, f"Images cannot be built here: {reason}.\n")
    storage = Storage(driver=arguments.storage_driver or "")
    base.provide(storage, arguments.base)
    for service in arguments.services or build.SERVICES:
        start = time.monotonic()
        is_new = build.build(storage, service, arguments.variant)
        name = build.image_name(service, arguments.variant)
        verb = f"built in {time.monotonic() - start:.0f} s" if is_new else "as it was"
        print(f"{name:<36} {storage.size_bytes(name) / 1e6:6.0f} MB  {verb}", flush=True)


if __name__ == "__main__":
    main()
