"""Make a data set of a folder tree with one folder per class (torchvision's ImageFolder).

Files are copied byte for byte and renamed to shuffled running numbers, because a name
like metal12.jpg in the test set gives its label away. The split is drawn, stratified by
class and with near duplicates on one side, or taken from the data's authors.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from starter.contract.errors import Code, UsageError, problem, usage_error
from starter.contract.text import read_text
from starter.data.dataset import Dataset, ImageError, decode_image
from starter.data.near_duplicates import Look, alike_pairs, look, merged_groups
from starter.data.options import Description, Shares
from starter.data.writer import (
    Item,
    Split,
    assign_splits,
    refuse_existing,
    shuffled_numbers,
    write_dataset,
)

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

NOT_AN_IMAGE = "not an image file"
NO_CLASS = "in no class folder"
NOT_LISTED = "in none of the lists"


@dataclass(frozen=True)
class ImportReport:
    """What became of the files of the folder."""

    dataset: Dataset
    used: int
    """Images in the data set."""
    skipped: Mapping[str, int]
    """Number of files left out, by reason."""
    not_found: tuple[str, ...]
    """Names in the lists that are not in the folder."""
    alike: int
    """Pairs of pictures that are nearly the same; each is on one side."""


@dataclass(frozen=True)
class _File:
    path: Path
    class_name: str


def import_folder(  # noqa: PLR0913 - the options of `starter data folder`, one to one
    images: Path,
    out: Path,
    *,
    shares: Shares = Shares(),  # noqa: B008 - frozen
    near_duplicates: bool = True,
    train_lists: Sequence[Path] = (),
    validation_list: Path | None = None,
    test_list: Path | None = None,
    zip_images: bool = False,
    description: Description = Description(source=""),  # noqa: B008 - frozen
) -> ImportReport:
    """Import `images`/CLASS/FILE into the new data set `out`.

    `train_lists`, `validation_list` and `test_list` are text files with one image per line,
    its name (or CLASS/name) first and anything after white space ignored; images in none of
    them are left out. Without them the split is drawn, and pictures that are nearly the
    same are one group of it.

    Raises:
        UsageError: `out` exists (U106), there are no images or the lists contradict the
            folder (U202), or images are broken (U203); all of them are named.
    """
    refuse_existing(out)
    skipped: Counter[str] = Counter()
    files = list(_find(images, skipped))
    not_found: tuple[str, ...] = ()
    listed = None
    if train_lists or test_list or validation_list:
        lists = _Lists(images, train_lists, validation_list, test_list)
        files, listed, not_found = lists.choose(files, skipped)
    if not files:
        raise usage_error(
            Code.BAD_DATASET, where=str(images), got="no image to import", expected="images in CLASS/FILE"
        )
    classes = tuple(sorted({file.class_name for file in files}))
    labels = [classes.index(file.class_name) for file in files]
    looks = _decode(files)
    alone = [str(position) for position in range(len(files))]  # every image is its own group
    pairs = alike_pairs(looks) if near_duplicates and listed is None else []
    groups = merged_groups(alone, pairs)
    splits = _shared_out(labels, listed, shares) if listed else assign_splits(labels, groups, shares)
    description = description.completed(name=images.name, source=images.name, classes=classes)
    stem, shared = shuffled_numbers(len(files), shares.seed), Counter(groups)
    items = (
        Item(
            f"{stem(i)}{file.path.suffix.lower()}", file.path.read_bytes(), labels[i], splits[i],
            group=f"alike {stem(int(groups[i]))}" if shared[groups[i]] > 1 else "",
        )
        for i, file in enumerate(files)
    )  # fmt: skip
    dataset = write_dataset(out, items, description, zip_images=zip_images)
    return ImportReport(dataset, len(files), dict(skipped), not_found, len(pairs))


def _find(root: Path, skipped: Counter[str]) -> Iterator[_File]:
    if not root.is_dir():
        raise usage_error(Code.NO_SUCH_PATH, where=str(root), got="no such folder")
    for path in sorted(root.rglob("*")):
        if not path.is_file():
            continue
        parts = path.relative_to(root).parts
        # "._name.jpg" is what macOS leaves beside name.jpg: no image in spite of its name.
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            skipped[NOT_AN_IMAGE] += 1
        elif len(parts) == 1:
            skipped[NO_CLASS] += 1
        else:
            yield _File(path, _class_name(parts[0], root))


def _class_name(folder: str, root: Path) -> str:
    """Return a folder's name, composed (macOS writes Hangul in its parts), or say that it is no text."""
    try:
        folder.encode()
    except UnicodeEncodeError as error:
        raise usage_error(
            Code.BAD_DATASET, where=str(root), expected="names in UTF-8",
            got=f"the folder name {os.fsencode(folder)!r} is not valid UTF-8",
            hint="convmv -f cp949 -t utf8 -r --notest FOLDER (for Korean Windows)",
        ) from error  # fmt: skip
    return unicodedata.normalize("NFC", folder)


