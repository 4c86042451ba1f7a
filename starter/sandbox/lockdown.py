"""Lock a process in, from inside and for good: no files but its own, no network, no other process.

Called by plugin/worker.py before torch, numpy and the plugin are imported, because numpy starts a
thread at import, and threads that run already stay outside. Landlock takes the files away
(https://docs.kernel.org/userspace-api/landlock.html), a seccomp filter every system call that
syscalls.csv does not list (https://docs.kernel.org/userspace-api/seccomp_filter.html). Neither
needs privileges. Both are inherited and cannot be undone.
"""

import csv
import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

LEAST_LANDLOCK = 3
"""The first version of Landlock that keeps files from being emptied (Linux 6.2)."""

_libc = ctypes.CDLL(None, use_errno=True)


class Machine(NamedTuple):
    """What differs between processors."""

    audit_arch: int
    """AUDIT_ARCH_* of linux/audit.h."""
    keyctl: int
    seccomp: int
    capset: int
    clone3: int = 435
    foreign_from: int = 0
    """The first number of a foreign interface to the same kernel (x32); 0 if there is none."""


MACHINES = {
    "x86_64": Machine(0xC000003E, keyctl=250, seccomp=317, capset=126, foreign_from=0x40000000),
    "aarch64": Machine(0xC00000B7, keyctl=219, seccomp=277, capset=91),
}

_SET_PDEATHSIG, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 1, 24, 38
_JOIN_SESSION_KEYRING = 1
_ACTION_AVAILABLE, _SET_FILTER, _EVERY_THREAD = 2, 1, 1
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_MOST_CAPABILITIES = 64
_READ_SEARCH = 1 << 2  # CAP_DAC_READ_SEARCH
_TO_BECOME_ANOTHER = {"CAP_CHOWN": 1 << 0, "CAP_SETGID": 1 << 6, "CAP_SETUID": 1 << 7}

