"""The system call filter of the decoding child: a small allowlist in BPF. What else confines the child is `sandbox`.

Everything that is not listed fails with EPERM, so that a library which tries something optional goes on without it.
Left out on purpose: everything that takes a path, makes a socket, a process, a thread or a signal.
"""

import ctypes
import errno
import platform
import struct

# name: (x86-64, aarch64); arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux
ALLOWED = {
    "read": (0, 63),
    "write": (1, 64),
    "writev": (20, 66),
    "pread64": (17, 67),
    "lseek": (8, 62),
    "close": (3, 57),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "getrandom": (318, 278),
    "clock_gettime": (228, 113),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
_COLUMN_AND_AUDIT_ARCH = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_OFFSET_NR, _OFFSET_ARCH = 0, 4
_RET_ALLOW, _RET_ERRNO, _RET_KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def restrict_system_calls(libc: ctypes.CDLL) -> None:
    """Allow this thread nothing but `ALLOWED` from now on; OSError if the kernel or the machine cannot.

    The caller has set no_new_privs.
    """
    if platform.machine() not in _COLUMN_AND_AUDIT_ARCH:
        raise OSError(errno.ENOSYS, f"no system call table for {platform.machine()}")
    column, audit_arch = _COLUMN_AND_AUDIT_ARCH[platform.machine()]
    code = _filter([numbers[column] for numbers in ALLOWED.values()], audit_arch)
    program = _Program(len(code) // 8, code)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


def _filter(numbers: list[int], audit_arch: int) -> bytes:
    """Assemble `struct sock_filter`s. A foreign ABI of the same machine would have other numbers: it kills."""
    instructions = [
        (_LOAD_WORD, 0, 0, _OFFSET_ARCH),
        (_JUMP_IF_EQUAL, 1, 0, audit_arch),
        (_RETURN, 0, 0, _RET_KILL_PROCESS),
        (_LOAD_WORD, 0, 0, _OFFSET_NR),
        *((_JUMP_IF_EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers)),
        (_RETURN, 0, 0, _RET_ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _RET_ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
