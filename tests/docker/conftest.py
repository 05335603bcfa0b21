"""The images that tests run."""

import pytest

from docker.images import base, build
from docker.images.storage import Storage


@pytest.fixture(scope="session")
def storage() -> Storage:
    """Where the images are, built from what is in the tree now."""
    storage = Storage()
    base.provide(storage)
    for service in build.SERVICES:
        build.build(storage, service, "cpu")
    return storage
