"""Transforms are read off as data and rebuilt: the same pixels, and nothing that is not on the list."""

import functools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode, v2

from starter.contract.errors import Code, ParticipantError
from starter.submission import pipeline as rebuilding
from starter.submission import transform_records, transforms
from starter.submission.letterbox import Order
from starter.submission.transform_records import TransformRecord
from starter.transforms import Letterbox

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
FLOAT = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


IMAGES = [noise(80, 60), noise(37, 113), noise(301, 200), noise(48, 48)]


def apply(pipeline: Any, image: Any) -> Any:
    """Run the participant's own objects, one after the other."""
    steps = pipeline if isinstance(pipeline, list | tuple) else [pipeline]
    for step in steps:
        image = apply(step, image) if isinstance(step, list | tuple) else step(image)
    return image


def rebuilt(pipeline: object) -> Callable[[Image.Image], torch.Tensor]:
    """Go the whole way: read off, write, read back, build."""
    return rebuilding.build(transform_records.load(transform_records.dump(transforms.describe(pipeline))))


def problems_of(pipeline: object) -> list[tuple[Code, str, str]]:
    with pytest.raises(ParticipantError) as refused:
        transforms.describe(pipeline)
    return [(p.code, p.where, p.got) for p in refused.value.problems]


def shape_error(pipeline: object) -> tuple[Code, str]:
    with pytest.raises(ParticipantError) as refused:
        rebuilding.input_shape(transforms.describe(pipeline))
    return refused.value.problems[0].code, f"{refused.value} {refused.value.problems[0].hint}"


V2_PIPELINES: list[Any] = [
    v2.Compose([v2.Resize((48, 56)), *FLOAT, v2.Normalize(MEAN, STD)]),
    [v2.ToImage(), v2.Resize((48, 56)), v2.ToDtype(torch.float32, scale=True)],
    [v2.ToImage(), v2.Resize((48, 56), InterpolationMode.BICUBIC, antialias=False), *FLOAT[1:]],
    [*FLOAT, v2.Resize(64, InterpolationMode.BICUBIC), v2.CenterCrop(56), v2.ToPureTensor()],
    [*FLOAT, v2.Resize(64, antialias=None), v2.CenterCrop((40, 90)), v2.Normalize(MEAN, STD)],
    [v2.Resize(64, max_size=70), v2.CenterCrop(70), *FLOAT],
    [v2.Resize((50, 50), interpolation=Image.Resampling.LANCZOS), *FLOAT],
    [v2.Resize((50, 50), interpolation=0), *FLOAT],
    [v2.RGB(), v2.Grayscale(), v2.Resize((32, 32)), *FLOAT, v2.Normalize([0.5], [0.25])],
    [*FLOAT, v2.Grayscale(3), v2.Resize((32, 32))],
    [v2.Resize((32, 32)), v2.Pad((1, 2, 3, 4), fill=(10, 20, 30)), *FLOAT],
    [v2.ToImage(), v2.Pad(5, fill=9), v2.Resize((32, 32)), *FLOAT[1:]],
    [v2.Resize((32, 32)), v2.Pad([3], padding_mode="reflect"), v2.PILToTensor(), *FLOAT[1:]],
    [v2.Resize((32, 32)), v2.Pad((3, 1), padding_mode="symmetric"), *FLOAT],
    [v2.Resize((32, 32)), v2.PILToTensor(), v2.ToDtype(torch.float32)],
    nn.Sequential(v2.Resize((32, 32)), v2.Identity(), v2.PILToTensor(), v2.ConvertImageDtype(torch.float32)),
    [*FLOAT, v2.Resize((32, 32)), v2.ToDtype(torch.uint8, scale=True), *FLOAT[1:]],
    [v2.Resize((np.int64(32), 32)), *FLOAT, v2.Normalize(np.array(MEAN), torch.tensor(STD))],
]  # fmt: skip
V1_PIPELINES: list[Any] = [
    v1.Compose([v1.Resize((48, 56)), v1.ToTensor(), v1.Normalize(MEAN, STD)]),
    v1.Compose([v1.Resize(64), v1.Compose([v1.CenterCrop(56)]), v1.ToTensor()]),
    [v1.PILToTensor(), v1.Resize((48, 56)), v1.ConvertImageDtype(torch.float32)],
    [v1.PILToTensor(), v1.Resize((48, 56), InterpolationMode.BICUBIC), v1.ConvertImageDtype(torch.float32)],
    [v1.PILToTensor(), v1.Resize(64, InterpolationMode.BICUBIC, antialias=None), [v1.CenterCrop(50)],
     v1.ConvertImageDtype(torch.float32)],
    [v1.ToTensor(), v1.Resize((48, 56), InterpolationMode.NEAREST_EXACT), v1.Normalize((0.5,), (0.5,))],
    [v1.ToTensor(), v1.Grayscale(3), v1.Resize((32, 32))],
    [v1.Grayscale(1), v1.Resize((32, 32)), v1.ToTensor()],
    [v1.Resize((32, 32)), v1.Pad(4, fill=(1, 2, 3)), v1.ToTensor()],
    [v1.Resize((32, 32)), v1.Pad((4, 2), padding_mode="edge"), v1.ToTensor()],
    (v1.Resize((32, 32), interpolation=InterpolationMode.HAMMING), v2.ToImage(), v2.ToDtype(torch.float32)),
]  # fmt: skip


