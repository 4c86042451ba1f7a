"""Download the photographs of a COCO file by the URLs in it, as TACO's files have them.

A photograph gets its name only when all of it is there, decodes, and has the annotated
shape: it is written beside, and renamed. So what has its name is whole, after any kill,
and a later run resumes from there. One URL is fetched by http_download.py.
"""

import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import quote

from PIL import Image

from starter.contract.errors import Code, usage_error
from starter.contract.system.files import atomic_write, locked, write_table
from starter.data.coco.annotations import CocoImage
from starter.data.coco.http_download import Fetcher, FetchError, FetchRules
from starter.data.coco.pictures import open_picture, same_shape
from starter.data.coco.values import Size
from starter.data.image_store import id_problem
from starter.data.pixels import DepthError

GIVE_UP_AFTER = 20
"""After this many consecutive losses, none of them permanent, the network is considered down."""

_PARTIAL = ".partial"
_LOCK = ".partial.lock"


@dataclass(frozen=True)
class Photograph:
    """What became of one photograph: one row of the report."""

    file_name: str
    """Its name in the COCO file, below the folder."""
    status: Literal["downloaded", "kept", "lost", "not yet"]
    """Kept: it was there. Lost: for good. Not yet: another run may bring it."""
    reason: str = ""
    """Why it is not there."""
    url: str = ""
    """Where it is from, or where it was last asked for."""
    bytes: int = 0
    width: int = 0
    height: int = 0

    @property
    def is_here(self) -> bool:
        """Whether the file is there and whole."""
        return self.status in {"downloaded", "kept"}


@dataclass(frozen=True)
class DownloadOptions:
    """Where photographs are asked for, and how."""

    size: Literal["full", "640"] = "full"
    """The original, or the copy whose longer side is 640 pixels if there is one."""
    base_url: str = ""
    """A mirror: file names are asked for below it, and no URL of the COCO file is."""
    jobs: int = 8
    """How many are fetched at a time."""
    rules: FetchRules = field(default_factory=FetchRules)
    """How patiently."""


def download_photographs(
    images: Sequence[CocoImage],
    folder: Path,
    options: DownloadOptions,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Photograph]:
    """Bring the photographs of `images` into `folder`, and write the report beside it, as FOLDER.csv.

    What is there already is opened and kept if it is whole. `on_progress` takes (done, all).

    Raises:
        UsageError: another run is at work in the folder (U206), or it cannot be written (U206).
    """
    with _locked(folder) as partial:
        download = _Download(folder, partial, options)
        try:
            photographs = download.run(images, on_progress)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        write_report(photographs, report_path(folder))
    return photographs


def report_path(folder: Path) -> Path:
    """Return where the report of a folder's photographs is."""
    return folder.with_name(f"{folder.name}.csv")


def write_report(photographs: Sequence[Photograph], path: Path) -> None:
    """Write one row for each photograph, in the COCO file's order."""
    names = list(Photograph.__dataclass_fields__)
    write_table(path, names, ([getattr(photograph, name) for name in names] for photograph in photographs))


def losses(photographs: Sequence[Photograph]) -> list[tuple[str, int]]:
    """Count what is not there by reason, the most frequent first."""
    return Counter(p.reason for p in photographs if not p.is_here).most_common()


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Make the folder ours alone, and yield a folder inside it for what is not whole yet."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            is_ours = stack.enter_context(locked(folder / _LOCK))
        except OSError as error:
            raise _stuck(folder, error) from error
        if not is_ours:
            raise usage_error(
                Code.NO_PHOTOGRAPHS, where=str(folder), got="another download is using this folder",
                hint="Wait until it finishes, or name another folder with --photographs.",
            )  # fmt: skip
        partial = folder / _PARTIAL
        partial.mkdir(exist_ok=True)
        yield partial


def _stuck(where: Path, error: OSError) -> Exception:
    return usage_error(
        Code.NO_PHOTOGRAPHS, where=str(where), got=f"cannot be written: {error.strerror}",
        hint="Free some space, or name another folder with --photographs; what is already there is kept.",
    )  # fmt: skip


