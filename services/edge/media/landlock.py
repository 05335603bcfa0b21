"""Landlock for the decoding child: no file may be opened by name, no port used, no outside process signalled."""

import ctypes

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same on every architecture
_VERSION_QUERY = 1
# How many access rights each version of the ABI knows; an unknown one would be refused with EINVAL (landlock(7)).
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_FS_RIGHTS_SINCE_5 = 16
_NET_SINCE, _NET_TCP_BIND_AND_CONNECT = 4, 0b11
_SCOPE_SINCE, _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 6, 0b11


class _RulesetAttr(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


def deny_files_and_network(libc: ctypes.CDLL) -> None:
    """Forbid this thread whatever the kernel's version of Landlock can forbid; OSError if it has none.

    Open descriptors keep working. The caller has set no_new_privs.
    """
    abi = _checked(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_QUERY))
    attr = _RulesetAttr(
        fs=(1 << _FS_RIGHTS.get(abi, _FS_RIGHTS_SINCE_5)) - 1,
        net=_NET_TCP_BIND_AND_CONNECT if abi >= _NET_SINCE else 0,
        scoped=_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if abi >= _SCOPE_SINCE else 0,
    )
    # An older kernel takes a longer struct as long as what it does not know is zero. No rule is added, so nothing is
    # allowed.
    ruleset = _checked(libc.syscall(_CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(ctypes.sizeof(attr)), 0))
    _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "landlock")
    return result
