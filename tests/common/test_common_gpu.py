"""How it is found out whether a GPU still works; what is asked is made up, since none can be broken on purpose."""

import threading

import pytest

from services.common import gpu


def test_where_nothing_uses_a_gpu_all_is_well() -> None:
    assert gpu.works()


@pytest.mark.parametrize(
    ("message", "is_well"),
    [
        ("CUDA error: an illegal memory access was encountered", False),
        ("CUDA error: device-side assert triggered", False),
        ("CUDA out of memory. Tried to allocate 2.00 MiB.", True),
        ("CUDA error: out of memory", True),
    ],
)
def test_a_device_that_fails_whatever_is_asked_does_not_work_but_one_without_room_does(
    message: str, is_well: bool
) -> None:
    def ask() -> None:
        raise RuntimeError(message)

    assert gpu.works(ask) is is_well


def test_a_device_that_never_answers_does_not_work() -> None:
    release = threading.Event()
    assert not gpu.works(lambda: bool(release.wait()) or None, limit_s=0.01)
    release.set()
