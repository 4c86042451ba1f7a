"""The transforms of a submission, rebuilt by us with torchvision: what an image becomes before the graph.

Every record is taken for hostile: it may ask for anything that transforms.py lets pass.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import transforms as v1

from starter.contract.errors import HINTS, Code, ParticipantError, Problem, participant_error, problem
from starter.submission import letterbox
from starter.submission.transform_records import (
    CenterCrop,
    ConvertImageDtype,
    Grayscale,
    Letterbox,
    Normalize,
    Pad,
    Plain,
    Resize,
    ToDtype,
    TransformRecord,
    dump,
)  # fmt: skip

MAX_SIDE = 1024
# What a step in between may give: a chain of legal steps must not fill the memory.
_MAX_STEP_SIDE, _MAX_STEP_PIXELS = 2**16, 2**26
_TRIAL_SIZES = ((80, 60), (37, 113), (200, 200))
_EXTREME_SIZES = ((1, 1), (500, 10), (10, 500))
Size = tuple[int, int]


def build(
    records: Sequence[TransformRecord], dtype: torch.dtype = torch.float32
) -> Callable[[Image.Image], torch.Tensor]:
    """Return the pipeline: PIL RGB image to (C, H, W) of a type.

    Calling it raises ParticipantError: a step raises (E305), or what comes out is of another type (E304).
    """
    steps = [(record, _step(record)) for record in records]

    def pipeline(image: Image.Image) -> torch.Tensor:
        value: Any = image
        size = (image.height, image.width)
        for i, (record, step) in enumerate(steps):
            where = f"transforms[{i}]: {_name(record)}, on an image of {image.width}x{image.height} pixels"
            for after in _sizes_during(record, size):
                size = _checked(after, size, where)
            try:
                value = step(value)
            except Exception as error:
                got = f"{type(error).__name__}: {error}"[:300]
                raise participant_error(Code.TRANSFORM_FAILED, where=where, got=got) from error
        if not isinstance(value, torch.Tensor) or value.dtype != dtype:
            raise _wrong_shape(_describe(value), HINTS["end_with_float"])
        return value.as_subclass(torch.Tensor)

    return pipeline


class Stages(NamedTuple):
    """A pipeline in two parts: what takes the time gives bytes, and the rest is arithmetic on a batch."""

    keep: Callable[[Image.Image], torch.Tensor]
    """PIL RGB to uint8 (C, H, W); where the pipeline cannot be parted, all of it: to float32."""
    finish: Callable[[torch.Tensor], torch.Tensor]
    """A batch of what `keep` gives to float32 (batch, C, H, W)."""
    kept: str
    """The records of `keep` as text: what it gives is the same for two pipelines where this is."""


def part(records: Sequence[TransformRecord]) -> Stages:
    """Part a pipeline that `input_shape` accepts; together the stages give what `build` does, bit for bit."""
    sized = [i + 1 for i, record in enumerate(records) if not _is_arithmetic(record)]
    cut = max(sized, default=0)
    head, tail = list(records[:cut]), list(records[cut:])
    changes = [record for record in tail if not _only_wraps(record)]
    if any(_changes_type(record) for record in head) or not changes or not _makes_float(changes[0]):
        return Stages(build(records), lambda batch: batch, dump(records))
    steps = [_scaled if isinstance(record, Plain) else _step(record) for record in changes]

    def finish(batch: torch.Tensor) -> torch.Tensor:
        for step in steps:
            batch = step(batch)
        return batch

    as_bytes = Plain(name="ToImage")
    return Stages(build([*head, as_bytes], torch.uint8), finish, dump(head))


def _is_arithmetic(record: TransformRecord) -> bool:
    """Whether a step changes each value by itself, or nothing but the wrapping."""
    return (
        isinstance(record, Normalize | ConvertImageDtype | ToDtype) or _only_wraps(record) or _scales(record)
    )


def _only_wraps(record: TransformRecord) -> bool:
    wrapping = {"ToImage", "PILToTensor", "ToPureTensor", "Identity"}
    return isinstance(record, Plain) and record.name in wrapping


def _scales(record: TransformRecord) -> bool:
    return isinstance(record, Plain) and record.name == "ToTensor"


def _changes_type(record: TransformRecord) -> bool:
    return isinstance(record, Normalize | ConvertImageDtype | ToDtype) or _scales(record)


def _makes_float(record: TransformRecord) -> bool:
    return _scales(record) or (isinstance(record, ConvertImageDtype | ToDtype) and record.dtype == "float32")


def _scaled(batch: torch.Tensor) -> torch.Tensor:
    """Do what ToTensor does after it has made a tensor of a PIL image."""
    return batch.to(torch.float32).div(255)


def input_shape(records: Sequence[TransformRecord], *, extremes: bool = False) -> tuple[int, int, int]:
    """Return (C, H, W), found by running the pipeline on images of three sizes.

    Args:
        records: the pipeline.
        extremes: whether it is run on one pixel and on very long images too.

    Raises:
        ParticipantError: it raises (E305), gives anything but float32 of one fixed shape (E304), or does more
            than prepare an image (E306).
    """
    pipeline = build(records)
    sizes = (*_TRIAL_SIZES, *(_EXTREME_SIZES if extremes else ()))
    outputs = {size: pipeline(Image.new("RGB", size)) for size in sizes}
    texts = {size: _describe(output) for size, output in outputs.items()}
    if len(set(texts.values())) > 1:
        shown = list(texts.items())[: len(_TRIAL_SIZES)]
        raise _wrong_shape(", ".join(f"{text} from {w}x{h} pixels" for (w, h), text in shown))
    shape = outputs[_TRIAL_SIZES[0]].shape
    if len(shape) != 3 or shape[0] not in (1, 3) or max(shape) > MAX_SIDE:
        raise _wrong_shape(texts[_TRIAL_SIZES[0]])
    if problems := _order_problems(records):
        raise ParticipantError(problems)
    return shape[0], shape[1], shape[2]


_ONCE = (Resize, CenterCrop, Pad, Grayscale, Normalize)
_BEFORE_NORMALIZE = (Resize, CenterCrop, Pad, Letterbox, Grayscale)


def _order_problems(records: Sequence[TransformRecord]) -> list[Problem]:
    """Return the steps that do more than prepare an image: what is free must do no network's work.

    One resize, crop, pad (a Letterbox is one resize and one pad), reduction to gray and normalisation,
    which is the last of them; and never back to uint8, whose wrap-around would give a value a sign, a
    square wave or a threshold.
    """
    found: list[Problem] = []
    seen: set[type] = set()
    is_float = False
    for i, record in enumerate(records):
        kind = type(record)
        does = {Resize, Pad} if kind is Letterbox else {kind}
        if again := does & seen & set(_ONCE):
            reason = " and ".join(f"a second {name}" for name in sorted(k.__name__ for k in again))
        elif kind in _BEFORE_NORMALIZE and Normalize in seen:
            reason = f"{_name(record)} after Normalize"
        elif is_float and isinstance(record, ConvertImageDtype | ToDtype) and record.dtype == "uint8":
            reason = "from float32 back to uint8"
        else:
            reason = ""
        if reason:
            where = f"transforms[{i}]: {_name(record)}"
            found.append(problem(Code.TRANSFORM_ORDER, where=where, got=reason))
        seen |= does
        is_float = is_float or _makes_float(record)
    return found


def _step(record: TransformRecord) -> Any:
    """Return torchvision's transform."""
    if isinstance(record, Plain):
        # v1's ToTensor gives what v2's does, which warns that it is deprecated.
        return v1.ToTensor() if record.name == "ToTensor" else getattr(v2, record.name)()
    if isinstance(record, ToDtype):
        return v2.ToDtype(getattr(torch, record.dtype), scale=record.scale)
    options = record.model_dump(exclude={"kind", "api"})
    if isinstance(record, ConvertImageDtype):
        options["dtype"] = getattr(torch, record.dtype)
    if isinstance(record, Resize | Letterbox):
        options["interpolation"] = InterpolationMode(record.interpolation)
    if isinstance(record, Letterbox):
        return letterbox.Letterbox(**options)
    if isinstance(record, Pad) and isinstance(record.fill, list):
        options["fill"] = tuple(record.fill)
    return getattr(v1 if record.api == "v1" else v2, record.kind)(**options)


