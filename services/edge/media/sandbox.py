"""Takes from the decoding child everything but reading, writing and computing. What it decodes is not known here.

Several layers, each best effort with what the kernel has, so that one missing layer leaves the others. There is no
small, kept-up library for this without a system package (`pyseccomp` loads libseccomp.so), hence the system calls.
"""

import ctypes
import os
import resource
import signal
from collections.abc import Callable

from services.edge.media.landlock import deny_files_and_network
from services.edge.media.seccomp import restrict_system_calls

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def confine(parent_pid: int, memory_bytes: int, cpu_s: int, file_bytes: int) -> list[str]:
    """Confine this process for good; return what could not be applied, as `layer: error`.

    `memory_bytes` is address space, `file_bytes` the size of the largest file it may write. It must have one thread and
    all its imports done, and it dies with `parent_pid`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    layers: dict[str, Callable[[], None]] = {
        "parent_death": lambda: _die_with(libc, parent_pid),
        "no_new_privs": lambda: _no_new_privs(libc),
        "rlimits": lambda: _limit_resources(memory_bytes, cpu_s, file_bytes),
        "landlock": lambda: deny_files_and_network(libc),
        "seccomp": lambda: restrict_system_calls(libc),
    }
    missing = []
    for name, apply in layers.items():
        try:
            apply()
        except (OSError, ValueError) as error:
            missing.append(f"{name}: {error}")
    return missing


def _die_with(libc: ctypes.CDLL, parent_pid: int) -> None:
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:  # it died before we asked
        os._exit(1)


def _no_new_privs(libc: ctypes.CDLL) -> None:
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")


def _limit_resources(memory_bytes: int, cpu_s: int, file_bytes: int) -> None:
    for what, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        hard = resource.getrlimit(what)[1]
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(what, (limit, limit))