@pytest.mark.parametrize("pipeline", V1_PIPELINES + V2_PIPELINES, ids=repr)
def test_the_rebuilt_pipeline_gives_the_same_bits(pipeline: Any) -> None:
    ours = rebuilt(pipeline)
    for image in IMAGES:
        theirs = apply(pipeline, image)
        assert torch.equal(ours(image), theirs)
        assert ours(image).dtype == torch.float32
        assert type(ours(image)) is torch.Tensor


def presets() -> dict[str, Any]:
    """Every preset that torchvision ships for classification, each once."""
    found: dict[str, Any] = {}
    for name in torchvision.models.list_models(module=torchvision.models):
        for weights in torchvision.models.get_model_weights(name):
            preset = weights.transforms()
            found.setdefault(repr(preset), preset)
    return found


@pytest.mark.slow
def test_every_preset_of_torchvision_is_rebuilt_to_the_same_bits() -> None:
    found = presets()
    assert len(found) > 20
    for preset in found.values():
        ours, (_, height, width) = rebuilt(preset), rebuilding.input_shape(transforms.describe(preset))
        assert (height, width) == (preset.crop_size[0],) * 2
        for image in IMAGES[:2]:
            assert torch.equal(ours(image), preset(image)), preset


SIDES = st.lists(st.integers(1, 70), min_size=1, max_size=2)
APIS = st.sampled_from(["v1", "v2"])
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
BORDERS = st.integers(0, 40)
RECORDS = st.one_of(
    st.builds(
        transform_records.Resize,
        api=APIS,
        size=SIDES,
        interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box"]),
        max_size=st.none() | st.integers(1, 90),
        antialias=st.booleans(),
    ),
    st.builds(transform_records.CenterCrop, api=APIS, size=SIDES),
    st.builds(
        transform_records.Pad,
        api=APIS,
        padding=st.lists(BORDERS, min_size=1, max_size=4).filter(lambda padding: len(padding) != 3),
        fill=st.integers(-255, 255) | NUMBERS | st.lists(NUMBERS, min_size=1, max_size=3),
        padding_mode=st.sampled_from(["constant", "edge", "reflect", "symmetric"]),
    ),
    st.builds(transform_records.Grayscale, api=APIS, num_output_channels=st.sampled_from([1, 3])),
    st.builds(
        transform_records.Normalize,
        api=APIS,
        mean=st.lists(NUMBERS, min_size=1, max_size=3),
        std=st.lists(st.floats(1e-300, 1e6), min_size=1, max_size=3),
    ),
    st.builds(transform_records.ConvertImageDtype, api=APIS, dtype=st.sampled_from(["float32", "uint8"])),
    st.builds(transform_records.ToDtype, dtype=st.sampled_from(["float32", "uint8"]), scale=st.booleans()),
    st.builds(transform_records.Plain, name=st.sampled_from(["ToImage", "PILToTensor", "ToTensor", "RGB"])),
)