def _size_after(record: TransformRecord, size: Size) -> Size:
    """Return (height, width) of what a step gives for an image of `size`."""
    if isinstance(record, Pad):
        left, top, right, bottom = (record.padding * 4)[:4]
        return size[0] + top + bottom, size[1] + left + right
    if isinstance(record, CenterCrop) or (isinstance(record, Resize) and len(record.size) == 2):
        return record.size[0], record.size[-1]
    if not isinstance(record, Resize):
        return size
    short, long = record.size[0], int(record.size[0] * max(size) / min(size))
    if record.max_size is not None and long > record.max_size:
        short, long = int(record.max_size * short / long), record.max_size
    return (short, long) if size[0] <= size[1] else (long, short)


def _sizes_during(record: TransformRecord, size: Size) -> list[Size]:
    """Return (height, width) of all that a step makes of an image of `size`; its result is the last."""
    if not isinstance(record, Letterbox):
        return [_size_after(record, size)]
    height, width = _step(record).padded_size(*size)
    return [*([(height, width)] if record.resize == "pad first" else []), (record.size[0], record.size[1])]


def _checked(after: Size, before: Size, where: str) -> Size:
    """Refuse a step that would fill the memory, before it is run."""
    if after != before and (max(after) > _MAX_STEP_SIDE or after[0] * after[1] > _MAX_STEP_PIXELS):
        limit = f"sides of at most {_MAX_STEP_SIDE:,} and {_MAX_STEP_PIXELS:,} pixels between two steps"
        raise participant_error(
            Code.TRANSFORM_FAILED, where=where, expected=limit, got=f"{after[1]}x{after[0]} pixels"
        )
    return after


def _name(record: TransformRecord) -> str:
    return record.name if isinstance(record, Plain) else record.kind


def _describe(output: object) -> str:
    if isinstance(output, torch.Tensor):
        return f"{output.dtype} {tuple(output.shape)}".removeprefix("torch.")
    return "a PIL image" if isinstance(output, Image.Image) else type(output).__name__


def _wrong_shape(got: str, hint: str = "") -> ParticipantError:
    return participant_error(
        Code.TRANSFORM_SHAPE,
        where="transforms",
        expected=f"float32 (3, H, W) or (1, H, W), the same for every image, sides at most {MAX_SIDE}",
        got=got,
        hint=hint,
    )
