"""Check a whole data set, every image decoded: what `starter data check` shows."""

import contextlib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from starter.contract.errors import Code, Problem, UsageError, problem
from starter.contract.names import skeleton
from starter.data.dataset import Dataset, ImageError, ImageStore, decode_image, open_dataset
from starter.data.near_duplicates import Look, alike_pairs, look
from starter.data.writer import TRAINED

NAMED_AT_MOST = 10

FEW_IMAGES = 5
"""With fewer images of a class in a group, one image more or less that is right moves that group's F1 far."""

_MORE_OF_IT = (
    "Collect more photographs of the class, skip it in the --mapping file, or change --test-share and "
    "--public-share."
)


@dataclass(frozen=True)
class ClassRow:
    """How many images of one class are in each split."""

    class_name: str
    train: int
    """In train.csv, those marked for validation included."""
    validation: int
    public: int
    private: int


@dataclass(frozen=True)
class GroupRow:
    """How many evaluation images of one group are in each half."""

    name: str
    public: int
    private: int


@dataclass(frozen=True)
class SizeRange:
    """One measure of the images, in pixels."""

    least: int
    median: float
    most: int


@dataclass(frozen=True)
class Duplicates:
    """Images that are one file, or look nearly the same."""

    image_ids: tuple[str, ...]
    exact: bool
    """Whether the files are the same, byte for byte."""
    splits: tuple[str, ...]
    """Where each of them is: train, validation, Public or Private."""
    labels: tuple[str, ...]
    """The class of each of them."""

    @property
    def leaks(self) -> bool:
        """Whether one is evaluated on that another is trained on, or both leaderboards share one."""
        return len({"train" if split == "validation" else split for split in self.splits}) > 1


@dataclass
class CheckReport:
    """The state of a data set; it is sound if `problems` is empty."""

    path: Path
    problems: list[Problem] = field(default_factory=list)
    classes: list[ClassRow] = field(default_factory=list)
    """One row per class; empty if the CSV files are not valid."""
    width: SizeRange | None = None
    height: SizeRange | None = None
    sizes: list[tuple[int, int]] = field(default_factory=list, repr=False)
    """Width and height of every image that can be decoded, in the order of the ids."""
    images: int = 0
    """Image files that can be decoded."""
    duplicates: list[Duplicates] = field(default_factory=list)
    """Exact ones first. Those that only look alike, and those on one side, are no problem of the set's
    files; near ones of one group are left out."""
    grouped_by: str = ""
    """The header of the column of solution.csv that makes groups; empty without one."""
    groups: list[GroupRow] = field(default_factory=list)
    """One row per group."""
    warnings: list[str] = field(default_factory=list)
    """What is no error, but makes a figure say little: groups with few images of a class."""
    fingerprint: str = ""
    """Empty if the data set is not valid or an image is missing."""

    def rows(self) -> list[tuple[str, int, int, int]]:
        """The class table: (class, train, public, private)."""
        return [(row.class_name, row.train, row.public, row.private) for row in self.classes]


def check(path: Path) -> CheckReport:
    """Check the data set in folder `path` and list everything that is wrong with it.

    Raises:
        UsageError: there is no data set.
    """
    report = CheckReport(path)
    dataset = None
    try:
        dataset = open_dataset(path)
    except UsageError as error:
        if error.problems[0].code == Code.NO_DATASET:
            raise
        report.problems.extend(error.problems)
    try:
        store = dataset.images if dataset else ImageStore(path)
    except UsageError:
        return report  # open_dataset has said so
    files = _decode_all(store, report)
    if dataset:
        report.duplicates = _duplicates(dataset, files)
        _check_rows(dataset, report)
    return report


@dataclass(frozen=True)
class _File:
    digest: str
    look: Look | None
    """None if it cannot be decoded."""


def _decode_all(store: ImageStore, report: CheckReport) -> dict[str, _File]:
    """Decode every file; return what is known of each that could be read."""
    sizes = report.sizes
    files = {}
    for image_id in store.ids():
        try:
            data = store.read(image_id)
            digest = hashlib.sha256(data).hexdigest()
            files[image_id] = _File(digest, None)
            image = decode_image(data, image_id)
        except ImageError as error:
            report.problems.append(problem(Code.BROKEN_IMAGES, where=image_id, got=error.reason))
            continue
        sizes.append(image.size)
        files[image_id] = _File(digest, look(image))
    report.images = len(sizes)
    if sizes:
        report.width, report.height = (_range(values) for values in zip(*sizes, strict=True))
    return files


def _range(values: Sequence[int]) -> SizeRange:
    return SizeRange(min(values), median(values), max(values))