def _decode(files: list[_File]) -> list[Look]:
    """Decode every image, and return what it looks like; raises UsageError if any is broken, with all."""
    looks, broken = [], []
    for file in files:
        try:
            looks.append(look(decode_image(file.path.read_bytes(), str(file.path))))
        except ImageError as error:
            broken.append(problem(Code.BROKEN_IMAGES, where=str(file.path), got=error.reason))
    if broken:
        raise UsageError(broken)
    return looks


@dataclass(frozen=True)
class _Lists:
    """The authors' own split: text files of names."""

    root: Path
    train: Sequence[Path]
    validation: Path | None
    test: Path | None

    def choose(
        self, files: list[_File], skipped: Counter[str]
    ) -> tuple[list[_File], list[Split], tuple[str, ...]]:
        """Return the listed files, the split of each (tests: Private), and the names without a file."""
        if not self.train or self.test is None:
            raise usage_error(
                Code.BAD_DATASET,
                where="the lists",
                got="one side only",
                expected="a training and a test list",
            )
        by_name: dict[str, list[_File]] = defaultdict(list)
        for file in files:
            for name in {file.path.name, file.path.relative_to(self.root).as_posix()}:
                by_name[unicodedata.normalize("NFC", name)].append(file)
        names: dict[Split, set[str]] = {
            "train": {name for path in self.train for name in _names(path, by_name)},
            "validation": _names(self.validation, by_name) if self.validation else set(),
            "Private": _names(self.test, by_name),
        }
        listed = Counter(name for group in names.values() for name in group)
        wrong = [f"{name!r} is in {_where(name, names)}" for name, n in sorted(listed.items()) if n > 1]
        wrong += [
            f"{name!r} is in several class folders: list it as CLASS/{name}"
            for name in sorted(listed)
            if len(by_name.get(name, ())) > 1
        ]
        if wrong:
            raise UsageError([problem(Code.BAD_DATASET, where=str(self.test), got=got) for got in wrong])
        not_found = tuple(sorted(name for name in listed if name not in by_name))
        split_of = {
            by_name[n][0].path: split for split, group in names.items() for n in group if n in by_name
        }
        used = [file for file in files if file.path in split_of]
        skipped[NOT_LISTED] += len(files) - len(used)
        return used, [split_of[file.path] for file in used], not_found


def _where(name: str, names: Mapping[Split, set[str]]) -> str:
    words: dict[Split, str] = {
        "train": "a training list", "validation": "the validation list", "Private": "the test list",
    }  # fmt: skip
    return " and in ".join(words[split] for split, group in names.items() if name in group)


def _names(path: Path, known: Mapping[str, object]) -> set[str]:
    """The first column of a list or CSV file; a name with spaces is recognized by the file that has it."""
    try:
        lines = unicodedata.normalize("NFC", read_text(path)).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise usage_error(Code.NO_SUCH_PATH, where=str(path), got=str(error)) from error
    names = set()
    for line in filter(None, (line.strip().replace("\\", "/") for line in lines)):
        column = re.split(r"[,;\t]", line)[0].strip().strip('"')
        sources = (line, line.rsplit(maxsplit=1)[0], column)
        names.add(next((name for name in sources if name in known), line.split()[0]))
    return names


def _shared_out(labels: list[int], listed: list[Split], shares: Shares) -> list[Split]:
    """Share the listed test images out between Public and Private, and leave the others."""
    positions = [i for i, split in enumerate(listed) if split == "Private"]
    drawn = assign_splits(
        [labels[i] for i in positions], [str(i) for i in positions],
        Shares(test=1.0, public=shares.public, seed=shares.seed),
    )  # fmt: skip
    splits = list(listed)
    for i, split in zip(positions, drawn, strict=True):
        splits[i] = split
    return splits
