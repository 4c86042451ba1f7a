"""Transforms as data: read off a participant's objects.

Only what is on the allow-list passes: deterministic, free of parameters, one view of
one image. `describe` runs in the submission's process; pipeline.py rebuilds what it wrote
on our side, where no code of the plugin ever meets an image.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import transforms as v1
from torchvision.transforms._presets import ImageClassification

from starter.contract.errors import HINTS, Code, ParticipantError, Problem, problem
from starter.submission.letterbox import Letterbox
from starter.submission.transform_records import MAX_RECORDS, TransformRecord, record_of

_VERSIONED: dict[str, tuple[str, ...]] = {
    "Resize": ("size", "interpolation", "max_size", "antialias"),
    "CenterCrop": ("size",),
    "Pad": ("padding", "fill", "padding_mode"),
    "Grayscale": ("num_output_channels",),
    "Normalize": ("mean", "std"),
    "ConvertImageDtype": ("dtype",),
}
_PLAIN = ("ToImage", "PILToTensor", "ToPureTensor", "ToTensor", "RGB", "Identity")
ALLOWED = ("Compose", *_VERSIONED, "ToDtype", "Letterbox", *_PLAIN)
# Exact types: a subclass may do anything in its own __call__.
_MODULES = {"v1": v1, "v2": v2}
_TYPES = {
    getattr(module, name): (name, api)
    for api, module in _MODULES.items()
    for name in ALLOWED
    if hasattr(module, name)
}
_TYPES[Letterbox] = ("Letterbox", "v2")
_LIBRARIES = {
    "timm.data.transforms.MaybeToTensor": "ToTensor",
    "timm.data.transforms.MaybePILToTensor": "PILToTensor",
}
"""What other libraries' transforms do to a PIL image, by the name of their type: none need be installed."""
_PIL_MODES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_PADDED = re.compile("letter_?box|square|pad|keep_?ratio|aspect", re.IGNORECASE)
_RANDOM = re.compile(
    "Random|AutoAugment|RandAugment|TrivialAugment|AugMix|Jitter|Noise|ElasticTransform|MixUp|CutMix|"
    "GaussianBlur|JPEG"
)


def describe(transforms: object) -> list[TransformRecord]:
    """Read a participant's transforms off into records.

    Args:
        transforms: a torchvision transform (v1 or v2), a Compose, a list of them, or
            a weights enum's `.transforms()`.

    Raises:
        ParticipantError: E301 to E303, every transform that is not on the list, all at once.
    """
    records: list[TransformRecord] = []
    problems: list[Problem] = []
    for i, item in enumerate(_flat(transforms)):
        try:
            records += _read(item, f"transforms[{i}]: {_type_name(item)}")
        except ParticipantError as error:
            problems += error.problems
    if len(records) > MAX_RECORDS:
        problems.append(_bad_option("transforms", f"at most {MAX_RECORDS} steps", f"{len(records)}"))
    if problems:
        raise ParticipantError(problems)
    return records


def _flat(transforms: object) -> Iterator[object]:
    if isinstance(transforms, list | tuple):
        for item in transforms:
            yield from _flat(item)
    elif _is_container(transforms) and not _changes(transforms):
        steps = transforms if type(transforms) is nn.Sequential else getattr(transforms, "transforms", None)
        yield from _flat(list(steps or ()))
    else:
        yield transforms


def _is_container(item: object) -> bool:
    return type(item) is nn.Sequential or _TYPES.get(type(item), ("",))[0] == "Compose"


def _known(item: object) -> tuple[str, str]:
    """Return the name of a transform of the list, and which of torchvision's families it is of."""
    kind = type(item)
    name = _LIBRARIES.get(f"{kind.__module__}.{kind.__qualname__}", "")
    return _TYPES.get(kind, (name, "v2"))


def _read(item: object, where: str) -> list[TransformRecord]:
    name, api = _known(item)
    known = name or type(item) is ImageClassification or _is_container(item)
    if not known:
        raise ParticipantError([_refusal(item, where)])
    if changes := _changes(item):
        got = f"its own {', '.join(changes)}"
        raise ParticipantError([_bad_option(where, "the transform as torchvision defines it", got)])
    values = {key: _plain(value) for key, value in vars(item).items() if value is not None}
    if name in _PLAIN:
        return [_record("Plain", {"name": name}, where)]
    if name == "Letterbox":
        fields = ("size", "fill", "resize", "interpolation")
        return [_record(name, {key: values.get(key) for key in fields}, where)]
    if name == "ToDtype":
        return [_record(name, {key: values.get(key) for key in ("dtype", "scale")}, where)]
    if name in _VERSIONED:
        return [_record(name, {"api": api, **_options(name, values)}, where)]
    return _read_preset(values, where)


