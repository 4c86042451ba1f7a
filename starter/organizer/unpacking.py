"""Read an untrusted zip in a small separate process with limits on memory, time and writing.

The process that holds the labels therefore parses no zip, and a zip that keeps the library busy is
rejected like any other. The process is also sandboxed where the system can. Standard library only.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from starter.submission.zip_reader import BYTES_PER_ENTRY, DAMAGED, Extracted, Finding, extract

_SECONDS, _BYTES_PER_SECOND = 30, 16 * 2**20
_MEMORY_MB, _DIRECTORY_BYTES_PER_BYTE = 256, 8
_MAX_ANSWER = 2**20


def extract_in_child(
    path: Path,
    folder: Path,
    most_files: int,
    most_bytes: int,
    *,
    seconds: int = _SECONDS,
    memory_mb: int = _MEMORY_MB,
) -> Extracted:
    """Do what zip_reader.extract does; a limit that the process exceeds is a finding.

    Args:
        path: the zip.
        folder: where to; its parent exists.
        most_files: how many files it may hold, and how many folders.
        most_bytes: how large they may be together.
        seconds: wall-clock and processor time, beside what so many bytes take.
        memory_mb: address space of the process, beside what so long a directory takes.
    """
    seconds += most_bytes // _BYTES_PER_SECOND
    memory = memory_mb * 2**20 + _DIRECTORY_BYTES_PER_BYTE * BYTES_PER_ENTRY * most_files
    places = [str(path.resolve()), str(folder.resolve())]
    numbers = [str(number) for number in (most_files, most_bytes, seconds, memory)]
    with tempfile.TemporaryFile() as answer:
        try:
            child = subprocess.run(  # noqa: S603 - our own module, in our own interpreter
                [sys.executable, "-I", "-m", "starter.organizer.unpacking", *places, *numbers],
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                cwd=folder.parent,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _damaged(f"reading it takes more than {seconds} s")
        answer.seek(0)
        written = answer.read(_MAX_ANSWER)
    if child.returncode:
        return _damaged(f"the process that reads it ended with status {child.returncode}")
    findings, left_out = json.loads(written)
    return Extracted([Finding(*map(str, finding)) for finding in findings], list(map(str, left_out)))


def _damaged(got: str) -> Extracted:
    return Extracted([Finding(DAMAGED, "", got)], [])


def give_up(path: Path, above: Path, most_bytes: int, seconds: int, memory: int) -> None:
    """Give up what reading one zip does not need, as far as this system knows how.

    Args:
        path: the zip, which alone may be read.
        above: the folder that alone may be written.
        most_bytes: the longest file.
        seconds: processor time.
        memory: address space, bytes.
    """
    if os.name != "posix":
        return
    import resource  # noqa: PLC0415 - POSIX only

    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: max(most_bytes, _MAX_ANSWER),
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        with contextlib.suppress(ValueError, OSError):  # macOS takes no limit of the address space
            resource.setrlimit(kind, (most, most))
    from starter.sandbox import lockdown  # noqa: PLC0415 - its import needs POSIX

    if not lockdown.missing():
        lockdown.lock_down([path], above)


def main(arguments: list[str]) -> None:
    """Read the zip that the arguments name; write what became of it as JSON to stdout."""
    path, folder = Path(arguments[0]), Path(arguments[1])
    most_files, most_bytes, seconds, memory = map(int, arguments[2:])
    try:
        give_up(path, folder.parent, most_bytes, seconds, memory)
        extracted = extract(path, folder, most_files, most_bytes)
    except MemoryError:
        extracted = _damaged(f"reading it needs more than {memory >> 20} MiB of memory")
    sys.stdout.write(json.dumps(extracted))


if __name__ == "__main__":
    main(sys.argv[1:])
