"""What became of the boxes of a COCO file: a table, remarks, and a file of every box that was not cut."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from starter.contract.system.files import write_table
from starter.data.coco.boxes import OTHER_SHAPE, CategoryRow, LeftOut
from starter.data.coco.pictures import WayUp
from starter.data.dataset import Dataset
from starter.data.options import Orientation

_CHOSEN = {
    Orientation.EXIF: " and were turned upright (--orientation stored leaves them)",
    Orientation.STORED: " and were left as stored (--orientation exif turns them)",
}


@dataclass
class CropReport:
    """What became of every box: `boxes == used + sum(skipped)` in each row and in all."""

    dataset: Dataset
    rows: list[CategoryRow]
    """One per category, in the COCO file's order."""
    left_out: list[LeftOut]
    """Every box that was not cut."""
    notes: tuple[str, ...]
    """What was read differently from the COCO file."""
    respelled: list[tuple[str, str]]
    """File names that are spelled otherwise in the folder: in the COCO file, and there."""
    scaled: int
    """Pictures whose boxes were scaled with them."""
    way_up: Counter[WayUp]
    """Pictures by what decided their orientation."""
    orientation: Orientation
    """The choice for those that fit both ways."""
    alike: list[tuple[str, str]]
    """Pairs of pictures that are nearly the same; each is on one side."""

    @property
    def total(self) -> CategoryRow:
        """The sums of all rows."""
        total = CategoryRow("all", "")
        for row in self.rows:
            total.boxes += row.boxes
            total.used += row.used
            total.skipped += row.skipped
        return total

    @property
    def other_shape(self) -> list[str]:
        """Pictures whose shape is not the annotated one, nor that one scaled."""
        found = {box.file_name: box.found for box in self.left_out if box.reason == OTHER_SHAPE}
        return [f"{name}: {shown}" for name, shown in found.items()]

    @property
    def faults(self) -> dict[str, list[LeftOut]]:
        """Wrong annotations by fault; those with OTHER_SHAPE are reported by picture."""
        found = defaultdict(list)
        for box in self.left_out:
            if box.is_fault and box.reason != OTHER_SHAPE:
                found[box.reason].append(box)
        return dict(found)

    @property
    def remarks(self) -> list[str]:
        """What was read or decided differently from what a reader may expect, in sentences."""
        found = list(self.notes)
        if self.respelled:
            name, there = self.respelled[0]
            found.append(
                f"{len(self.respelled):,} file names are spelled differently in the folder: {name} is {there}"
            )
        if self.scaled:
            found.append(
                f"{self.scaled:,} pictures differ in size from their annotation: their boxes were scaled"
            )
        if oriented := {way_up: count for way_up, count in self.way_up.items() if way_up is not WayUp.PLAIN}:
            shown = ", ".join(f"{count:,} {way_up}" for way_up, count in sorted(oriented.items()))
            if WayUp.CHOSEN in oriented:
                shown += _CHOSEN[self.orientation]
            found.append(f"{sum(oriented.values()):,} pictures have an EXIF orientation: {shown}")
        if self.alike:
            found.append(f"{len(self.alike):,} near-duplicate pairs, each kept on one side of the split")
        return found

    def write(self, path: Path) -> None:
        """Write a row for every box that was not cut, and for every remark."""
        rows = [(box.annotation, box.file_name, box.category, box.reason, box.found) for box in self.left_out]
        rows += [("", name, "", "spelled differently in the folder", there) for name, there in self.respelled]
        rows += [("", "", "", note, "") for note in self.remarks]
        write_table(path, ("annotation", "file_name", "category", "reason", "found"), rows)