def _read_preset(values: Mapping[str, Any], where: str) -> list[TransformRecord]:
    """Spell out what a weights enum's preset does."""
    resize = _options("Resize", {**values, "size": values["resize_size"]})
    return [
        _record("Resize", {"api": "v1", **resize}, where),
        _record("CenterCrop", {"api": "v1", "size": values["crop_size"]}, where),
        _record("Plain", {"name": "PILToTensor"}, where),
        _record("ConvertImageDtype", {"api": "v1", "dtype": "float32"}, where),
        _record("Normalize", {"api": "v1", **_options("Normalize", values)}, where),
    ]


def _options(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Pick a transform's options and give them the form that the record has."""
    options = {key: values[key] for key in _VERSIONED[name] if key in values}
    for key in ("size", "padding", "mean", "std"):
        if isinstance(options.get(key), int | float):
            options[key] = [options[key]]
    if name == "Resize":
        options.setdefault("antialias", False)  # None, which torchvision takes for False
        mode = options.get("interpolation")
        options["interpolation"] = _PIL_MODES.get(mode, mode) if isinstance(mode, int) else mode
    return options


def _record(kind: str, options: Mapping[str, Any], where: str) -> TransformRecord:
    try:
        return record_of(kind, options)
    except ValidationError as error:
        wrong = {str(item["loc"][2]): item for item in reversed(error.errors())}
        raise ParticipantError(
            [
                _bad_option(f"{where}.{field}", item["msg"], repr(options.get(field)))
                for field, item in wrong.items()
            ]
        ) from error


def _bad_option(where: str, expected: str, got: str) -> Problem:
    return problem(Code.TRANSFORM_OPTION, where=where, expected=expected, got=got[:120])


def _changes(item: object) -> list[str]:
    """Name what was hung onto an object and would be lost: a forward or hooks of its own."""
    own = vars(item).items()
    return [name for name, value in own if callable(value) or (name.endswith("_hooks") and value)]


def _plain(value: Any) -> Any:
    """Turn an attribute into what JSON has; anything else stays and is refused by the record."""
    if isinstance(value, InterpolationMode):
        return value.value
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if callable(getattr(value, "tolist", None)):  # a tensor, a NumPy array or a NumPy number
        return value.tolist()
    return value


def _type_name(item: object) -> str:
    kind = item if isinstance(item, type) else type(item)
    module = re.sub(r"\.(_\w+|autoaugment)|(?<=transforms)\.transforms", "", kind.__module__)
    return f"{module}.{kind.__qualname__}"


def _refusal(item: object, where: str) -> Problem:
    named = item.func if isinstance(item, functools.partial) else item
    name = str(getattr(named, "__name__", "")) or type(item).__name__
    if type(item).__module__.startswith("torchvision.") and _RANDOM.search(name):
        return problem(Code.TRANSFORM_RANDOM, where=where, got=name)
    expected = f"one of {', '.join(ALLOWED)}"
    got, hint = _slip(item)
    if not hint and _PADDED.search(name):
        hint = HINTS["letterbox"]
    return problem(Code.TRANSFORM_UNKNOWN, where=where, expected=expected, got=got or name, hint=hint)


def _slip(item: object) -> tuple[str, str]:
    """Recognise a forgotten pair of brackets: what it is, and what to write."""
    if isinstance(item, type):
        weights = hasattr(item, "DEFAULT") and hasattr(item, "__members__")
        call = HINTS["call_weights_class" if weights else "call_class"].format(item.__name__)
        return f"the class {item.__name__}, not an instance", call
    if hasattr(item, "transforms") and hasattr(item, "url"):
        return f"the weights {item}", HINTS["call_transforms_of"].format(item)
    if getattr(item, "func", None) is ImageClassification:
        return "a weights enum's .transforms, not called", HINTS["call_weights_transforms"]
    return "", ""
