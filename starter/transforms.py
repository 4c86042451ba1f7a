"""Transforms as data: read off a participant's objects, rebuilt by us with torchvision.

Only what is on the allow-list passes: deterministic, free of parameters, one view of
one image. `describe` runs in the submission's process; the rest on our side, where
no code of the plugin ever meets an image.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import transforms as v1
from torchvision.transforms._presets import ImageClassification

from starter.errors import Code, ParticipantError, Problem, participant_error, problem

MAX_RECORDS = 32
MAX_SIDE = 1024
_TRIAL_SIZES = ((80, 60), (37, 113), (200, 200))

Side = Annotated[int, Field(ge=1, le=2048)]
Border = Annotated[int, Field(ge=0, le=2048)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Positive = Annotated[float, Field(allow_inf_nan=False, gt=0, le=1e6)]
Interpolation = Literal["nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos"]
Channels = Literal[1, 3]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Resize(_Record):
    """Scale to a size; one side keeps the aspect ratio."""

    kind: Literal["Resize"] = "Resize"
    size: list[Side] = Field(min_length=1, max_length=2)
    interpolation: Interpolation = "bilinear"
    max_size: Side | None = None
    antialias: bool = True

    def build(self) -> Any:
        """Return torchvision's transform."""
        mode = InterpolationMode(self.interpolation)
        return v2.Resize(self.size, interpolation=mode, max_size=self.max_size, antialias=self.antialias)


class CenterCrop(_Record):
    """Cut out the middle; what is missing is padded with 0."""

    kind: Literal["CenterCrop"] = "CenterCrop"
    size: list[Side] = Field(min_length=1, max_length=2)

    def build(self) -> Any:
        """Return torchvision's transform."""
        return v2.CenterCrop(self.size)


class Pad(_Record):
    """Add a border."""

    kind: Literal["Pad"] = "Pad"
    padding: Border | list[Border]
    fill: Number | list[Number] = 0
    padding_mode: Literal["constant", "edge", "reflect", "symmetric"] = "constant"

    def build(self) -> Any:
        """Return torchvision's transform."""
        return v2.Pad(self.padding, fill=self.fill, padding_mode=self.padding_mode)


class Grayscale(_Record):
    """Reduce to luminance, in one channel or the same in three."""

    kind: Literal["Grayscale"] = "Grayscale"
    num_output_channels: Channels = 1

    def build(self) -> Any:
        """Return torchvision's transform."""
        return v2.Grayscale(self.num_output_channels)


class Normalize(_Record):
    """Subtract the mean and divide by the standard deviation, channel by channel."""

    kind: Literal["Normalize"] = "Normalize"
    mean: list[Number] = Field(min_length=1, max_length=3)
    std: list[Positive] = Field(min_length=1, max_length=3)

    def build(self) -> Any:
        """Return torchvision's transform."""
        return v2.Normalize(self.mean, self.std)


class ToDtype(_Record):
    """Change the type; with `scale`, 0-255 becomes 0-1."""

    kind: Literal["ToDtype"] = "ToDtype"
    dtype: Literal["float32", "uint8"]
    scale: bool = False

    def build(self) -> Any:
        """Return torchvision's transform."""
        return v2.ToDtype(getattr(torch, self.dtype), scale=self.scale)


class Plain(_Record):
    """A transform without options."""

    kind: Literal["Plain"] = "Plain"
    name: Literal["ToImage", "PILToTensor", "ToPureTensor", "ToTensor", "RGB", "Identity"]

    def build(self) -> Any:
        """Return torchvision's transform."""
        if self.name == "ToTensor":
            return v1.ToTensor()  # the same result as v2's, which warns that it is deprecated
        return getattr(v2, self.name)()


TransformRecord = Annotated[
    Resize | CenterCrop | Pad | Grayscale | Normalize | ToDtype | Plain, Field(discriminator="kind")
]
_RECORDS: TypeAdapter[list[TransformRecord]] = TypeAdapter(
    Annotated[list[TransformRecord], Field(max_length=MAX_RECORDS)]
)

