"""The filter of system calls, for each processor, run on a small machine of our own: tests/helpers/bpf.py."""

import errno
import re
from pathlib import Path

import bpf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starter.sandbox.lockdown import MACHINES, Instruction, allowed_calls, filter_for

PID = 4321
REFUSED, NO_SUCH_CALL = bpf.ERRNO | errno.EPERM, bpf.ERRNO | errno.ENOSYS
CALLS = {machine: allowed_calls(machine) for machine in MACHINES}
LOCKED = {machine: filter_for(MACHINES[machine], CALLS[machine], PID) for machine in MACHINES}
WAITING_CALLS = {machine: allowed_calls(machine, waiting=True) for machine in MACHINES}
WAITING = {machine: filter_for(MACHINES[machine], WAITING_CALLS[machine], None) for machine in MACHINES}
X32 = 0x40000000

CLONE_THREAD, CLONE_VM, CLONE_NEWUSER, CLONE_NEWNS = 0x10000, 0x100, 0x10000000, 0x20000
THREAD = 0x3D0F00  # what pthread_create asks for
AF_UNIX, SOCK_STREAM, SOCK_DGRAM, SOCK_CLOEXEC = 1, 1, 2, 0x80000


def verdict(machine: str, name: str, *arguments: int, program: list[Instruction] | None = None) -> int:
    number = WAITING_CALLS[machine][name]
    return bpf.run(program or LOCKED[machine], MACHINES[machine].audit_arch, number, arguments)


both = pytest.mark.parametrize("machine", MACHINES)


@both
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("read", (0, 1, 2)),
        ("clone", (THREAD,)),
        ("fcntl", (3, 1, 0)),
        ("fcntl", (3, 1030, 0)),  # F_DUPFD_CLOEXEC
        ("ioctl", (1, 0x5401)),  # TCGETS: is it a terminal
        ("prctl", (15, 1)),  # PR_SET_NAME
        ("sendto", (3, 1, 2, 0, 0, 0)),
        ("socketpair", (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)),
        ("mkdirat", (3, 1, 0o777)),
        ("mkdirat", (3, 1, 0o700)),
        ("umask", (0o077,)),
        ("prlimit64", (0, 7)),
        ("prlimit64", (PID, 7)),
        ("tgkill", (PID, PID + 1, 6)),
    ],
)
def test_what_honest_code_asks_for_passes(machine: str, name: str, arguments: tuple[int, ...]) -> None:
    assert verdict(machine, name, *arguments) == bpf.ALLOW


@both
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("clone", (17,)),  # a fork: SIGCHLD
        ("clone", (CLONE_VM | 0x4000 | 17,)),  # vfork
        ("clone", (CLONE_NEWUSER | 17,)),
        ("clone", (CLONE_NEWNS,)),
        ("fcntl", (3, 6, 0)),  # F_SETLK
        ("fcntl", (3, 37, 0)),  # F_OFD_SETLK
        ("fcntl", (3, 8, PID)),  # F_SETOWN
        ("fcntl", (3, 15, 0)),  # F_SETOWN_EX
        ("fcntl", (3, 10, 9)),  # F_SETSIG
        ("fcntl", (3, 1024, 1)),  # F_SETLEASE
        ("fcntl", (3, 1026, 1)),  # F_NOTIFY
        ("ioctl", (0, 0x5412)),  # TIOCSTI: type into the terminal
        ("ioctl", (0, 0x8901)),  # FIOSETOWN
        ("prctl", (1, 0)),  # PR_SET_PDEATHSIG
        ("prctl", (22, 0)),  # PR_SET_SECCOMP
        ("prctl", (36, 1)),  # PR_SET_CHILD_SUBREAPER
        ("sendto", (3, 1, 2, 0, 0x7FFF0000, 16)),
        ("sendto", (3, 1, 2, 0, 1 << 32, 16)),  # an address whose lower half is zero
        ("socketpair", (AF_UNIX, SOCK_DGRAM)),
        ("socketpair", (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)),
        ("mkdirat", (3, 1, 0o300)),
        ("mkdirat", (3, 1, 0)),
        ("umask", (0o777,)),
        ("prlimit64", (1, 7)),
        ("prlimit64", (PID + 1, 7)),
        ("tgkill", (1, 1, 9)),
        ("tgkill", (PID + 1, PID, 9)),
        ("keyctl", (0, -3 & 0xFFFFFFFF)),
        ("seccomp", (1, 0)),
        ("landlock_restrict_self", (3, 0)),
        ("recvmsg", (3, 1)),
    ],
)
def test_what_reaches_outside_is_refused(machine: str, name: str, arguments: tuple[int, ...]) -> None:
    assert verdict(machine, name, *arguments) == REFUSED


