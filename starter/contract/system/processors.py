"""How many processors this process may compute on, and how its threads wait for each other.

The operating system's count is of the machine. A process may have fewer of them (affinity, as by
taskset), or a share of their time (a cgroup's quota, as by `docker run --cpus=1`); threads beyond
that only slow each other down.
"""

import contextlib
import math
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "0"}
"""Lets OpenMP's idle threads sleep rather than spin: the standard's variable, GNU's, Intel's and LLVM's.

A thread that spins takes a processor from whoever could compute on it; one that sleeps at once makes a
training alone a quarter slower. GNU's spins a thirtieth of its usual time: benchmarks/busy.py shows both
sides. An OpenMP library reads the variables once, when it is loaded.
"""

_NUM_THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Processors:
    """What a process may compute on."""

    machine: int
    """Processors of the machine."""
    allowed: int
    """Those of them that the process may run on."""
    quota: float | None
    """Processor seconds a second that its cgroups leave it; None: no limit."""
    asked: int | None
    """What the user asks for with OMP_NUM_THREADS."""

    @property
    def threads(self) -> int:
        """How many threads are worth starting; a part of a processor counts as one."""
        shares = self.allowed if self.quota is None else min(self.allowed, math.ceil(self.quota))
        return self.asked or max(1, shares)

    def __str__(self) -> str:
        if self.asked:
            return f"{_NUM_THREADS} in the environment"
        affinity = f"{self.allowed} of {self.machine} processors (affinity)"
        if self.quota is None:
            return f"{_plural(self.machine) if self.allowed == self.machine else affinity}, no quota"
        rest = f"{_plural(self.machine)} in the machine" if self.allowed == self.machine else affinity
        return f"a quota of {self.quota:.1f} processors (cgroup), {rest}"


def available(root: Path = Path("/")) -> Processors:
    """Return what this process may compute on.

    Args:
        root: where /proc and /sys/fs/cgroup are looked for.
    """
    first = os.environ.get(_NUM_THREADS, "").partition(",")[0].strip()
    asked = int(first) if first.isdecimal() else None
    return Processors(os.cpu_count() or 1, _allowed(), cgroup_quota(root), asked or None)


@contextlib.contextmanager
def on_one_processor(pid: int) -> Iterator[None]:
    """Keep the first thread of a process, and those that it starts, on the last processor it may run on.

    Linux alone can: elsewhere nothing changes.
    """
    before = None
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(ProcessLookupError):  # ended: whoever asks it will see
            before = os.sched_getaffinity(pid)
            os.sched_setaffinity(pid, {max(before)})
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(pid, before)


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Return the least quota on the way up from this process's cgroup, in processors; None: no limit.

    Source: Linux, admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst (cpu.cfs_*).

    Args:
        root: where /proc and /sys/fs/cgroup are looked for.
    """
    return min((q for folder in _cgroups(root) if (q := _quota_of(folder)) is not None), default=None)


def waiting(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that say how OpenMP's threads wait: the environment's own, or else `PASSIVE`."""
    return {name: environment[name] for name in PASSIVE if name in environment} or PASSIVE.copy()


def _allowed() -> int:
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's cgroups that can limit processor time, each with all above it.

    In a container the name may be the host's while the mount begins at the container's own cgroup:
    folders that are not there are skipped, down to the mount itself.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        number, controllers, name = line.split(":", 2)
        if number == "0":
            bases = [mounts, mounts / "unified"]  # version 2, alone or beside version 1
        elif "cpu" in controllers.split(","):
            bases = [mounts / controllers, mounts / "cpu"]
        else:
            continue
        own = Path(name.lstrip("/"))
        yield from (base / folder for base in bases for folder in (own, *own.parents))


def _quota_of(cgroup: Path) -> float | None:
    """Return one cgroup's quota; None where it has none, or is not there."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (cgroup / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (cgroup / "cpu.cfs_period_us").read_text(encoding="ascii")
        return None if quota == "max" or int(quota) < 0 else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _plural(count: int) -> str:
    return f"{count} processor{'s' if count != 1 else ''}"


@cache
def machine() -> str:
    """Return the processor's name and how many cores it has."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
