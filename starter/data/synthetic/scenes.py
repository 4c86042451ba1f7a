"""Draw photographs of littered ground, with COCO boxes: the packaged data set's source.

Scenes go the way real pictures go: `starter data crops` cuts the boxes. The grounds
are in textures.py, the objects in waste.py, their light in objects.py.
The same seed and the same library versions give the same files; other versions may
round differently, which is why the packaged set is shipped as files.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from starter.contract.errors import Code, usage_error
from starter.data.synthetic.objects import Light, frame_for, light_up
from starter.data.synthetic.textures import Field, from_image, ground, noise, to_image
from starter.data.synthetic.waste import KINDS

SHARES = {
    "Metal": 0.12,
    "Paper": 0.27,
    "Paperpack": 0.08,
    "Plastic": 0.33,
    "Plasticbag": 0.15,
    "Styrofoam": 0.05,
}
"""How often each class is drawn: about as unequal as litter on the street."""

SUPERCATEGORIES = {
    "Metal": "recyclable", "Paper": "recyclable", "Paperpack": "recyclable",
    "Plastic": "recyclable", "Plasticbag": "film", "Styrofoam": "foam",
}  # fmt: skip

LEAST_VISIBLE = 0.55
"""An object less visible than this share is left without a box."""


class Box(TypedDict):
    """One of the COCO file's annotations, but for its numbers."""

    category_id: int
    bbox: list[int]
    """Left, top, width, height in pixels."""
    area: int
    iscrowd: int
    segmentation: list[float]


@dataclass
class _Scene:
    """One picture while it is drawn."""

    picture: Field
    owner: NDArray[np.int16]
    """Which object shows at each pixel; -1 is the ground."""
    light: Light


def draw_scenes(
    out: Path,
    *,
    num_scenes: int,
    seed: int = 0,
    size: tuple[int, int] = (352, 288),
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `out/annotations.json` (COCO) and `out/images/NUMBER.jpg`.

    `size` is (width, height) in pixels; some scenes are turned upright. `on_progress` is
    called with (scenes done, num_scenes).

    Raises:
        UsageError: `out` exists and is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise usage_error(Code.TARGET_EXISTS, where=str(out), got="a folder that is not empty")
    (out / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in range(num_scenes):
        # A generator of its own makes a scene independent of how many come before it.
        rng = np.random.default_rng([seed, number])
        wide, tall = size if rng.random() < 0.6 else size[::-1]
        jpeg, boxes = draw_scene(rng, (tall, wide))
        name = f"{number:06d}.jpg"
        (out / "images" / name).write_bytes(jpeg)
        images.append({"id": number, "file_name": name, "width": wide, "height": tall, "license": 1})
        for box in boxes:
            annotations.append({"id": len(annotations), "image_id": number, **box})
        if on_progress:
            on_progress(number + 1, num_scenes)
    coco = _header(num_scenes, seed) | {"images": images, "annotations": annotations}
    (out / "annotations.json").write_text(json.dumps(coco, indent=1), encoding="utf-8", newline="\n")


def draw_scene(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[bytes, list[Box]]:
    """Draw one scene of `shape` (height, width): its JPEG and its COCO annotations without ids."""
    scene = _Scene(ground(rng, shape), np.full(shape, -1, np.int16), _light(rng))
    names = list(KINDS)
    chosen = rng.choice(len(names), int(rng.integers(2, 6)), p=list(SHARES.values()))
    areas = [_place(scene, rng, names[label], index) for index, label in enumerate(chosen)]
    annotations = []
    for index, label in enumerate(chosen):
        seen = scene.owner == index
        if seen.sum() >= max(1, LEAST_VISIBLE * areas[index]):
            annotations.append(_annotation(seen, int(label) + 1))
    if rng.random() < 0.08:
        annotations.append(_pile(scene, rng))
    if rng.random() < 0.05:
        annotations.append(_slip(rng, shape))
    return _photograph(scene.picture, rng), annotations


def _light(rng: np.random.Generator) -> Light:
    turn, rise = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.25)
    flat = np.cos(rise)
    direction = (float(flat * np.cos(turn)), float(flat * np.sin(turn)), float(np.sin(rise)))
    phase = rng.uniform(0, 2 * np.pi, 2)
    return Light(direction, float(rng.uniform(0.25, 0.6)), (float(phase[0]), float(phase[1])))


def _place(
    scene: _Scene, rng: np.random.Generator, name: str, index: int, long_side: float | None = None,
    centre: tuple[float, float] | None = None,
) -> int:  # fmt: skip
    """Draw one object of class `name` into the scene; return its area in pixels, unoccluded."""
    tall, wide = scene.owner.shape
    frame = frame_for(rng, long_side or float(np.exp(rng.uniform(np.log(66), np.log(140)))))
    kinds = KINDS[name]
    patch = kinds[rng.integers(len(kinds))](frame)
    cx, cy = centre or (rng.uniform(0.08, 0.92) * wide, rng.uniform(0.08, 0.92) * tall)
    n = patch.mask.shape[0]
    left, top = int(cx - n / 2), int(cy - n / 2)
    inner = np.s_[max(0, -top) : min(n, tall - top), max(0, -left) : min(n, wide - left)]
    outer = np.s_[max(0, top) : min(tall, top + n), max(0, left) : min(wide, left + n)]
    opacity = np.broadcast_to(np.asarray(patch.opacity, np.float32), patch.mask.shape)
    cover = (patch.mask * opacity)[inner][..., None]
    scene.picture[outer] *= (
        1 - _shadow(patch.mask * (0.3 + 0.7 * opacity), scene.light, rng)[inner][..., None]
    )
    scene.picture[outer] += (light_up(patch, frame, scene.light)[inner] - scene.picture[outer]) * cover
    scene.owner[outer][patch.mask[inner] > 0.5] = index
    return int((patch.mask > 0.5).sum())


def _shadow(mask: Field, light: Light, rng: np.random.Generator) -> Field:
    """Where the object keeps the light from the ground, 0-1: its outline, moved away from the light."""
    far = rng.uniform(2, 7)
    lean = far / max(light.direction[2], 0.35)
    blurred = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(1 + far / 3))
    field = np.asarray(blurred, np.float32) / np.float32(255)
    moved = np.roll(
        field, (round(-light.direction[1] * lean), round(-light.direction[0] * lean)), axis=(0, 1)
    )
    return moved * np.float32(0.75 * (1 - light.ambient))


def _annotation(seen: NDArray[np.bool_], category_id: int, crowd: int = 0) -> Box:
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "category_id": category_id,
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "area": int(seen.sum()),
        "iscrowd": crowd,
        "segmentation": [],
    }


