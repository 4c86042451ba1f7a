"""The images of a data set: found by id in a folder or a zip, read and decoded.

Files may be damaged or hostile; whatever is wrong with one ends in an ImageError that
names it. No label is known here, so a process that must not see labels can use it.
"""

import io
import math
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from threading import Lock
from warnings import catch_warnings, simplefilter
from zipfile import BadZipFile, ZipFile

from PIL import Image, ImageOps, UnidentifiedImageError

from starter.contract.errors import Code, UsageError, problem, usage_error
from starter.contract.text import typed
from starter.data.pixels import DepthError, to_rgb


class ImageError(Exception):
    """One image is missing or cannot be decoded."""

    def __init__(self, image_id: str, reason: str) -> None:
        self.image_id, self.reason = image_id, reason
        super().__init__(f"{image_id}: {reason}")


def broken_images(root: Path, broken: Sequence[ImageError]) -> UsageError:
    """Return the error U203 for broken or missing images of the data set in `root`: one problem each."""
    name = root.resolve().name
    hint = f"{typed('starter', 'data', 'check', root)} lists all of them; restore the files."
    return UsageError(
        [
            problem(
                Code.BROKEN_IMAGES, where=f"data set {name}: {error.image_id}", got=error.reason, hint=hint
            )
            for error in broken
        ]
    )


def id_problem(image_id: str) -> str:
    """Say what keeps `image_id` from being a path inside the image folder; empty if nothing does."""
    if not image_id:
        return "it is empty"
    if "\\" in image_id or any(unicodedata.category(c) == "Cc" for c in image_id):
        return "it contains a backslash or a control character"
    path = PurePosixPath(image_id)
    if path.is_absolute() or ".." in path.parts or str(path) != image_id:
        return "it is not a plain relative path"
    return ""


def decode_image(data: bytes, image_id: str) -> Image.Image:
    """Decode an image file to PIL RGB of 8 bits (pixels.py), turned upright as its EXIF data says.

    Raises:
        ImageError: it cannot be decoded, or is so large that PIL takes it for a bomb.
    """
    try:
        with catch_warnings():
            simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                return to_rgb(ImageOps.exif_transpose(image))
    except DepthError as error:
        raise ImageError(image_id, str(error)) from error
    # PIL's decoders raise nearly anything on damaged bytes.
    except Exception as error:
        known = isinstance(error, UnidentifiedImageError)  # its own text shows a memory address
        reason = "not an image file, or damaged" if known else str(error) or type(error).__name__
        raise ImageError(image_id, f"cannot be decoded: {reason}") from error


class ImageStore:
    """The images of a data set, from images/ or images.zip; threads may share it.

    It reads no CSV, so a process without labels can use it.
    """

    def __init__(self, root: Path) -> None:
        self._folder, self._zip, self._lock = root / "images", None, Lock()
        if self._folder.is_dir():
            return
        try:
            self._zip = ZipFile(root / "images.zip")
        except FileNotFoundError as error:
            raise usage_error(
                Code.BAD_DATASET, where=str(root), got="neither images/ nor images.zip"
            ) from error
        except BadZipFile as error:
            raise usage_error(Code.BAD_DATASET, where=str(root / "images.zip"), got=str(error)) from error

    def read(self, image_id: str) -> bytes:
        """Return the bytes of one image file.

        Raises:
            ImageError: there is none, or its bytes cannot be read.
        """
        if reason := id_problem(image_id):
            raise ImageError(image_id, f"not a valid image_id: {reason}")
        try:
            if self._zip is None:
                return (self._folder / image_id).read_bytes()
            with self._lock:  # one file handle and its position, shared by all threads
                return self._zip.read(image_id)
        except (FileNotFoundError, KeyError) as error:
            raise ImageError(image_id, "no such file in the image folder") from error
        except (OSError, BadZipFile, NotImplementedError, RuntimeError) as error:
            raise ImageError(image_id, f"cannot be read: {error}") from error

    def open(self, image_id: str) -> Image.Image:
        """Return one image as PIL RGB, upright.

        Raises:
            ImageError: it is missing or cannot be decoded.
        """
        return decode_image(self.read(image_id), image_id)

    def extremes(self, ids: Iterable[str]) -> list[str]:
        """Return the images with the fewest and the most pixels, and the widest and the tallest for its size.

        What cannot be read is left to whoever decodes it.
        """
        sizes: dict[str, tuple[int, int]] = {}
        for image_id in ids:
            try:
                sizes[image_id] = self._size(image_id)
            except (ImageError, OSError, SyntaxError, ValueError):
                continue
        if not sizes:
            return []
        measures = (math.prod, lambda size: size[0] / size[1])
        found = (choose(sizes, key=lambda i: of(sizes[i])) for of in measures for choose in (min, max))
        return list(dict.fromkeys(found))

    def _size(self, image_id: str) -> tuple[int, int]:
        """Return the width and height that a file's head names."""
        if self._zip is not None or id_problem(image_id):
            source: Path | io.BytesIO = io.BytesIO(self.read(image_id))
        else:
            source = self._folder / image_id
        with Image.open(source) as image:
            return image.size

    def ids(self) -> list[str]:
        """All files of the store, sorted."""
        if self._zip is not None:
            return sorted(name for name in self._zip.namelist() if not name.endswith("/"))
        files = (path for path in self._folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(self._folder).as_posix() for path in files)
