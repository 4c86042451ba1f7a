"""Noise fields, and the grounds that the drawn waste of scenes.py lies on.

A field is float32 (height, width); a picture is float32 (height, width, 3), RGB, 0-1.
Everything random comes from the generator that is passed in.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Field = NDArray[np.float32]
"""float32 (height, width), or (height, width, 3) for a picture."""

Colour = NDArray[np.float32]
"""float32 (3,), RGB, 0-1."""


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: float, stretch: float = 1.0) -> Field:
    """Smooth noise around 0..1 with about `cells` bumps along the longer side.

    `stretch` above 1 makes the bumps longer from left to right.
    """
    per_pixel = cells / max(shape)
    rows = max(2, round(shape[0] * per_pixel) + 1)
    columns = max(2, round(shape[1] * per_pixel / stretch) + 1)
    coarse = Image.fromarray(rng.random((rows, columns), dtype=np.float32))
    fine = coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(fine, dtype=np.float32)


def fractal(rng: np.random.Generator, shape: tuple[int, int], cells: float, octaves: int = 3) -> Field:
    """Noise of several sizes, each half as large and half as strong as the one before; about 0..1."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        total += noise(rng, shape, cells * 2**octave) * np.float32(0.5**octave)
    return total / np.float32(2 - 0.5 ** (octaves - 1))


def cellular(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> tuple[Field, Field]:
    """Distance to the nearest of jittered points `cell` pixels apart, and a random value per cell.

    Distances are in cells. Source: Worley 1996, A Cellular Texture Basis Function.
    """
    rows, columns = int(shape[0] / cell) + 3, int(shape[1] / cell) + 3
    jitter = rng.random((3, rows, columns), dtype=np.float32)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32) / np.float32(cell) + 1
    row, column = y.astype(np.int32), x.astype(np.int32)
    nearest = np.full(shape, 9, np.float32)
    value = np.zeros(shape, np.float32)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            i, j = row + down, column + right
            distance = np.hypot(jitter[0, i, j] + i - y, jitter[1, i, j] + j - x)
            closer = distance < nearest
            nearest = np.where(closer, distance, nearest)
            value = np.where(closer, jitter[2, i, j], value)
    return nearest, value


def tint(rng: np.random.Generator, base: tuple[float, float, float], spread: float) -> Colour:
    """A colour near `base`: brightness and each channel moved by up to `spread`."""
    moved = np.array(base) * (1 + rng.uniform(-spread, spread)) + rng.uniform(-spread, spread, 3) * 0.15
    return np.clip(moved, 0.02, 1).astype(np.float32)


def blend(low: Colour, high: Colour, share: Field) -> Field:
    """Picture that is `low` where share is 0 and `high` where it is 1."""
    return low + (high - low) * share[..., None]


