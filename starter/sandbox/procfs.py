"""What the kernel shows of a process from outside: its descendants, its figures, whether it is locked.

Read from /proc, which a process cannot make lie about it. Nothing is started or ended here. The
supervisor goes without psutil: its import would lengthen the start by a tenth, and it tells neither locks
nor files without a name.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LOCK = {"Seccomp": "2", "NoNewPrivs": "1", "CapEff": "0" * 16}


def descendants(ancestor: int) -> Iterator[int]:
    """Yield the live descendants of a process, nearest first."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(FileNotFoundError):
        for name in (entry.name for entry in Path("/proc").iterdir()):
            fields = _stat(name) if name.isdigit() else []
            if fields and (fields[0] != "Z" or int(fields[17]) > 1):
                children.setdefault(int(fields[1]), []).append(int(name))
    found = [ancestor]
    for pid in found:
        found += children.get(pid, [])
    yield from found[1:]


class Figures(NamedTuple):
    """What a process uses; nothing where it has ended."""

    is_headless: bool = False
    """Whether its first thread has ended: the kernel then shows no memory for the others."""
    processor_seconds: float = 0.0
    threads: int = 0
    resident_bytes: int = 0


def figures(pid: int) -> Figures:
    """Return what a process uses."""
    fields = _stat(pid)
    if not fields:
        return Figures()
    pages = "0"
    with contextlib.suppress(OSError):
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    seconds = (int(fields[11]) + int(fields[12])) / _TICKS
    return Figures(fields[0] == "Z", seconds, int(fields[17]), int(pages) * _PAGE)


def nameless_bytes(pid: int) -> int:
    """Return the bytes of files that a process holds, open or mapped, after it removed their names."""
    found: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                file = descriptor.stat()
                if stat.S_ISREG(file.st_mode) and file.st_nlink == 0:
                    found.setdefault(file.st_ino, file.st_blocks * 512)
        for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
            if line.endswith(" (deleted)") and not line.endswith(" /dev/zero (deleted)"):  # that is memory
                span, _, _, _, inode, _ = line.split(maxsplit=5)
                start, end = (int(address, 16) for address in span.split("-"))
                found.setdefault(int(inode), end - start)
    return sum(found.values())


def unfit(pid: int, *, forks: bool) -> str:
    """Return why no submission may run in a worker: it is not sandboxed, or it forks with several threads.

    A thread that was started before the lock is outside it. A fork has only the thread that forks, and
    waits for ever for the work of others.
    """
    try:
        threads = [_status(task / "status") for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError as error:
        return f"the worker cannot be inspected: {error}"
    if forks and len(threads) > 1:
        return f"the worker has {len(threads)} threads before it forks; it must have one"
    for thread in threads:
        found = {name: thread.get(name) for name in _LOCK}
        if found != _LOCK:
            return f"a thread of the worker is outside the sandbox: {found}"
    return ""


def _status(path: Path) -> dict[str, str]:
    lines = (line.partition(":") for line in path.read_text(errors="replace").splitlines())
    return {name: value.strip() for name, _, value in lines}


def _stat(pid: int | str) -> list[str]:
    """Return /proc/PID/stat from the state on; the name before it may contain anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
