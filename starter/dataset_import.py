"""Make a data set of a folder tree with one folder per class (torchvision's ImageFolder).

Files are copied byte for byte and renamed to shuffled running numbers, because a name
like metal12.jpg in the test set gives its label away. The split is drawn, stratified by
class, or taken from the data's authors.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from starter.dataset import Dataset, ImageError, decode_image
from starter.dataset_writer import (
    Description,
    Item,
    Split,
    assign_splits,
    refuse_existing,
    shuffled_numbers,
    write_dataset,
)
from starter.errors import Code, Problem, UsageError, problem, usage_error

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


@dataclass(frozen=True)
class _File:
    path: Path
    class_name: str


def import_folder(  # noqa: PLR0913 - the options of `starter data folder`, one to one
    images: Path,
    out: Path,
    *,
    name: str = "",
    seed: int = 0,
    test_share: float = 0.3,
    public_share: float = 0.5,
    train_lists: Sequence[Path] = (),
    test_list: Path | None = None,
    zip_images: bool = False,
    version: str = "1",
    licence: str = "not stated",
    source: str = "",
    made_by: Sequence[str] = (),
) -> ImportReport:
    """Import `images`/CLASS/FILE into the new data set `out`.

    `train_lists` and `test_list` are text files with one image per line, its name (or
    CLASS/name) first and anything after white space ignored; images in none of them
    are left out. Without them the split is drawn.

    Raises:
        UsageError: `out` exists (U106), there are no images or the lists contradict the
            folder (U202), or images are broken (U203); all of them are named.
    """
    refuse_existing(out)
    skipped: Counter[str] = Counter()
    files = list(_find(images, skipped))
    not_found: tuple[str, ...] = ()
    if train_lists or test_list:
        files, tested, not_found = _listed(files, images, train_lists, test_list, skipped)
    else:
        tested = None
    if not files:
        raise usage_error(
            Code.BAD_DATASET, where=str(images), got="no image to import", expected="images in CLASS/FILE"
        )
    classes = tuple(sorted({file.class_name for file in files}))
    labels = [classes.index(file.class_name) for file in files]
    splits = _split(labels, tested, seed, test_share, public_share)
    description = Description(
        name=name or images.name, classes=classes, version=version, licence=licence,
        source=source or images.name, made_by=tuple(made_by),
    )  # fmt: skip
    items = _items(files, labels, splits, seed)
    dataset = write_dataset(out, items, description, zip_images=zip_images)
    return ImportReport(dataset, len(files), dict(skipped), not_found)


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
            yield _File(path, parts[0])


def _listed(
    files: list[_File], root: Path, train_lists: Sequence[Path], test_list: Path | None, skipped: Counter[str]
) -> tuple[list[_File], list[bool], tuple[str, ...]]:
    """Return the files that are listed, whether each is for testing, and the names without a file."""
    if not train_lists or test_list is None:
        raise usage_error(
            Code.BAD_DATASET, where="the lists", got="one side only", expected="a training and a test list"
        )
    by_name: dict[str, list[_File]] = defaultdict(list)
    for file in files:
        by_name[file.path.name].append(file)
        by_name[file.path.relative_to(root).as_posix()].append(file)
    train = {name for path in train_lists for name in _names(path, by_name)}
    test = _names(test_list, by_name)
    wrong = [f"{name!r} is in a training list and in the test list" for name in sorted(train & test)]
    wrong += [
        f"{name!r} is in several class folders; list it as CLASS/{name}"
        for name in sorted(train | test)
        if len(by_name.get(name, ())) > 1
    ]
    if wrong:
        raise UsageError([problem(Code.BAD_DATASET, where=str(test_list), got=got) for got in wrong])
    not_found = tuple(sorted(name for name in train | test if name not in by_name))
    tested = {by_name[name][0].path: name in test for name in sorted(train | test) if name in by_name}
    used = [file for file in files if file.path in tested]
    skipped[NOT_LISTED] += len(files) - len(used)
    return used, [tested[file.path] for file in used], not_found


def _names(path: Path, known: Mapping[str, object]) -> set[str]:
    """The first column of a list; a name with spaces is recognized by the file that has it."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise usage_error(Code.NO_SUCH_PATH, where=str(path), got=str(error)) from error
    names = set()
    for line in filter(None, map(str.strip, lines)):
        candidates = (line, line.rsplit(maxsplit=1)[0])
        names.add(next((name for name in candidates if name in known), line.split()[0]))
    return names


def _split(
    labels: list[int], tested: list[bool] | None, seed: int, test_share: float, public_share: float
) -> list[Split]:
    alone = [str(position) for position in range(len(labels))]  # every image is its own group
    if tested is None:
        return assign_splits(labels, alone, seed=seed, test_share=test_share, public_share=public_share)
    positions = [i for i, chosen in enumerate(tested) if chosen]
    # All of the listed test images are shared out between Public and Private.
    drawn = assign_splits(
        [labels[i] for i in positions], [alone[i] for i in positions],
        seed=seed, test_share=1.0, public_share=public_share,
    )  # fmt: skip
    splits: list[Split] = ["train"] * len(labels)
    for i, split in zip(positions, drawn, strict=True):
        splits[i] = split
    return splits


def _items(files: list[_File], labels: list[int], splits: list[Split], seed: int) -> Iterator[Item]:
    """Yield the images; raises UsageError at the end if any cannot be decoded."""
    stem = shuffled_numbers(len(files), seed)
    broken: list[Problem] = []
    for i, file in enumerate(files):
        data = file.path.read_bytes()
        try:
            decode_image(data, str(file.path))
        except ImageError as error:
            broken.append(problem(Code.BROKEN_IMAGES, where=str(file.path), got=error.reason))
        if not broken:
            yield Item(f"{stem(i)}{file.path.suffix.lower()}", data, labels[i], splits[i])
    if broken:
        raise UsageError(broken)