_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_WRITE_FILE, _TRUNCATE, _REFER = 1 << 1, 1 << 14, 1 << 13
_MAKE_AND_REMOVE = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _TRUNCATE | _REFER | _MAKE_AND_REMOVE
_ON_FILES = 1 | _READ_FILE | _WRITE_FILE | _TRUNCATE
_HANDLED = {3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Every right to files that a version of Landlock can take away."""

_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/sys/devices/system")
_KERNEL_TEXTS = ("/proc/cpuinfo", "/proc/meminfo", "/dev/urandom", "/dev/zero")


def missing(*, boxed: bool = False) -> str:
    """Return what this machine lacks for the lock-down; nothing if it has everything.

    Args:
        boxed: whether a box hides the files, so that it goes without Landlock.
    """
    if sys.platform != "linux":
        return f"Landlock and seccomp exist only on Linux; this is {sys.platform}"
    if platform.machine() not in MACHINES:
        return f"the kit has no system call table for {platform.machine()}"
    version = _landlock_version()
    if version < LEAST_LANDLOCK and not boxed:
        return f"Landlock {LEAST_LANDLOCK} or newer (Linux 6.2); this kernel has {version or 'none'}"
    kill = struct.pack("I", _KILL)
    if _libc.syscall(MACHINES[platform.machine()].seccomp, _ACTION_AVAILABLE, 0, kill) < 0:
        return "this kernel has no seccomp filters"
    return ""


def capabilities() -> int:
    """Return what this process may do beyond its user, a bit for each; a container's root lacks much."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def cannot_become_another() -> str:
    """Say what keeps root from having a worker become another user; nothing if nothing does."""
    own = capabilities()
    lacking = [name for name, bit in _TO_BECOME_ANOTHER.items() if not own & bit]
    return f"this container's root lacks {', '.join(lacking)} to become another user" if lacking else ""


def lock_down(
    readable: Iterable[Path],
    scratch: Path,
    *,
    user: int | None = None,
    waiting: bool = False,
    boxed: bool = False,
    ours: bool = False,
) -> None:
    """Give up everything but the Python environment, some files and a folder.

    Args:
        readable: files and folders that may be read, beside the Python environment.
        scratch: the one folder that may be written.
        user: the number of the user to become first; only root can.
        waiting: leave what a process needs that has nobody else's code yet: to fork, to
            receive descriptors, and to lock itself or its child down further.
        boxed: go on where the kernel has no Landlock: the box shows no files but these anyway.
        ours: it runs our code on a stranger's data. It does not end with the thread that has started it,
            and root goes on reading files of other users, of those that may be read at all.

    Raises:
        OSError: the kernel refuses a step; the process must not go on.
    """
    machine = MACHINES[platform.machine()]
    for capability in range(_MOST_CAPABILITIES):
        _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)  # only root may; without it the set cannot be used
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    if not ours:
        _check(_libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG")
    # A new, empty session keyring, for the old one may hold the organizer's keys. Where a container or
    # the kernel refuses keyctl this fails, and nothing is lost: the filter below refuses keyctl as well.
    _libc.syscall(machine.keyctl, _JOIN_SESSION_KEYRING, None, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
    _drop_capabilities(machine, _READ_SEARCH & capabilities() if ours else 0)
    _check(_libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    if not boxed or _landlock_version() >= LEAST_LANDLOCK:
        _restrict_files(readable, scratch)
    calls = allowed_calls(platform.machine(), waiting=waiting)
    _restrict_calls(filter_for(machine, calls, None if waiting else os.getpid()), machine)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _landlock_version() -> int:
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def _drop_capabilities(machine: Machine, kept: int = 0) -> None:
    header = struct.pack("Ii", 0x20080522, 0)
    capabilities = struct.pack("6I", kept, kept, 0, 0, 0, 0)  # effective, permitted, inheritable
    _check(_libc.syscall(machine.capset, header, capabilities), "capset")


def _restrict_files(readable: Iterable[Path], scratch: Path) -> None:
    version = _landlock_version()
    handled = _HANDLED[min(version, max(_HANDLED))]
    network = 3 if version >= 4 else 0  # bind and connect by TCP
    scope = 3 if version >= 6 else 0  # abstract sockets and signals to the outside
    attributes = struct.pack("QQQ", handled, network, scope)
    size = {3: 8, 4: 16, 5: 16}.get(version, 24)
    ruleset = _check(_libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0), "landlock")
    try:
        for path in (*environment(), *readable):
            _allow(ruleset, path, _READ)
        _allow(ruleset, Path("/dev/null"), _READ_FILE | _WRITE_FILE)
        _allow(ruleset, scratch, _WRITE)
        _check(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "landlock")
    finally:
        os.close(ruleset)


def environment() -> Iterator[Path]:
    """Yield what Python needs of the machine, whether it is there or not."""
    yield from map(Path, (*_SYSTEM, *_KERNEL_TEXTS, sys.prefix, sys.base_prefix))
    yield Path(__file__).parents[1]  # the package: an editable installation lies elsewhere


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return  # not every system has every one, and what cannot be reached needs no rule
    try:
        if not path.is_dir():
            rights &= _ON_FILES
        rule = struct.pack("=Qi", rights, descriptor)
        _check(_libc.syscall(_ADD_RULE, ruleset, 1, rule, 0), f"landlock: {path}")
    finally:
        os.close(descriptor)


def allowed_calls(machine: str, *, waiting: bool = False) -> dict[str, int]:
    """Return the numbers of the system calls of the list, by name; some exist only on x86-64."""
    text = files("starter.sandbox").joinpath("syscalls.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {
        row["name"]: int(row[machine]) for row in rows if row[machine] and (waiting or not row["waiting"])
    }


class Instruction(NamedTuple):
    """One instruction of classic BPF (linux/filter.h)."""

    code: int
    if_true: int
    if_false: int
    operand: int


_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_ARCH, _NUMBER, _ARGUMENTS = 4, 0, 16
_REFUSE = Instruction(_RETURN, 0, 0, _ERRNO | errno.EPERM)


class Condition(NamedTuple):
    """32 bits of an argument, masked, must be one of some values."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    high: bool = False


_CLONE_THREAD, _CLONE_NEW = 0x00010000, 0x7E020000
_CONDITIONS = {
    "clone": (Condition(0, (_CLONE_THREAD,), mask=_CLONE_THREAD),),
    "fcntl": (Condition(1, (0, 1, 2, 3, 4, 1030)),),  # duplicate, and flags; no owner of signals, no lease
    "ioctl": (Condition(1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),),  # is it a terminal; blocking
    "mkdir": (Condition(1, (0o700,), mask=0o700),),  # a folder that its owner can look into
    "mkdirat": (Condition(2, (0o700,), mask=0o700),),
    "prctl": (Condition(0, (3, 15, 16, 21, 39, 0x53564D41)),),  # names, and questions
    "socketpair": (Condition(1, (1,), mask=0xF),),  # streams: a datagram could be sent anywhere
    "sendto": (Condition(4, (0,)), Condition(4, (0,), high=True)),  # without an address
    "umask": (Condition(0, (0,), mask=0o700),),
}

_WAITING = {"clone": (Condition(0, (0,), mask=_CLONE_NEW),), "prctl": ()}


def filter_for(machine: Machine, calls: dict[str, int], pid: int | None) -> list[Instruction]:
    """Return the filter: what is listed passes, some only with certain arguments; the rest is EPERM.

    A call of a foreign interface (32-bit) ends the process; clone3 is ENOSYS, so that libraries fall
    back on clone, whose flags can be read. Limits and signals are for the process `pid` itself;
    without one, for a process that waits for work, new processes and all of prctl are allowed too.
    """
    conditions = _CONDITIONS | _WAITING
    if pid is not None:
        conditions = _CONDITIONS | {
            "prlimit64": (Condition(0, (0, pid)),),
            "tgkill": (Condition(0, (pid,)),),
        }
    program = [
        Instruction(_LOAD, 0, 0, _ARCH),
        Instruction(_EQUAL, 1, 0, machine.audit_arch),
        Instruction(_RETURN, 0, 0, _KILL),
        Instruction(_LOAD, 0, 0, _NUMBER),
    ]
    if machine.foreign_from:
        program += [Instruction(_AT_LEAST, 0, 1, machine.foreign_from), _REFUSE]
    program += _when(machine.clone3, [Instruction(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)])
    for name, number in calls.items():
        program += _when(number, _checked(conditions.get(name, ())))
    return [*program, _REFUSE]


def _when(number: int, body: list[Instruction]) -> list[Instruction]:
    return [Instruction(_EQUAL, 0, len(body), number), *body]


def _checked(conditions: Sequence[Condition]) -> list[Instruction]:
    """Allow a call where all conditions hold; checks that fail jump to the end, which refuses it."""
    body = [Instruction(_RETURN, 0, 0, _ALLOW), *([_REFUSE] if conditions else [])]
    for condition in reversed(conditions):
        last = len(condition.values) - 1
        checks = [
            Instruction(_EQUAL, last - i, len(body) - 1 if i == last else 0, value)
            for i, value in enumerate(condition.values)
        ]
        load = Instruction(_LOAD, 0, 0, _ARGUMENTS + 8 * condition.argument + 4 * condition.high)
        body = [load, Instruction(_AND, 0, 0, condition.mask), *checks, *body]
    return body


def _restrict_calls(program: Sequence[Instruction], machine: Machine) -> None:
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    _check(_libc.syscall(machine.seccomp, _SET_FILTER, _EVERY_THREAD, header), "seccomp")