class _Download:
    """One run: the threads, and what they share."""

    def __init__(self, folder: Path, partial: Path, options: DownloadOptions) -> None:
        self._folder, self._partial, self._options = folder, partial, options
        try:
            self._fetcher = Fetcher(options.rules)
        except FetchError as error:
            raise usage_error(Code.NO_PHOTOGRAPHS, where=str(folder), got=error.reason) from error

    def run(self, images: Sequence[CocoImage], on_progress: Callable[[int, int], None]) -> list[Photograph]:
        """Return what became of each; ends early where nothing comes any more."""
        found: dict[int, Photograph] = {}
        in_a_row = 0
        with self._fetcher, ThreadPoolExecutor(self._options.jobs) as pool:
            jobs = {pool.submit(self._one, number, entry): number for number, entry in enumerate(images)}
            try:
                for done, job in enumerate(as_completed(jobs), start=1):
                    found[jobs[job]] = photograph = job.result()
                    in_a_row = in_a_row + 1 if photograph.status == "not yet" else 0
                    if in_a_row >= GIVE_UP_AFTER:
                        self._fetcher.stopped.set()
                    on_progress(done, len(images))
            finally:
                self._fetcher.stopped.set()
                pool.shutdown(cancel_futures=True)
        return [found[number] for number in range(len(images))]

    def _one(self, number: int, entry: CocoImage) -> Photograph:
        """Keep or fetch one photograph."""
        name = entry.file_name
        if reason := id_problem(name):
            return Photograph(name, "lost", f"its name cannot be used for a file: {reason}")
        if (first := PurePosixPath(name).parts[0]) in {_PARTIAL, _LOCK}:
            return Photograph(name, "lost", f"its name cannot be used for a file: {first} is in use")
        target = self._folder / name
        try:
            if target.is_file():
                data = target.read_bytes()
                width, height = _checked(data, entry)
                return Photograph(name, "kept", bytes=len(data), width=width, height=height)
        except FetchError:
            pass  # incomplete, or another picture: fetch it again
        except OSError as error:
            return Photograph(name, "lost", f"its name cannot be used for a file: {error.strerror}")
        return self._fetched(number, entry, target)

    def _fetched(self, number: int, entry: CocoImage, target: Path) -> Photograph:
        lost = Photograph(entry.file_name, "lost", "the COCO file has no URL for it")
        for url in self._urls(entry):
            try:
                data, (width, height) = self._fetcher.fetch(url, lambda data: (data, _checked(data, entry)))
            except FetchError as error:
                lost = Photograph(entry.file_name, "lost" if error.final else "not yet", error.reason, url)
                continue
            try:
                self._save(number, data, target)
            except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
                reason = f"its name cannot be used for a file: {error.strerror}"
                return Photograph(entry.file_name, "lost", reason, url)
            except OSError as error:
                raise _stuck(target, error) from error
            return Photograph(entry.file_name, "downloaded", "", url, len(data), width, height)
        return lost

    def _urls(self, entry: CocoImage) -> list[str]:
        """Return where it may be had, the best first."""
        if self._options.base_url:
            return [self._options.base_url.rstrip("/") + "/" + quote(entry.file_name)]
        small = [entry.flickr_640_url] if self._options.size == "640" else []
        return [url for url in (*small, entry.flickr_url, entry.coco_url) if url]

    def _save(self, number: int, data: bytes, target: Path) -> None:
        """Write a file that has its name only when all of it is on the disk."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target, self._partial / str(number)) as partial, partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _checked(data: bytes, entry: CocoImage) -> Size:
    """Return the size of a photograph that decodes and has the annotated shape.

    Raises:
        FetchError: it does not; another shape is another picture, such as a host's "no longer available".
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.verify()
        size = open_picture(io.BytesIO(data), entry.size, reduced=True).size
    except DepthError as error:
        raise FetchError(str(error), final=True) from error
    # PIL's decoders raise nearly anything on damaged bytes.
    except Exception as error:
        start = " (it looks like a web page)" if data.lstrip()[:1] == b"<" else ""
        raise FetchError(f"not a picture, or damaged{start}") from error
    if entry.size and not same_shape(entry.size, size):
        raise FetchError("a picture whose shape differs from the annotation", final=True)
    return size