_OPTIONS: dict[str, tuple[type[_Record], tuple[str, ...]]] = {
    "Resize": (Resize, ("size", "interpolation", "max_size", "antialias")),
    "CenterCrop": (CenterCrop, ("size",)),
    "Pad": (Pad, ("padding", "fill", "padding_mode")),
    "Grayscale": (Grayscale, ("num_output_channels",)),
    "Normalize": (Normalize, ("mean", "std")),
    "ToDtype": (ToDtype, ("dtype", "scale")),
}
_PLAIN = ("ToImage", "PILToTensor", "ToPureTensor", "ToTensor", "RGB", "Identity")
_ALLOWED = (*_OPTIONS, *_PLAIN, "ConvertImageDtype", "Compose")
# Exact types: a subclass may do anything in its own __call__.
_TYPES: dict[type, str] = {
    getattr(module, name): name for module in (v1, v2) for name in _ALLOWED if hasattr(module, name)
}
_RANDOM_WORDS = ("Random", "AutoAugment", "RandAugment", "TrivialAugment", "AugMix", "Jitter", "Noise")
_RANDOM_NAMES = ("ElasticTransform", "MixUp", "CutMix", "GaussianBlur", "JPEG")


def describe(transforms: object) -> list[TransformRecord]:
    """Read a participant's transforms off into records.

    Args:
        transforms: a torchvision transform (v1 or v2), a Compose, a list of them, or
            a weights enum's `.transforms()`.

    Raises:
        ParticipantError: every transform that is not on the list, all at once.
    """
    records: list[TransformRecord] = []
    problems: list[Problem] = []
    for i, item in enumerate(_flat(transforms)):
        try:
            records += _read(item, f"transforms[{i}]: {_type_name(item)}")
        except ParticipantError as error:
            problems += error.problems
    if problems:
        raise ParticipantError(problems)
    return records


def dump(records: Sequence[TransformRecord]) -> str:
    """Write records as JSON."""
    return _RECORDS.dump_json(list(records)).decode()


def load(text: str) -> list[TransformRecord]:
    """Read records from JSON that a stranger may have written.

    Raises:
        ParticipantError: E505; it is not a list of allowed records.
    """
    try:
        return _RECORDS.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = "transforms." + ".".join(map(str, first["loc"]))
        raise participant_error(Code.MALFORMED_GRAPH, where=where, got=first["msg"]) from error


def build(records: Sequence[TransformRecord]) -> Callable[[Image.Image], torch.Tensor]:
    """Return the pipeline: PIL RGB image to float32 (C, H, W)."""
    steps = [record.build() for record in records]

    def pipeline(image: Image.Image) -> torch.Tensor:
        value: Any = image
        for step in steps:
            value = step(value)
        tensor: torch.Tensor = value
        return tensor.as_subclass(torch.Tensor)

    return pipeline


def input_shape(records: Sequence[TransformRecord]) -> tuple[int, int, int]:
    """Return (C, H, W), found by running the pipeline on images of three sizes.

    Raises:
        ParticipantError: it raises, or gives anything but float32 of one fixed shape.
    """
    pipeline = build(records)
    seen = {size: _describe_output(pipeline, size) for size in _TRIAL_SIZES}
    shapes = set(seen.values())
    if len(shapes) > 1:
        each = ", ".join(f"{shape} from {w}x{h} pixels" for (w, h), shape in seen.items())
        raise _wrong_shape(each)
    (text,) = shapes
    tensor = pipeline(Image.new("RGB", _TRIAL_SIZES[0]))
    fits = tensor.dim() == 3 and tensor.shape[0] in (1, 3) and max(tensor.shape) <= MAX_SIDE
    if tensor.dtype != torch.float32 or not fits:
        raise _wrong_shape(text)
    return tensor.shape[0], tensor.shape[1], tensor.shape[2]


def _describe_output(pipeline: Callable[[Image.Image], torch.Tensor], size: tuple[int, int]) -> str:
    try:
        output = pipeline(Image.new("RGB", size))
    except Exception as error:
        if isinstance(error, AttributeError) and "as_subclass" in str(error):
            raise _wrong_shape("a PIL image") from error
        raise participant_error(
            Code.TRANSFORM_FAILED,
            where=f"on an image of {size[0]}x{size[1]} pixels",
            got=f"{type(error).__name__}: {error}"[:300],
        ) from error
    return f"{output.dtype} {tuple(output.shape)}".removeprefix("torch.")