@given(st.lists(RECORDS, max_size=6))
@settings(deadline=None)
def test_what_is_written_is_read_back(records: list[TransformRecord]) -> None:
    assert transform_records.load(transform_records.dump(records)) == records


@pytest.mark.slow
@given(st.lists(RECORDS, max_size=5), st.lists(RECORDS, max_size=2))
@settings(deadline=None)
@pytest.mark.filterwarnings("ignore")  # torchvision may warn about odd options
def test_any_chain_of_legal_records_gives_float32_or_a_refusal(
    records: list[TransformRecord], after: list[TransformRecord]
) -> None:
    """And in two stages it gives the same bits."""
    records = [*records, *transforms.describe([v2.Resize((8, 9)), *FLOAT]), *after]
    try:
        shape = rebuilding.input_shape(records)
    except ParticipantError:
        return
    whole = rebuilding.build(records)(noise(50, 70))
    assert whole.shape == shape
    stages = rebuilding.part(records)
    (parted,) = stages.finish(stages.keep(noise(50, 70)).unsqueeze(0))
    torch.testing.assert_close(parted, whole, rtol=0, atol=0, equal_nan=True)


@given(
    st.sampled_from([v1, v2]), SIDES, st.none() | st.integers(71, 90), st.integers(1, 99), st.integers(1, 99)
)
@settings(deadline=None, max_examples=50)
def test_the_size_that_is_checked_before_a_step_is_the_size_after_it(
    module: Any, size: list[int], max_size: int | None, width: int, height: int
) -> None:
    """Otherwise the memory limit would guard something else."""
    step = module.Resize(size, max_size=max_size if len(size) == 1 else None)
    (record,) = transforms.describe(step)
    predicted = rebuilding._size_after(record, (height, width))
    if min(predicted) > 0:
        result = step(Image.new("RGB", (width, height)))
        assert (result.height, result.width) == predicted


def test_a_subclass_is_refused_for_it_may_do_anything() -> None:
    class Resize(v2.Resize):  # type: ignore[misc]
        def forward(self, *inputs: Any) -> Any:
            return super().forward(*inputs)

    ((code, where, got),) = problems_of([v2.ToImage(), Resize((32, 32))])

    assert code is Code.TRANSFORM_UNKNOWN
    assert where.startswith("transforms[1]: test_transforms.")
    assert got == "Resize"


@pytest.mark.parametrize(
    "item",
    [
        v2.RandomHorizontalFlip(), v1.RandomResizedCrop(32), v2.ColorJitter(0.1), v1.AutoAugment(),
        v2.AugMix(), v2.RandAugment(), v2.TrivialAugmentWide(), v2.RandomErasing(), v2.GaussianNoise(),
        v2.MixUp(num_classes=6), v2.ElasticTransform(), v2.ScaleJitter((32, 32)), v2.JPEG((50, 90)),
        v1.RandomApply([v1.Grayscale()]),
    ],
    ids=repr,
)  # fmt: skip
def test_a_random_transform_is_refused_as_random(item: object) -> None:
    ((code, where, got),) = problems_of([v2.Resize((32, 32)), item])

    assert (code, got) == (Code.TRANSFORM_RANDOM, type(item).__name__)
    assert where in {f"transforms[1]: torchvision.transforms{v}.{got}" for v in (".v2", "")}


