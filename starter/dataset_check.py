"""Check a whole data set, every image decoded: what `starter data check` shows."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from starter.dataset import Dataset, ImageError, ImageStore, decode_image, open_dataset
from starter.errors import Code, Problem, UsageError, problem

NAMED_AT_MOST = 10


@dataclass(frozen=True)
class ClassRow:
    """How many images of one class are in each split."""

    class_name: str
    train: int
    public: int
    private: int


@dataclass(frozen=True)
class SizeRange:
    """One measure of the images, in pixels."""

    least: int
    median: float
    most: int


@dataclass
class CheckReport:
    """The state of a data set; it is sound if `problems` is empty."""

    path: Path
    problems: list[Problem] = field(default_factory=list)
    classes: list[ClassRow] = field(default_factory=list)
    """One row per class; empty if the CSV files are not valid."""
    width: SizeRange | None = None
    height: SizeRange | None = None
    images: int = 0
    """Image files that can be decoded."""
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
    digests = _decode_all(store, report)
    if dataset:
        _check_rows(dataset, digests, report)
    return report


def _decode_all(store: ImageStore, report: CheckReport) -> dict[str, str]:
    """Decode every file; return the digest of each that could be read."""
    sizes: list[tuple[int, int]] = []
    digests = {}
    for image_id in store.ids():
        try:
            data = store.read(image_id)
            digests[image_id] = hashlib.sha256(data).hexdigest()
            sizes.append(decode_image(data, image_id).size)
        except ImageError as error:
            report.problems.append(problem(Code.BROKEN_IMAGES, where=image_id, got=error.reason))
    report.images = len(sizes)
    if sizes:
        report.width, report.height = (_range(values) for values in zip(*sizes, strict=True))
    return digests


def _range(values: Sequence[int]) -> SizeRange:
    return SizeRange(min(values), median(values), max(values))


def _check_rows(dataset: Dataset, digests: dict[str, str], report: CheckReport) -> None:
    split_of = {row.image_id: "train" for row in dataset.train()}
    split_of |= {row.image_id: row.usage for row in dataset.solution()}
    report.classes = _class_table(dataset)
    present = set(dataset.images.ids())
    missing = sorted(set(split_of) - present)
    report.problems += [
        problem(Code.BROKEN_IMAGES, where=image_id, got="listed, but there is no such image file")
        for image_id in missing
    ]
    complaints = [*_empty_classes(report.classes), *_duplicates(split_of, digests), *_crossing(dataset)]
    if surplus := sorted(present - set(split_of)):
        complaints.append(("images", f"{len(surplus)} files that no CSV lists: {_some(surplus)}"))
    report.problems += [problem(Code.BAD_DATASET, where=where, got=got) for where, got in complaints]
    if not missing:
        report.fingerprint = dataset.fingerprint()


def _class_table(dataset: Dataset) -> list[ClassRow]:
    train = Counter(row.label for row in dataset.train())
    test = Counter((row.label, row.usage) for row in dataset.solution())
    return [
        ClassRow(name, train[label], test[label, "Public"], test[label, "Private"])
        for label, name in enumerate(dataset.info.classes)
    ]


def _empty_classes(rows: Iterable[ClassRow]) -> Iterator[tuple[str, str]]:
    for row in rows:
        for split in ("train", "public", "private"):
            if not getattr(row, split):
                yield f"class {row.class_name}", f"no image in {split}"


def _duplicates(split_of: dict[str, str], digests: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the images that are the same file in training and in the test set."""
    same: dict[str, list[str]] = defaultdict(list)
    for image_id in split_of:
        if image_id in digests:
            same[digests[image_id]].append(image_id)
    for ids in same.values():
        if len({split_of[image_id] == "train" for image_id in ids}) > 1:
            yield ids[0], f"the same file in train.csv and test.csv: {_some(ids)}"


def _crossing(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Yield the groups whose images stand in several splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for row in dataset.train():
        splits[row.group].add("train")
    for answer in dataset.solution():
        splits[answer.group].add(answer.usage)
    for group, names in sorted(splits.items()):
        if group and len(names) > 1:
            yield f"group {group}", f"in several splits: {', '.join(sorted(names))}"


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(names[:NAMED_AT_MOST]) + rest