def _pile(scene: _Scene, rng: np.random.Generator) -> Box:
    """A heap of small things of one class, under one crowd box."""
    label = int(rng.integers(len(KINDS)))
    tall, wide = scene.owner.shape
    cx, cy = rng.uniform(0.2, 0.8) * wide, rng.uniform(0.2, 0.8) * tall
    for _ in range(8):
        centre = (cx + float(rng.normal(0, 16)), cy + float(rng.normal(0, 16)))
        _place(scene, rng, list(KINDS)[label], 99, float(rng.uniform(14, 30)), centre)
    return _annotation(scene.owner == 99, label + 1, crowd=1)


def _slip(rng: np.random.Generator, shape: tuple[int, int]) -> Box:
    """A slip of the annotator's mouse: a box of a few pixels, or of none."""
    x, y = (int(rng.integers(side - 4)) for side in shape[::-1])
    wide, tall = (int(side) for side in rng.integers(0, 4, 2))
    label = int(rng.integers(len(KINDS))) + 1
    box = [x, y, wide, tall]
    return {"category_id": label, "bbox": box, "area": wide * tall, "iscrowd": 0, "segmentation": []}


def _photograph(picture: Field, rng: np.random.Generator) -> bytes:
    """What the camera makes of the scene: cast, exposure, vignette, blur, noise and JPEG."""
    shape = picture.shape[:2]
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    falloff = 1 - rng.uniform(0, 0.35) * (x**2 + y**2) / 2 * (0.7 + 0.6 * noise(rng, shape, 3))
    cast = rng.uniform(0.93, 1.07, 3) * rng.uniform(0.8, 1.12)
    exposed = picture * (falloff[..., None] * cast).astype(np.float32)
    blurred = to_image(exposed).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))
    grainy = from_image(blurred) + rng.standard_normal(picture.shape, dtype=np.float32) * rng.uniform(
        0, 0.025
    )
    buffer = BytesIO()
    to_image(grainy).save(buffer, "JPEG", quality=int(rng.integers(68, 93)))
    return buffer.getvalue()


def _header(num_scenes: int, seed: int) -> dict[str, object]:
    return {
        "info": {
            "description": f"{num_scenes} drawn waste scenes, seed {seed}",
            "version": "1",
            "contributor": "starter data synth",
        },
        "licenses": [{"id": 1, "name": "MIT", "url": "https://opensource.org/license/mit"}],
        "categories": [
            {"id": number, "name": name, "supercategory": SUPERCATEGORIES[name]}
            for number, name in enumerate(KINDS, start=1)
        ],
    }