class Whiten(nn.Module):
    """A participant's own."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image - image.mean()


@pytest.mark.parametrize(
    "item",
    [
        v2.FiveCrop(8),
        v1.TenCrop(8),
        v1.Lambda(abs),
        v2.Lambda(abs),
        abs,
        pytest.param(lambda x: x, id="lambda"),  # its repr holds an address
        Whiten(),
        None,
        "resize",
    ],
    ids=repr,
)
def test_what_is_not_on_the_list_belongs_into_the_model(item: object) -> None:
    with pytest.raises(ParticipantError) as refused:
        transforms.describe([item])
    (found,) = refused.value.problems

    assert found.code is Code.TRANSFORM_UNKNOWN
    assert "into the model" in found.hint
    assert "Resize" in found.expected


WEIGHTS = torchvision.models.MobileNet_V3_Small_Weights


@pytest.mark.parametrize(
    ("item", "hint"),
    [
        (WEIGHTS.DEFAULT, "MobileNet_V3_Small_Weights.IMAGENET1K_V1.transforms()"),
        (WEIGHTS, "MobileNet_V3_Small_Weights.DEFAULT.transforms()"),
        (WEIGHTS.DEFAULT.transforms, "WEIGHTS.transforms()"),
        (v2.ToImage, "ToImage(...)"),
    ],
)
def test_forgotten_brackets_are_named(item: object, hint: str) -> None:
    with pytest.raises(ParticipantError) as refused:
        transforms.describe(item)
    assert hint in refused.value.problems[0].hint


def test_all_problems_come_at_once() -> None:
    found = problems_of([v2.RandomCrop(8), v2.Resize(5000), Whiten(), v2.ToDtype(torch.float16)])

    assert [(code, where.split(":")[0]) for code, where, _ in found] == [
        (Code.TRANSFORM_RANDOM, "transforms[0]"),
        (Code.TRANSFORM_OPTION, "transforms[1]"),
        (Code.TRANSFORM_UNKNOWN, "transforms[2]"),
        (Code.TRANSFORM_OPTION, "transforms[3]"),
    ]


@pytest.mark.parametrize(
    ("item", "field", "got"),
    [
        (v2.Resize(5000), "size", "[5000]"),
        (v2.ToDtype(torch.float16), "dtype", "'float16'"),
        (v2.ToDtype({torch.Tensor: torch.float32, "others": None}), "dtype", "{<class 'torch.Tensor'>: "),
        (v2.Normalize([float("nan")], [1.0]), "mean", "[nan]"),
        (v2.Normalize([0.0], [0.0]), "std", "[0.0]"),
        (v2.Normalize([[0.0]], [1.0]), "mean", "[[0.0]]"),
        (v2.Pad(3, fill={torch.Tensor: 1, "others": 0}), "fill", "{<class 'torch.Tensor'>: 1, "),
        (v2.Resize(None, max_size=32), "size", "None"),
    ],
)
def test_an_option_that_cannot_be_rebuilt_is_named(item: object, field: str, got: str) -> None:
    ((code, where, found),) = problems_of([item])

    assert code is Code.TRANSFORM_OPTION
    assert where.endswith(f"{type(item).__name__}.{field}")
    assert found.startswith(got)


def test_a_forward_or_a_hook_hung_onto_a_transform_is_refused_and_not_lost() -> None:
    hooked, patched = v2.Compose([v2.ToImage()]), v2.Resize((32, 32))
    hooked.register_forward_hook(lambda *_: None)
    patched.forward = lambda image: image

    found = problems_of([patched, hooked])

    assert [code for code, *_ in found] == [Code.TRANSFORM_OPTION] * 2
    assert [got for *_, got in found] == ["its own forward", "its own _forward_hooks"]


def test_more_steps_than_allowed_are_refused_where_they_are_written() -> None:
    ((code, where, got),) = problems_of([v2.Identity()] * 33)
    assert (code, where, got) == (Code.TRANSFORM_OPTION, "transforms", "33")


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[", "null", "[[]]", '[{"kind":"Eval"}]', '[{"kind":["Resize"]}]', "[" * 100_000,
        json.dumps([{"kind": "Plain", "name": "Identity"}] * 33),
        json.dumps([{"kind": "Plain", "name": "Lambda"}]),
        json.dumps([{"kind": "Plain", "name": "Identity", "x" * 9999: 1}]),
        json.dumps([{"kind": "Resize", "size": 32}]),
        json.dumps([{"kind": "Resize", "size": [True]}]),
        json.dumps([{"kind": "Resize", "size": ["32"]}]),
        json.dumps([{"kind": "Resize", "size": [10**30]}]),
        json.dumps([{"kind": "Resize", "size": [32], "interpolation": 2}]),
        json.dumps([{"kind": "Resize", "size": [32], "api": "__class__"}]),
        json.dumps([{"kind": "Pad", "padding": [1, 2, 3]}]),
        json.dumps([{"kind": "Pad", "padding": [1], "fill": [0.0] * 4}]),
        json.dumps([{"kind": "ToDtype", "dtype": "complex64"}]),
        '[{"kind":"Normalize","mean":[NaN],"std":[1]}]',
        '[{"kind":"Normalize","mean":[0],"std":[1e999]}]',
        '[{"kind":"Normalize","mean":[0],"std":[0]}]',
    ],
    ids=lambda text: text[:60],
)  # fmt: skip
def test_hostile_text_is_refused(text: str) -> None:
    with pytest.raises(ParticipantError) as refused:
        transform_records.load(text)
    (found,) = refused.value.problems
    assert found.code is Code.MALFORMED_GRAPH
    assert len(found.where) <= 200
    assert len(found.got) <= 300


def test_the_input_shape_is_found_by_running() -> None:
    assert rebuilding.input_shape(transforms.describe([v2.Resize((48, 56)), *FLOAT])) == (3, 48, 56)
    assert rebuilding.input_shape(transforms.describe([v2.Grayscale(), v2.CenterCrop(40), *FLOAT])) == (
        1,
        40,
        40,
    )


def test_a_shape_that_follows_the_image_is_refused_with_what_was_seen() -> None:
    code, text = shape_error([v2.Resize(48), *FLOAT])

    assert code is Code.TRANSFORM_SHAPE
    assert "float32 (3, 48, 64) from 80x60 pixels" in text
    assert "float32 (3, 146, 48) from 37x113 pixels" in text


@pytest.mark.parametrize(
    ("pipeline", "got"),
    [
        ([], "a PIL image"),
        (v1.Compose([]), "a PIL image"),
        (v1.Compose(None), "a PIL image"),
        ([v2.Resize((32, 32))], "a PIL image"),
        ([v2.Resize((32, 32)), v2.ToImage()], "uint8 (3, 32, 32)"),
    ],
)
def test_what_does_not_end_in_float32_is_told_how_to(pipeline: list[Any], got: str) -> None:
    code, text = shape_error(pipeline)

    assert code is Code.TRANSFORM_SHAPE
    assert got in text
    assert "ToDtype(torch.float32, scale=True)" in text


def test_an_input_of_more_than_1024_pixels_a_side_is_refused() -> None:
    assert rebuilding.input_shape(transforms.describe([v2.Resize((1024, 8)), *FLOAT])) == (3, 1024, 8)
    assert shape_error([v2.Resize((1025, 8)), *FLOAT])[0] is Code.TRANSFORM_SHAPE


def test_a_step_that_raises_is_named_with_the_image_size() -> None:
    code, text = shape_error([v2.Resize((32, 32)), v2.Normalize(MEAN, STD)])

    assert code is Code.TRANSFORM_FAILED
    assert "transforms[1]: Normalize, on an image of 80x60 pixels" in text
    assert "PIL" in text


def test_a_step_that_raises_on_some_image_only_is_the_participants_error() -> None:
    """A reflected border cannot be wider than the image; the trial images are wide enough for this one."""
    records = transforms.describe(
        [v2.ToImage(), v2.Pad(30, padding_mode="reflect"), v2.Resize((8, 8)), *FLOAT]
    )
    assert rebuilding.input_shape(records) == (3, 8, 8)

    with pytest.raises(ParticipantError, match="on an image of 20x20 pixels"):
        rebuilding.build(records)(Image.new("RGB", (20, 20)))


@pytest.mark.parametrize(
    "pipeline",
    [
        [v2.Resize((1, 2048)), v2.Resize(2048), v2.Resize((8, 8))],  # 2048 x 4,194,304
        [*[v2.Pad(2048) for _ in range(20)], v2.Resize((8, 8))],  # sides of 82,000
    ],
)
def test_a_chain_that_would_fill_the_memory_is_refused_before_it_runs(pipeline: list[Any]) -> None:
    code, text = shape_error([*pipeline, *FLOAT])

    assert code is Code.TRANSFORM_FAILED
    assert "pixels" in text


@pytest.mark.parametrize(
    ("pipeline", "got"),
    [
        ([*[v2.Resize((64, 64), InterpolationMode.LANCZOS)] * 30, *FLOAT], ["a second Resize"] * 29),
        ([v2.Resize(70), v2.CenterCrop(64), v2.CenterCrop(32), *FLOAT], ["a second CenterCrop"]),
        ([v2.Resize((32, 32)), v2.Pad(1), v2.Pad(1), *FLOAT], ["a second Pad"]),
        ([v2.Resize((32, 32)), v2.Grayscale(3), v2.Grayscale(), *FLOAT], ["a second Grayscale"]),
        (
            [v2.Resize((32, 32)), *FLOAT, v2.Normalize(MEAN, STD), v2.Normalize(MEAN, STD)],
            ["a second Normalize"],
        ),
        ([*FLOAT, v2.Normalize(MEAN, STD), v2.Resize((32, 32))], ["Resize after Normalize"]),
        (
            [v2.Resize((32, 32)), *FLOAT, v2.Normalize(MEAN, STD), v2.Grayscale(3)],
            ["Grayscale after Normalize"],
        ),
        (  # a channel with a sign for nothing: what is below 0 wraps to above 127
            [
                v2.Resize((32, 32)),
                *FLOAT,
                v2.Normalize([0.5] * 3, [0.01] * 3),
                v2.ToDtype(torch.uint8),
                v2.ToDtype(torch.float32),
            ],
            ["from float32 back to uint8"],
        ),
        (
            [v1.Resize((32, 32)), v1.ToTensor(), v1.ConvertImageDtype(torch.uint8), *FLOAT[1:]],
            ["from float32 back to uint8"],
        ),
    ],
)
def test_what_does_more_than_prepare_an_image_is_refused_by_name(pipeline: list[Any], got: list[str]) -> None:
    with pytest.raises(ParticipantError) as refused:
        rebuilding.input_shape(transforms.describe(pipeline))
    assert [problem.code for problem in refused.value.problems] == [Code.TRANSFORM_ORDER] * len(got)
    assert [problem.got for problem in refused.value.problems] == got


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenetv4_conv_small", "vit_tiny_patch16_224", "ghostnet_100", "swinv2_cr_tiny_224"],
)
def test_the_evaluation_transforms_of_timm_are_taken_as_they_are(name: str) -> None:
    library: Any = timm.data
    data = library.resolve_data_config(timm.get_pretrained_cfg(name).to_dict())
    made = library.create_transform(**data, is_training=False)

    assert rebuilding.input_shape(transforms.describe(made)) == data["input_size"]
    for image in IMAGES:
        assert torch.equal(rebuilt(made)(image), made(image))


SMALL = [noise(1, 1), noise(100, 2), noise(2, 100)]


@pytest.mark.parametrize("resize", ["longer", "pad first"])
@pytest.mark.parametrize("size", [32, (24, 40)])
def test_a_letterbox_shows_the_whole_image_in_the_middle(resize: Order, size: Any) -> None:
    box = Letterbox(size, fill=[9, 0, 255], resize=resize, interpolation=InterpolationMode.BICUBIC)
    height, width = (size, size) if isinstance(size, int) else size

    assert rebuilding.input_shape(transforms.describe([box, *FLOAT]), extremes=True) == (3, height, width)
    for image in (*IMAGES, *SMALL):
        letterboxed = box(image)
        assert letterboxed.size == (width, height)
        assert torch.equal(rebuilt([box, *FLOAT])(image), apply([*FLOAT], letterboxed))
    for image in IMAGES:
        letterboxed = box(image)
        scale = min(height / image.height, width / image.width)
        bare = np.all(np.asarray(letterboxed) == [9, 0, 255], axis=2)
        rows, columns = (int((~bare.all(axis=axis)).sum()) for axis in (1, 0))
        assert abs(rows - max(1, image.height * scale)) <= 5  # the filter reaches two pixels
        assert abs(columns - max(1, image.width * scale)) <= 5


def test_padding_first_is_what_square_pad_and_resize_do() -> None:
    """The preprocessing that is published with detectors' crops: F.pad to a square, then Resize."""
    for image in (noise(80, 60), noise(36, 112), noise(48, 48)):
        side = max(image.size)
        across, down = (side - image.width) // 2, (side - image.height) // 2
        expected = v2.Resize((32, 32))(v2.functional.pad(image, [across, down, across, down]))
        assert np.array_equal(np.asarray(Letterbox(32, resize="pad first")(image)), np.asarray(expected))


