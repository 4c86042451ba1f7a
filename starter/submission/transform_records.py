"""Transforms as data: what each one is called, which options it has, and how they are written as JSON.

What reads them off a participant's objects: transforms.py. What rebuilds them: pipeline.py.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from starter.contract.errors import Code, participant_error
from starter.submission.letterbox import Order

MAX_RECORDS = 32

Side = Annotated[int, Field(ge=1, le=2048)]
Border = Annotated[int, Field(ge=0, le=2048)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Whole = Annotated[int, Field(ge=-255, le=255)]
Positive = Annotated[float, Field(allow_inf_nan=False, gt=0, le=1e6)]
Fill = Whole | Number | Annotated[list[Whole | Number], Field(min_length=1, max_length=3)]
Interpolation = Literal["nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos"]
Dtype = Literal["float32", "uint8"]
Api = Literal["v1", "v2"]


def _not_three(padding: list[int]) -> list[int]:
    if len(padding) == 3:
        raise ValueError("one, two or four numbers")
    return padding


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Versioned(_Record):
    api: Api = "v2"
    """Which of torchvision's two families; they differ in rounding on tensors."""


class Resize(_Versioned):
    """Scale to a size; one side keeps the aspect ratio."""

    kind: Literal["Resize"] = "Resize"
    size: list[Side] = Field(min_length=1, max_length=2)
    """Height and width, or the shorter side."""
    interpolation: Interpolation = "bilinear"
    """How values between pixels are made."""
    max_size: Side | None = None
    """Where only the shorter side is given: the most that the longer one may be."""
    antialias: bool = True
    """Whether tensors are smoothed before they shrink; PIL images always are."""


class CenterCrop(_Versioned):
    """Cut out the middle; what is missing is padded with 0."""

    kind: Literal["CenterCrop"] = "CenterCrop"
    size: list[Side] = Field(min_length=1, max_length=2)
    """Height and width, or the side of a square."""


class Pad(_Versioned):
    """Add a border."""

    kind: Literal["Pad"] = "Pad"
    padding: Annotated[list[Border], Field(min_length=1, max_length=4), AfterValidator(_not_three)]
    """All sides; or left and right, top and bottom; or left, top, right, bottom."""
    fill: Fill = 0
    """The border's value, one or one for each channel, where the mode is constant."""
    padding_mode: Literal["constant", "edge", "reflect", "symmetric"] = "constant"
    """What the border shows."""


class Letterbox(_Record):
    """Fit the whole image into a size and fill the rest: submission/letterbox.py."""

    kind: Literal["Letterbox"] = "Letterbox"
    size: list[Side] = Field(min_length=2, max_length=2)
    """Height and width."""
    fill: Fill = 0
    """The border's value, one or one for each channel."""
    resize: Order = "longer"
    """Whether it is padded after it is scaled, or before."""
    interpolation: Interpolation = "bilinear"
    """How values between pixels are made."""


class Grayscale(_Versioned):
    """Reduce to luminance, in one channel or the same in three."""

    kind: Literal["Grayscale"] = "Grayscale"
    num_output_channels: Literal[1, 3] = 1
    """Channels that come out."""


class Normalize(_Versioned):
    """Subtract the mean and divide by the standard deviation."""

    kind: Literal["Normalize"] = "Normalize"
    mean: list[Number] = Field(min_length=1, max_length=3)
    """One for each channel."""
    std: list[Positive] = Field(min_length=1, max_length=3)
    """One for each channel."""


class ConvertImageDtype(_Versioned):
    """Change the type and scale to its range."""

    kind: Literal["ConvertImageDtype"] = "ConvertImageDtype"
    dtype: Dtype
    """The new type."""


class ToDtype(_Record):
    """Change the type; with `scale`, 0-255 becomes 0-1."""

    kind: Literal["ToDtype"] = "ToDtype"
    dtype: Dtype
    """The new type."""
    scale: bool = False
    """Whether values are scaled to the new type's range."""


class Plain(_Record):
    """A transform without options."""

    kind: Literal["Plain"] = "Plain"
    name: Literal["ToImage", "PILToTensor", "ToPureTensor", "ToTensor", "RGB", "Identity"]
    """Its name in torchvision."""


TransformRecord = Annotated[
    Resize | CenterCrop | Pad | Letterbox | Grayscale | Normalize | ConvertImageDtype | ToDtype | Plain,
    Field(discriminator="kind"),
]
_RECORDS: TypeAdapter[list[TransformRecord]] = TypeAdapter(
    Annotated[list[TransformRecord], Field(max_length=MAX_RECORDS)]
)


def record_of(kind: str, options: Mapping[str, Any]) -> TransformRecord:
    """Return one record.

    Raises:
        ValidationError: the options are not what its kind has.
    """
    return _RECORDS.validate_python([{"kind": kind, **options}])[0]


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
        where = ".".join(["transforms", *map(str, first["loc"])])[:200]
        raise participant_error(Code.MALFORMED_GRAPH, where=where, got=first["msg"][:300]) from error
