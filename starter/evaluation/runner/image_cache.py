"""Images that are decoded and transformed already, kept on disk and shared by every process on a machine.

One npy file holds what one pipeline makes of one list of images. It is written beside its place
and renamed when it is whole, so a reader finds all of it or nothing, whenever a writer is
killed. The least recently used files go when the folder has grown to its limit.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from starter.contract.system.files import own_folder, remove_abandoned

Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

_VERSION = b"1"
"""Changes when other bytes would be kept under the same key."""

_WRITING = ".writing-"
_MARGIN = 64 * 2**20
"""Free space that is left on the disk."""


def key_of(*parts: str) -> str:
    """Return the name of what is kept: a digest of everything that it depends on."""
    total = hashlib.sha256(_VERSION)
    for part in parts:
        total.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    return total.hexdigest()


class ImageCache:
    """A folder of kept images; any number of processes may use it at once.

    Args:
        folder: where; made when it is first needed.
        limit_bytes: how large all files together may become.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes

    def find(self, key: str, count: int) -> Images | None:
        """Return the kept images, (count, C, H, W), mapped into memory; None if there are none."""
        path = self._folder / f"{key}.npy"
        try:
            found: Images = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):  # not there, or not what a writer left
            return None
        whole = found.dtype in (np.uint8, np.float32) and found.ndim == 4 and len(found) == count
        return found if whole else None

    def touch(self, key: str) -> None:
        """Make what is kept under a key the most recently used."""
        with contextlib.suppress(OSError):
            os.utime(self._folder / f"{key}.npy")

    def writer(self, key: str, count: int) -> "CacheWriter":
        """Return what keeps `count` images under a key, batch after batch."""
        return CacheWriter(self, key, count)

    def make_room(self, size: int) -> bool:
        """Remove the least recently used until `size` bytes more are within the limit; say if they are."""
        if size > self._limit:
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self._folder, _WRITING)
        there = list(self._files())
        total = sum(stat.st_size for _, stat in there)
        for path, stat in sorted(there, key=lambda pair: pair[1].st_mtime_ns):
            if total + size <= self._limit:
                break
            if path.parent == self._folder:
                # Whoever has it mapped keeps it; on Windows the file as well.
                with contextlib.suppress(PermissionError):
                    path.unlink(missing_ok=True)
                    total -= stat.st_size
        return total + size <= self._limit and shutil.disk_usage(self._folder).free > size + _MARGIN

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for pattern in ("*.npy", f"{_WRITING}*/*.npy"):
            for path in self._folder.glob(pattern):
                with contextlib.suppress(FileNotFoundError):
                    yield path, path.stat()

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._folder


class CacheWriter:
    """Keeps images under one key; what cannot be kept (no space, no rights) is not, and nothing fails."""

    def __init__(self, cache: ImageCache, key: str, count: int) -> None:
        self._cache, self._key, self._count = cache, key, count
        self._file: BinaryIO | None = None
        self._own = contextlib.ExitStack()
        self._written = 0
        self._given_up = False

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the file in its place where it is whole; remove it otherwise."""
        if self._file is None:
            return
        try:
            if self._written == self._count and kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()  # Windows renames no open file
                Path(self._file.name).replace(self._cache.folder / f"{self._key}.npy")
        except OSError:
            pass
        finally:
            self._close()

    def add(self, batch: Images) -> None:
        """Keep the next images, (batch, C, H, W)."""
        if self._given_up:
            return
        try:
            if self._file is None and not self._begin(batch):
                self._given_up = True
                return
            assert self._file is not None
            self._file.write(np.ascontiguousarray(batch).data)
            self._written += len(batch)
        except OSError:
            self._given_up = True
            self._close()

    def _begin(self, batch: Images) -> bool:
        shape = (self._count, *batch.shape[1:])
        size = int(np.prod(shape)) * batch.itemsize
        if not self._cache.make_room(size):
            return False
        folder = self._own.enter_context(own_folder(self._cache.folder, _WRITING))
        path = folder / f"{self._key}.npy"
        path.touch(0o600)
        self._file = path.open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(batch.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        _allocate(self._file, self._file.tell() + size)  # others see how large it will be
        return True

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        self._own.close()


def _allocate(file: BinaryIO, size: int) -> None:
    """Give a file its size, and the room on the disk where the system can promise that."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)
