"""Run a command on a weaker host: the kernel itself refuses it what such a host refuses, for good.

`python weaker_host.py KIND COMMAND...`; a seccomp filter does it, as it does in a container.

- `no_namespaces`: user.max_user_namespaces=0 (for root, whose bubblewrap needs none: no new namespace at all)
- `docker`: the default filter of Docker, where it matters here
- `no_landlock`: a kernel older than 5.13, or without lsm=landlock
- `neither`: no_namespaces and no_landlock
- `no_seccomp`: a kernel without filters, as gVisor's
- `old_kernel`: no_landlock and no_seccomp
"""

import errno
import os
import platform
import sys

from starter.sandbox import lockdown
from starter.sandbox.lockdown import Instruction

NUMBERS = {
    "x86_64": {"clone": 56, "unshare": 272, "mount": 165, "add_key": 248},
    "aarch64": {"clone": 220, "unshare": 97, "mount": 40, "add_key": 217},
}
NEW_USER, ANY_NEW = 0x10000000, 0x7E020000
LANDLOCK = (444, 445, 446)
JUMP_IF_ANY_BIT = 0x45


def refuse(number: int, error: int) -> list[Instruction]:
    return [
        Instruction(lockdown._EQUAL, 0, 1, number),
        Instruction(lockdown._RETURN, 0, 0, lockdown._ERRNO | error),
    ]


def refuse_flags(number: int, flags: int) -> list[Instruction]:
    """Refuse a call whose first argument has one of the flags."""
    return [
        Instruction(lockdown._EQUAL, 0, 4, number),
        Instruction(lockdown._LOAD, 0, 0, lockdown._ARGUMENTS),
        Instruction(JUMP_IF_ANY_BIT, 0, 1, flags),
        Instruction(lockdown._RETURN, 0, 0, lockdown._ERRNO | errno.EPERM),
        Instruction(lockdown._RETURN, 0, 0, lockdown._ALLOW),
    ]


def weaken(kind: str) -> list[Instruction]:
    """Return the filter of a kind of host."""
    numbers, machine = NUMBERS[platform.machine()], lockdown.MACHINES[platform.machine()]
    program = [Instruction(lockdown._LOAD, 0, 0, lockdown._NUMBER)]
    flags = ANY_NEW if kind == "docker" or os.getuid() == 0 else NEW_USER
    if kind in {"no_namespaces", "docker", "neither"}:
        program += refuse_flags(numbers["clone"], flags) + refuse_flags(numbers["unshare"], flags)
        program += refuse(machine.clone3, errno.ENOSYS)
    if kind == "docker":
        for number in (numbers["mount"], numbers["add_key"], machine.keyctl):
            program += refuse(number, errno.EPERM)
    if kind in {"no_landlock", "neither", "old_kernel"}:
        for number in LANDLOCK:
            program += refuse(number, errno.ENOSYS)
    if kind in {"no_seccomp", "old_kernel"}:
        program += refuse(machine.seccomp, errno.ENOSYS)
    return [*program, Instruction(lockdown._RETURN, 0, 0, lockdown._ALLOW)]


if __name__ == "__main__":
    lockdown._check(lockdown._libc.prctl(lockdown._SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    lockdown._restrict_calls(weaken(sys.argv[1]), lockdown.MACHINES[platform.machine()])
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - that is what it is for