@both
def test_a_waiting_worker_can_fork_but_makes_no_namespace(machine: str) -> None:
    program = WAITING[machine]
    assert verdict(machine, "clone", 17, program=program) == bpf.ALLOW
    assert verdict(machine, "prctl", 1, 9, program=program) == bpf.ALLOW
    for bit in (17, 25, 26, 27, 28, 29, 30):  # CLONE_NEWNS, ..CGROUP, ..UTS, ..IPC, ..USER, ..PID, ..NET
        assert verdict(machine, "clone", 1 << bit | 17, program=program) == REFUSED


@both
def test_clone3_is_said_not_to_exist_and_foreign_interfaces_end_the_process(machine: str) -> None:
    arch = MACHINES[machine].audit_arch
    for program in (LOCKED[machine], WAITING[machine]):
        assert bpf.run(program, arch, 435) == NO_SUCH_CALL
        for foreign in (0x40000003, 0x40000028, 0xC000003E ^ arch, 0, arch ^ 1):  # i386, 32-bit arm
            assert bpf.run(program, foreign, CALLS[machine]["read"]) == bpf.KILL


def test_the_x32_interface_is_refused_on_x86() -> None:
    for number in CALLS["x86_64"].values():
        assert bpf.run(LOCKED["x86_64"], 0xC000003E, X32 | number) == REFUSED
    assert bpf.run(LOCKED["x86_64"], 0xC000003E, 0xFFFFFFFF) == REFUSED


def policy(machine: str, number: int, arguments: tuple[int, ...]) -> int:
    """Return the verdict of a locked process as docs/security.md means it, in plain Python."""
    if number == 435:
        return NO_SUCH_CALL
    names = [name for name, listed in CALLS[machine].items() if listed == number]
    if not names:
        return REFUSED
    first, second, third, _, fifth, _ = (value & 0xFFFFFFFF for value in arguments)
    passes = {
        "clone": first & CLONE_THREAD != 0,
        "fcntl": second in {0, 1, 2, 3, 4, 1030},
        "ioctl": second in {0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451},
        "mkdir": second & 0o700 == 0o700,
        "mkdirat": third & 0o700 == 0o700,
        "prctl": first in {3, 15, 16, 21, 39, 0x53564D41},
        "prlimit64": first in {0, PID},
        "sendto": fifth == 0 and arguments[4] == 0,
        "socketpair": second & 0xF == SOCK_STREAM,
        "tgkill": first == PID,
        "umask": first & 0o700 == 0,
    }.get(names[0], True)
    return bpf.ALLOW if passes else REFUSED


words = st.one_of(
    st.integers(0, 2**64 - 1),
    st.integers(0, 0o1777),
    st.sampled_from([PID, 1030, 0x5401, 0x5412, THREAD, CLONE_NEWUSER, 1 << 32, SOCK_DGRAM | SOCK_CLOEXEC]),
)


@settings(max_examples=1500, deadline=None)
@given(
    machine=st.sampled_from(sorted(MACHINES)),
    number=st.one_of(st.integers(0, 500), st.integers(0, 2**32 - 1)),
    arguments=st.tuples(words, words, words, words, words, words),
)
def test_the_filter_is_the_policy(machine: str, number: int, arguments: tuple[int, ...]) -> None:
    found = bpf.run(LOCKED[machine], MACHINES[machine].audit_arch, number, arguments)
    assert found == policy(machine, number, arguments)


@both
@given(arguments=st.tuples(words, words, words, words, words, words))
@settings(max_examples=20, deadline=None)
def test_the_filter_is_the_policy_for_every_listed_call(machine: str, arguments: tuple[int, ...]) -> None:
    for number in CALLS[machine].values():
        found = bpf.run(LOCKED[machine], MACHINES[machine].audit_arch, number, arguments)
        assert found == policy(machine, number, arguments)


HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),  # arm64 uses the generic table
}
OLDER_NAMES = {"newfstatat": "fstatat"}
"""What the generic table calls otherwise: __NR3264_fstatat is newfstatat on 64 bits."""


@both
def test_the_numbers_are_those_of_the_kernels_own_headers(machine: str) -> None:
    header = next((path for path in map(Path, HEADERS[machine]) if path.is_file()), None)
    if header is None:
        pytest.skip(f"no {HEADERS[machine][0]}: apt install linux-libc-dev")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text(encoding="utf-8"))
    numbers = {name: int(number) for name, number in found}
    listed = WAITING_CALLS[machine]
    known = {
        name: number
        for name in listed
        if (number := numbers.get(name, numbers.get(OLDER_NAMES.get(name, "")))) is not None
    }

    assert {name: listed[name] for name in known} == known
    assert listed.keys() - known.keys() == set()