def test_a_letterbox_works_on_tensors_as_well() -> None:
    image = v2.functional.pil_to_tensor(noise(80, 60))
    for resize in ("longer", "pad first"):
        assert Letterbox(32, resize=resize)(image).shape == (3, 32, 32)


def test_a_mean_of_one_number_is_taken_as_torchvision_does() -> None:
    step = v1.Normalize(0.5, 0.25)
    image = noise(8, 8)
    assert torch.equal(rebuilt([*FLOAT, step])(image), apply([*FLOAT, step], image))


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": (1, 2, 3)}, {"size": 32.5}, {"size": 8, "resize": "shorter"}]
)
def test_a_letterbox_of_nonsense_raises(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"or the side of a square|'longer' or 'pad first'"):
        Letterbox(**wrong)


@pytest.mark.parametrize(
    ("pipeline", "got"),
    [
        ([Letterbox(32), v2.Resize((32, 32)), *FLOAT], "a second Resize"),
        ([v2.Resize((40, 32)), Letterbox(32), *FLOAT], "a second Resize"),
        ([v2.Pad(2), Letterbox(32), *FLOAT], "a second Pad"),
        ([Letterbox(40), Letterbox(32), *FLOAT], "a second Pad and a second Resize"),
        ([*FLOAT, v2.Normalize(MEAN, STD), Letterbox(32)], "Letterbox after Normalize"),
    ],
)
def test_a_letterbox_is_one_resize_and_one_pad(pipeline: list[Any], got: str) -> None:
    with pytest.raises(ParticipantError) as refused:
        rebuilding.input_shape(transforms.describe(pipeline))
    assert [(p.code, p.got) for p in refused.value.problems] == [(Code.TRANSFORM_ORDER, got)]