def _check_rows(dataset: Dataset, report: CheckReport) -> None:
    split_of = {image_id: split for image_id, (split, _, _) in _placed(dataset).items()}
    report.classes = _class_table(dataset)
    _check_groups(dataset, report)
    present = set(dataset.images.ids())
    missing = sorted(set(split_of) - present)
    report.problems += [
        problem(Code.BROKEN_IMAGES, where=image_id, got="listed, but the image file does not exist")
        for image_id in missing
    ]
    report.problems += _empty_classes(report.classes)
    complaints = [*_same_files(report), *_crossing(dataset)]
    if surplus := sorted(present - set(split_of)):
        complaints.append(("images", f"{len(surplus)} files that no CSV file lists: {_some(surplus)}"))
    report.problems += [problem(Code.BAD_DATASET, where=where, got=got) for where, got in complaints]
    with contextlib.suppress(UsageError):  # a file is missing or cannot be read: a problem noted already
        report.fingerprint = dataset.fingerprint()


def _class_table(dataset: Dataset) -> list[ClassRow]:
    train = Counter(row.label for row in dataset.train())
    marked = Counter(row.label for row in dataset.train() if row.is_validation)
    test = Counter((row.label, row.usage) for row in dataset.solution())
    return [
        ClassRow(name, train[label], marked[label], test[label, "Public"], test[label, "Private"])
        for label, name in enumerate(dataset.info.classes)
    ]


def _check_groups(dataset: Dataset, report: CheckReport) -> None:
    """Count the images of each group that has an F1 of its own, and warn where they are few."""
    if not dataset.grouped_by:
        return
    answers, classes = dataset.solution(), dataset.info.classes
    images = Counter((row.f1_group, row.usage) for row in answers)
    of_class = Counter((row.f1_group, row.usage, row.label) for row in answers)
    names = sorted({row.f1_group for row in answers})
    report.grouped_by = dataset.grouped_by
    report.groups = [GroupRow(name, images[name, "Public"], images[name, "Private"]) for name in names]
    for (name, usage), count in sorted(images.items()):
        counts = {classes[i]: of_class[name, usage, i] for i in range(len(classes))}
        few = [f"{found} of {class_name}" for class_name, found in counts.items() if 0 < found < FEW_IMAGES]
        none = [class_name for class_name, found in counts.items() if not found]
        said = [*few, *([f"none of {_some(none)}"] if none else [])]
        if said:
            where = f"{dataset.grouped_by} {name}, {count:,} {usage} images"
            report.warnings.append(f"{where}: {_some(said)}")
    looks = Counter(map(skeleton, names))
    alike = [name for name in names if looks[skeleton(name)] > 1]
    if alike:
        report.warnings.append(f"{dataset.grouped_by}: names that look alike: {_some(alike)}")


def _empty_classes(rows: Iterable[ClassRow]) -> Iterator[Problem]:
    for row in rows:
        for split in ("train", "public", "private"):
            if not getattr(row, split):
                where, got = f"class {row.class_name}", f"no image in {split}"
                yield problem(Code.BAD_DATASET, where=where, got=got, hint=_MORE_OF_IT)


def _placed(dataset: Dataset) -> dict[str, tuple[str, str, str]]:
    """Return (split, group, class) of every image that a CSV lists."""
    names = dataset.info.classes
    placed = {
        row.image_id: ("validation" if row.is_validation else "train", row.group, names[row.label])
        for row in dataset.train()
    }
    return placed | {row.image_id: (row.usage, row.group, names[row.label]) for row in dataset.solution()}


def _duplicates(dataset: Dataset, files: dict[str, _File]) -> list[Duplicates]:
    placed = _placed(dataset)

    def found(image_ids: Sequence[str], *, exact: bool) -> Duplicates:
        splits, _, labels = zip(*(placed[image_id] for image_id in image_ids), strict=True)
        return Duplicates(tuple(image_ids), exact, splits, labels)

    same: dict[str, list[str]] = defaultdict(list)
    for image_id in placed:
        if image_id in files:
            same[files[image_id].digest].append(image_id)
    looks = [(i, seen) for i in placed if i in files and (seen := files[i].look) is not None]
    near = [
        (looks[one][0], looks[other][0]) for one, other in alike_pairs([seen for _, seen in looks])
    ]  # fmt: skip
    return [
        *(found(ids, exact=True) for ids in same.values() if len(ids) > 1),
        *(
            found(pair, exact=False)
            for pair in near
            if files[pair[0]].digest != files[pair[1]].digest and not _one_group(pair, placed)
        ),
    ]


def _one_group(pair: tuple[str, str], placed: dict[str, tuple[str, str, str]]) -> bool:
    one, other = (placed[image_id][1] for image_id in pair)
    return one == other != ""


def _same_files(report: CheckReport) -> Iterator[tuple[str, str]]:
    """Yield the images that are the same file in training and in the test set."""
    for same in report.duplicates:
        if same.exact and len({split in TRAINED for split in same.splits}) > 1:
            yield same.image_ids[0], f"the same file in train.csv and test.csv: {_some(same.image_ids)}"


def _crossing(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Yield the groups with images in several splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for row in dataset.train():
        splits[row.group].add("validation" if row.is_validation else "train")
    for answer in dataset.solution():
        splits[answer.group].add(answer.usage)
    for group, names in sorted(splits.items()):
        if group and len(names) > 1:
            yield f"group {group}", f"in several splits: {', '.join(sorted(names))}"


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(names[:NAMED_AT_MOST]) + rest
