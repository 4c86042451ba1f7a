"""What tools write into COCO files where an id, a number or a box is meant: read, or refused for a reason.

Values are plain JSON of any shape; nothing here raises.
"""

import math
from collections.abc import Iterator

Id = int | str
"""Ids compare as they are: 1 and "1" are two."""
Size = tuple[int, int]
"""Width and height, pixels."""
Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""

NO_BOX = "no box and no polygon"
NOT_NUMBERS = "box is not four numbers"
NOT_FINITE = "box is not finite"
NEGATIVE = "box has a negative side"

_FARTHEST = 1e9
"""Farther edges are moved here: no picture reaches so far, and sums stay exact."""


def identity(value: object) -> Id | None:
    """Return an id; 7.0 is 7, as tools write that keep tables of floats. None: it is none."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if isinstance(value, str) and (
        not value or any("\ud800" <= character <= "\udfff" for character in value)
    ):
        return None  # half of a pair can be written nowhere
    return value


def other_spelling(value: Id) -> Id | None:
    """Return "7" for 7 and 7 for "7"; None if there is no other form.

    >>> other_spelling("7"), other_spelling(7), other_spelling("07")
    (7, '7', None)
    """
    if isinstance(value, int):
        return str(value) if abs(value) < 10**18 else None
    if len(value) <= len(str(10**18)) and value.removeprefix("-").isdecimal() and str(int(value)) == value:
        return int(value)
    return None


def pixels(value: object) -> int | None:
    """Return a width or height; None where none is stated: absent, null, 0, -1 or no number."""
    number = _number(value)
    return round(number) if number is not None and 0.5 < number < _FARTHEST else None


def crowd(value: object) -> bool | None:
    """Return `iscrowd`: absent and null are 0. None: it is neither 0 nor 1."""
    if value is None or isinstance(value, bool):
        return bool(value)
    number = _number(value)
    return bool(number) if number in {0, 1} else None


def box(value: object) -> Box | str:
    """Return a box, or the reason why it is not valid; empty if there is nothing to read."""
    if value is None or value == []:
        return ""
    numbers = [_number(item) for item in value] if isinstance(value, list) else []
    if len(numbers) != 4 or None in numbers:
        return NOT_NUMBERS
    left, top, wide, tall = (number for number in numbers if number is not None)
    if not all(map(math.isfinite, (left, top, wide, tall))):
        return NOT_FINITE
    if min(wide, tall) < 0:
        return NEGATIVE
    if max(map(abs, (left, top, wide, tall))) > _FARTHEST:
        left, top, right, bottom = map(_near, (left, top, left + wide, top + tall))
        return left, top, right - left, bottom - top
    return left, top, wide, tall


def _near(edge: float) -> float:
    return max(-_FARTHEST, min(_FARTHEST, edge))


def polygon_box(segmentation: object) -> Box | None:
    """Return the box around polygons, as COCO's tools compute it; None if there is no polygon."""
    numbers = list(_flat(segmentation, depth=3)) if isinstance(segmentation, list) else []
    across, down = numbers[::2], numbers[1::2]
    if len(across) < 3 or len(across) != len(down):
        return None
    # "not": NaN is in no range
    if not all(-_FARTHEST <= number <= _FARTHEST for number in numbers):
        return None
    return min(across), min(down), max(across) - min(across), max(down) - min(down)


def _flat(value: object, depth: int) -> Iterator[float]:
    if isinstance(value, list) and depth:
        for item in value:
            yield from _flat(item, depth - 1)
    else:
        number = _number(value)
        yield math.nan if number is None else number


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except ValueError:
        return None