def _wrong_shape(got: str) -> ParticipantError:
    return participant_error(
        Code.TRANSFORM_SHAPE,
        where="transforms",
        expected=f"float32 (3, H, W) or (1, H, W), the same for every image, sides at most {MAX_SIDE}",
        got=got,
    )


def _flat(transforms: object) -> Iterator[object]:
    if isinstance(transforms, list | tuple):
        for item in transforms:
            yield from _flat(item)
    elif _TYPES.get(type(transforms)) == "Compose":
        yield from _flat(transforms.transforms)  # type: ignore[attr-defined]
    elif type(transforms) is nn.Sequential:
        yield from _flat(list(transforms))
    else:
        yield transforms


def _read(item: object, where: str) -> list[TransformRecord]:
    if type(item) is ImageClassification:
        return _read_preset(item, where)
    name = _TYPES.get(type(item))
    if name is None:
        raise ParticipantError([_refusal(item, where)])
    if name in _PLAIN:
        return [_RECORDS.validate_python([{"kind": "Plain", "name": name}])[0]]
    if name == "ConvertImageDtype":
        return [_record("ToDtype", {"dtype": _plain(_option(item, "dtype")), "scale": True}, where)]
    options = {key: _plain(_option(item, key)) for key in _OPTIONS[name][1]}
    return [_record(name, {k: v for k, v in options.items() if v is not None}, where)]


def _read_preset(item: ImageClassification, where: str) -> list[TransformRecord]:
    """Spell out what a weights enum's preset does."""
    resize = {"size": item.resize_size, "interpolation": item.interpolation, "antialias": item.antialias}
    return [
        _record("Resize", {k: _plain(v) for k, v in resize.items() if v is not None}, where),
        _record("CenterCrop", {"size": _plain(item.crop_size)}, where),
        _record("Plain", {"name": "PILToTensor"}, where),
        _record("ToDtype", {"dtype": "float32", "scale": True}, where),
        _record("Normalize", {"mean": _plain(item.mean), "std": _plain(item.std)}, where),
    ]


def _record(kind: str, options: dict[str, Any], where: str) -> TransformRecord:
    if isinstance(options.get("size"), int):
        options["size"] = [options["size"]]
    try:
        return _RECORDS.validate_python([{"kind": kind, **options}])[0]
    except ValidationError as error:
        raise ParticipantError(
            [
                problem(
                    Code.TRANSFORM_OPTION,
                    where=f"{where}.{'.'.join(map(str, item['loc'][2:]))}",
                    expected=item["msg"],
                    got=repr(item["input"])[:120],
                )
                for item in error.errors()
            ]
        ) from error


def _option(item: object, name: str) -> Any:
    return vars(item).get(name)


def _plain(value: Any) -> Any:
    """Turn an attribute into what JSON has; anything else stays and is refused by the record."""
    if isinstance(value, InterpolationMode):
        return value.value
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, list | tuple | torch.Size):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and callable(value.item):  # a NumPy number
        return value.item()
    return value


def _type_name(item: object) -> str:
    kind = item if isinstance(item, type) else type(item)
    module = kind.__module__.replace("._geometry", "").replace("._misc", "").replace("._color", "")
    return f"{module}.{kind.__qualname__}".replace("transforms.transforms", "transforms")


def _refusal(item: object, where: str) -> Problem:
    name = type(item).__name__
    ours = type(item).__module__.startswith("torchvision.")
    if ours and (any(word in name for word in _RANDOM_WORDS) or name in _RANDOM_NAMES):
        return problem(Code.TRANSFORM_RANDOM, where=where, got=name)
    if isinstance(item, type):
        got, hint = f"the class {item.__name__}, not an instance", f"Call it: {item.__name__}(...)"
    elif hasattr(item, "transforms") and hasattr(item, "url"):
        got, hint = f"the weights {item}", f"Call .transforms() of it: {item}.transforms()"
    else:
        got, hint = name, ""
    return problem(
        Code.TRANSFORM_UNKNOWN, where=where, expected=f"one of {', '.join(_ALLOWED)}", got=got, hint=hint
    )