def test_a_letterbox_that_would_fill_the_memory_is_refused_before_it_runs() -> None:
    """Padded to 1 : 2048 an image of 200 x 200 pixels has 200 x 409,600."""
    code, text = shape_error([Letterbox((1, 2048), resize="pad first"), v2.CenterCrop(8), *FLOAT])

    assert code is Code.TRANSFORM_FAILED
    assert "pixels" in text


class SquarePad:
    """As it is written in the original competition's preprocessing."""

    def __call__(self, _: Image.Image) -> Image.Image:
        """Never called."""
        raise AssertionError("a transform of a plugin was called")


class LetterBoxResize(SquarePad):
    """By another name."""


class ResizeKeepRatio(SquarePad):
    """As timm calls it."""


def expand2square(_: Image.Image, background: object = None) -> Image.Image:
    """As LLaVA's preprocessing calls it."""
    raise AssertionError(f"a transform of a plugin was called: {background}")


@pytest.mark.parametrize(
    "item",
    [
        SquarePad(),
        LetterBoxResize(),
        ResizeKeepRatio(),
        expand2square,
        functools.partial(expand2square, background=0),
    ],
)
def test_a_letterbox_of_ones_own_is_told_of_the_kits(item: object) -> None:
    with pytest.raises(ParticipantError) as refused:
        transforms.describe([item, *FLOAT])
    (found,) = refused.value.problems
    assert found.code is Code.TRANSFORM_UNKNOWN
    assert "from starter.transforms import Letterbox" in found.hint


@pytest.mark.parametrize(
    ("pipeline", "where"),
    [
        ([v2.ToImage(), v2.Pad(30, padding_mode="reflect"), v2.Resize((8, 8)), *FLOAT], "of 1x1 pixels"),
        ([v2.Resize(1500), v2.CenterCrop(8), *FLOAT], "of 500x10 pixels"),
    ],
)
def test_a_pipeline_is_tried_on_extreme_shapes_where_it_is_asked_for(pipeline: list[Any], where: str) -> None:
    """Of what a plugin brings; what a store holds is run again as it was."""
    records = transforms.describe(pipeline)

    assert rebuilding.input_shape(records) == (3, 8, 8)
    with pytest.raises(ParticipantError, match=where):
        rebuilding.input_shape(records, extremes=True)


def test_a_partial_of_anything_else_is_unknown() -> None:
    assert problems_of(functools.partial(v2.Resize, 8))[0][0] is Code.TRANSFORM_UNKNOWN