def turned(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Field, Field]:
    """Pixel coordinates along two axes turned by a random angle."""
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def asphalt(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Grey stones in tar, with worn patches."""
    _, stones = cellular(rng, shape, rng.uniform(2.5, 5))
    share = 0.5 * stones + 0.5 * fractal(rng, shape, 6)
    return blend(tint(rng, (0.2, 0.2, 0.21), 0.3), tint(rng, (0.5, 0.5, 0.5), 0.25), share)


def concrete(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Pale, cloudy, with fine grain; about as bright as paper and foam."""
    share = 0.7 * fractal(rng, shape, 5, 4) + 0.3 * rng.random(shape, dtype=np.float32)
    return blend(tint(rng, (0.48, 0.47, 0.45), 0.2), tint(rng, (0.8, 0.79, 0.76), 0.15), share)


def sand(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Grains and ripples."""
    along, _ = turned(rng, shape)
    ripples = 0.5 + 0.5 * np.sin(along * rng.uniform(0.08, 0.3) + 9 * noise(rng, shape, 5))
    share = 0.3 * ripples + 0.4 * rng.random(shape, dtype=np.float32) + 0.3 * fractal(rng, shape, 8)
    return blend(tint(rng, (0.5, 0.4, 0.28), 0.2), tint(rng, (0.86, 0.77, 0.6), 0.12), share)


def grass(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Blades over dark soil."""
    soil = blend(
        tint(rng, (0.1, 0.13, 0.06), 0.3), tint(rng, (0.25, 0.28, 0.12), 0.3), fractal(rng, shape, 9)
    )
    picture = to_image(soil)
    draw = ImageDraw.Draw(picture)
    low, high = tint(rng, (0.2, 0.33, 0.1), 0.3), tint(rng, (0.55, 0.62, 0.25), 0.25)
    count = shape[0] * shape[1] // 90
    starts = rng.uniform((-5, -5), (shape[1] + 5, shape[0] + 5), (count, 2))
    ends = starts + rng.normal(0, 9, (count, 2))
    shades = low + (high - low) * rng.random((count, 1))
    for start, end, shade in zip(starts, ends, (shades * 255).astype(int), strict=True):
        draw.line((*start, *end), fill=tuple(shade.tolist()), width=int(rng.integers(1, 3)))
    return from_image(picture)


def wood(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Planks with grain, and dark gaps between them."""
    side = max(shape)
    grain = fractal(rng, (side, side), 5) * 0.5 + noise(rng, (side, side), 70, stretch=18) * 0.5
    plank = rng.uniform(30, 80)
    rows = np.arange(side, dtype=np.float32) / np.float32(plank)
    tones = rng.uniform(-0.2, 0.2, side)[rows.astype(int)].astype(np.float32)
    gap = np.clip((rows % 1) * plank / 2, 0.35, 1).astype(np.float32)
    picture = blend(
        tint(rng, (0.3, 0.2, 0.12), 0.3), tint(rng, (0.75, 0.58, 0.4), 0.2), grain + tones[:, None]
    )
    picture = picture * gap[:, None, None]
    return np.ascontiguousarray(np.rot90(picture, int(rng.integers(4)))[: shape[0], : shape[1]])


def tiles(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Tiles or paving, each of its own tone, with joints."""
    along, across = turned(rng, shape)
    side, aspect = rng.uniform(35, 110), rng.uniform(1, 2.2)
    i, j = np.floor(along / side), np.floor(across / (side * aspect))
    tone = np.sin(i * 12.99 + j * 78.23 + rng.uniform(0, 6)) * 0.5 + 0.5
    edge = np.minimum(along - i * side, across - j * side * aspect)
    joint = np.clip(edge - rng.uniform(1, 4), 0, 1)
    base = (0.72, 0.68, 0.63) if rng.random() < 0.6 else (0.55, 0.36, 0.3)
    share = 0.35 * tone + 0.65 * fractal(rng, shape, 12)
    picture = blend(tint(rng, base, 0.3), tint(rng, (0.85, 0.82, 0.78), 0.15), share.astype(np.float32))
    shaded: Field = picture * (0.55 + 0.45 * joint).astype(np.float32)[..., None]
    return shaded


def carpet(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """A weave in two colours."""
    along, across = turned(rng, shape)
    step = rng.uniform(0.6, 1.6)
    weave = 0.5 + 0.25 * np.sin(along * step) + 0.25 * np.sin(across * step)
    stripes = (np.sin(along * rng.uniform(0.03, 0.12)) > rng.uniform(-1, 1)) * 0.35
    share = 0.5 * weave + stripes + 0.25 * rng.random(shape, dtype=np.float32)
    low, high = rng.uniform(0.05, 0.5, 3), rng.uniform(0.3, 0.85, 3)
    return blend(low.astype(np.float32), high.astype(np.float32), share.astype(np.float32))


def cloth(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """A table top or sheet of plastic in one colour, nearly even: bright as often as not."""
    share = fractal(rng, shape, 3) + 0.05 * rng.standard_normal(shape, dtype=np.float32)
    base = (0.85, 0.85, 0.83) if rng.random() < 0.5 else tuple(rng.uniform(0.1, 0.8, 3).tolist())
    return blend(tint(rng, base, 0.15) * np.float32(0.8), tint(rng, base, 0.1), share)


GROUNDS: tuple[Callable[[np.random.Generator, tuple[int, int]], Field], ...] = (
    asphalt, concrete, sand, grass, wood, tiles, carpet, cloth,
)  # fmt: skip


def ground(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """One of the grounds, with twigs, leaves and pebbles strewn on it (nothing that is waste)."""
    picture = to_image(GROUNDS[rng.integers(len(GROUNDS))](rng, shape))
    draw = ImageDraw.Draw(picture, "RGBA")
    for _ in range(int(rng.integers(0, 26))):
        _strew(draw, rng, shape)
    return from_image(picture)


def _strew(draw: ImageDraw.ImageDraw, rng: np.random.Generator, shape: tuple[int, int]) -> None:
    x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
    long, flat = rng.uniform(3, 14), rng.uniform(0.3, 0.9)
    angles = np.linspace(0, 2 * np.pi, 9) + rng.uniform(-0.2, 0.2, 9)
    turn = rng.uniform(0, np.pi)
    outline = np.stack([np.cos(angles) * long, np.sin(angles) * long * flat])
    turns = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (turns @ outline).T + np.array([x, y])
    colour = (tint(rng, (0.42, 0.34, 0.2), 0.5) * 255).astype(int).tolist()
    draw.polygon([tuple(p) for p in (points + 2).tolist()], fill=(0, 0, 0, 70))
    if rng.random() < 0.3:
        draw.line(
            (x, y, x + long * 3 * np.cos(turn), y + long * 3 * np.sin(turn)), fill=(*colour, 255), width=2
        )
        return
    draw.polygon([tuple(p) for p in points.tolist()], fill=(*colour, 255))


def to_image(picture: Field) -> Image.Image:
    """Make a PIL image of a picture; values are clipped to 0-1."""
    return Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))


def from_image(image: Image.Image) -> Field:
    """Make a picture of a PIL RGB image."""
    return np.asarray(image, dtype=np.float32) / np.float32(255)
