"""The waste that scenes.py draws: shapes, materials and the light on them.

Shapes are signed distances and height maps over the object's own coordinates
(u, v), so they are antialiased at any size and turn. The classes share their
outlines and colours (a cup may be paper, plastic or foam); what tells them apart
is mostly how the surface takes the light: creases, wrinkles, highlights, beads.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from starter.data.synthetic.textures import Colour, Field, cellular, noise


@dataclass(frozen=True)
class Light:
    """The light of one scene."""

    direction: tuple[float, float, float]
    """Unit vector towards the light: right, down, towards the viewer."""
    ambient: float
    """Share of the light that comes from everywhere, 0-1."""
    phase: tuple[float, float]
    """Where the bright bands of the surroundings stand, as metal mirrors them."""


@dataclass(frozen=True)
class Frame:
    """The coordinates in which one object is drawn."""

    rng: np.random.Generator
    u: Field
    """(n, n): across the object, -1 to 1."""
    v: Field
    """(n, n): along the object, -1 to 1, downwards before it is turned."""
    unit: float
    """Pixels per unit of u and v."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return self.u.shape[0], self.u.shape[1]

    @cached_property
    def radius(self) -> Field:
        """Distance from the middle."""
        radius: Field = np.hypot(self.u, self.v)
        return radius

    def crushed(self, amount: float, cells: float = 5) -> "Frame":
        """The same frame, dented: coordinates moved by up to half of `amount`."""
        u = self.u + np.float32(amount) * (noise(self.rng, self.shape, cells) - np.float32(0.5))
        v = self.v + np.float32(amount) * (noise(self.rng, self.shape, cells) - np.float32(0.5))
        return replace(self, u=u, v=v)

    def cover(self, distance: Field) -> Field:
        """Antialiased coverage, 0-1, of the points whose signed distance is below 0."""
        cover: Field = np.clip(np.float32(0.5) - distance * np.float32(self.unit), 0, 1)
        return cover


@dataclass(frozen=True)
class Patch:
    """One object as drawn, before it is lit. Fields are (n, n)."""

    mask: Field
    """Coverage, 0-1."""
    albedo: Field
    """(n, n, 3): its colour."""
    height: Field
    """Relief in units of the frame."""
    slope: tuple[Field | float, Field | float] = (0.0, 0.0)
    """Tilt of flat faces: right, down."""
    opacity: Field | float = 1.0
    """How much of the ground it hides."""
    gloss: float = 0.0
    """Strength of the highlight."""
    sharpness: float = 20.0
    """Exponent of the highlight: larger is smaller and harder."""
    metal: Field | float = 0.0
    """Share of the light that is mirrored from the surroundings."""


def frame_for(rng: np.random.Generator, long_side: float) -> Frame:
    """A frame whose object is about `long_side` pixels long, turned at random and seen a little aslant."""
    n = int(long_side * 1.45) + 8
    axis = (np.arange(n, dtype=np.float32) - np.float32(n / 2)) * np.float32(2 / long_side)
    x, y = np.meshgrid(axis, axis)
    angle = rng.uniform(0, 2 * np.pi)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = x * cosine + y * sine, y * cosine - x * sine
    squeeze = np.float32(1 + rng.uniform(0, 0.5) * (rng.random() < 0.5))
    keystone = 1 + np.float32(rng.uniform(-0.2, 0.2)) * v
    return Frame(rng=rng, u=u * squeeze * keystone, v=v, unit=long_side / 2)


def light_up(patch: Patch, frame: Frame, light: Light) -> Field:
    """The patch's colours in this light: (n, n, 3).

    Lambert's diffuse term, Blinn's highlight, and for metal a mirrored pattern of
    bright and dark bands in place of a room.
    """
    relief = patch.height * np.float32(frame.unit)
    down, right = np.gradient(relief)
    right = np.clip(right + patch.slope[0], -3, 3)
    down = np.clip(down + patch.slope[1], -3, 3)
    inverse = 1 / np.sqrt(1 + right**2 + down**2)
    towards = np.array(light.direction)
    half = towards + np.array([0, 0, 1])
    half = half / np.linalg.norm(half)
    diffuse = np.clip((towards[2] - right * towards[0] - down * towards[1]) * inverse, 0, 1)
    shine = np.clip((half[2] - right * half[0] - down * half[1]) * inverse, 0, 1) ** patch.sharpness
    bands = np.sin(3.6 * right * inverse + light.phase[0]) * np.cos(4.2 * down * inverse + light.phase[1])
    mirrored = (0.62 + 0.55 * bands) * patch.metal
    lit = (light.ambient + (1.15 - light.ambient) * diffuse) * (1 - np.asarray(patch.metal)) + mirrored
    picture: Field = (patch.albedo * lit[..., None] + (shine * patch.gloss)[..., None]).astype(np.float32)
    return picture


# Outlines: signed distances, below 0 inside.


def box(u: Field, v: Field, wide: float, tall: float, corner: float = 0.0) -> Field:
    """Rectangle of half sides `wide` and `tall` with rounded corners."""
    x, y = np.abs(u) - np.float32(wide - corner), np.abs(v) - np.float32(tall - corner)
    outside = np.hypot(np.maximum(x, 0), np.maximum(y, 0))
    return outside + np.minimum(np.maximum(x, y), 0) - np.float32(corner)


def lathe(frame: Frame, profile: list[tuple[float, float]]) -> tuple[Field, Field]:
    """A turned body (can, bottle, cup) seen from the side: its distance and its height.

    `profile` lists (v, half width) from top to bottom.
    """
    places, widths = zip(*profile, strict=True)
    half = np.interp(frame.v, places, widths).astype(np.float32)
    bulge = np.sqrt(np.maximum(half**2 - frame.u**2, 0))
    ends = np.maximum(places[0] - frame.v, frame.v - places[-1])
    # The ends of a round body are seen as shallow arcs.
    arc = np.float32(0.09) * (1 - (frame.u / np.maximum(half, 0.01)) ** 2)
    return np.maximum(np.abs(frame.u) - half, ends - np.where(frame.v > 0, arc, 0)), bulge


def blob(frame: Frame, ragged: float, cells: float = 4) -> Field:
    """A lump or torn piece: a disc whose radius varies by about `ragged`."""
    wave = noise(frame.rng, frame.shape, cells) - np.float32(0.5)
    return frame.radius - np.float32(0.85) * (1 + np.float32(ragged) * wave)


def cup_profile(rng: np.random.Generator) -> list[tuple[float, float]]:
    """The outline of a cup with a rim, for `lathe`."""
    wide, taper = rng.uniform(0.5, 0.75), rng.uniform(0.6, 0.9)
    rim = wide * rng.uniform(1.04, 1.12)
    return [(-0.9, rim), (-0.82, rim), (-0.8, wide), (0.85, wide * taper)]


def torn(frame: Frame) -> tuple[Field, Field]:
    """Coordinates (u, v) that make straight edges ragged."""
    bent = frame.crushed(0.18, 7)
    return bent.u, bent.v


# Reliefs.


def dome(frame: Frame) -> Field:
    """Half a ball."""
    height: Field = np.sqrt(np.maximum(1 - frame.radius**2, 0))
    return height


def creases(frame: Frame, count: int, depth: float) -> Field:
    """Sharp folds along straight lines: paper and foil keep them."""
    total = np.zeros(frame.shape, np.float32)
    for angle, offset, fold in zip(
        frame.rng.uniform(0, np.pi, count),
        frame.rng.uniform(-0.8, 0.8, count),
        frame.rng.normal(0, depth, count),
        strict=True,
    ):
        line = frame.u * np.float32(np.cos(angle)) + frame.v * np.float32(np.sin(angle))
        total += np.abs(line - np.float32(offset)) * np.float32(fold)
    return total


def crumple(frame: Frame, depth: float) -> Field:
    """Many short sharp folds, as in a paper ball: creases that end where the facets around them do."""
    folded = frame.crushed(0.35, 5)
    broad = creases(folded, 9, 0.22 * depth)
    broad += np.abs((creases(folded, 6, 0.9) % 0.5) - np.float32(0.25)) * np.float32(0.45 * depth)
    return broad


def wrinkles(frame: Frame, depth: float, cells: float = 6) -> Field:
    """Curved, soft-sided ridges: film and bags."""
    bent = frame.crushed(0.5, 4)
    stretched = noise(frame.rng, frame.shape, cells) + np.float32(0.4) * np.sin(
        bent.u * np.float32(frame.rng.uniform(4, 9)) + bent.v * np.float32(frame.rng.uniform(-5, 5))
    )
    fine = noise(frame.rng, frame.shape, cells * 2.5)
    ridge: Field = np.float32(-depth) * (
        np.abs((stretched % 1) - 0.5) + np.float32(0.5) * np.abs(fine - np.float32(0.5))
    )
    return ridge


def beads(frame: Frame, depth: float) -> Field:
    """Packed beads a few pixels wide: foam."""
    distance, _ = cellular(frame.rng, frame.shape, max(2.6, frame.unit * frame.rng.uniform(0.08, 0.14)))
    return np.float32(-depth) * distance**2


def grain(frame: Frame, strength: float) -> Field:
    """Fibre: a faint unevenness of every pixel."""
    return frame.rng.standard_normal(frame.shape, dtype=np.float32) * np.float32(strength)


# Colours.


def white(rng: np.random.Generator) -> Colour:
    """Off-white, warm or cold."""
    return (rng.uniform(0.7, 0.98) + rng.uniform(-0.05, 0.05, 3)).astype(np.float32)


def brown(rng: np.random.Generator) -> Colour:
    """Kraft paper and cardboard."""
    return (np.array([0.66, 0.5, 0.34]) * rng.uniform(0.65, 1.2) + rng.uniform(-0.04, 0.04, 3)).astype(
        np.float32
    )


def bright(rng: np.random.Generator) -> Colour:
    """A printed colour, from pale to strong."""
    hue = (np.cos(rng.uniform(0, 2 * np.pi) + np.array([0, 2.1, 4.2])) + 1) / 2
    strength = rng.uniform(0.3, 1)
    return ((1 - strength + strength * hue) * rng.uniform(0.4, 0.95)).astype(np.float32)


def dye(rng: np.random.Generator, plain: float) -> Colour:
    """Off-white with probability `plain`, else a printed colour, or now and then near black."""
    if rng.random() < plain:
        return white(rng)
    return bright(rng) if rng.random() < 0.85 else np.full(3, rng.uniform(0.05, 0.2), np.float32)


def flat(frame: Frame, colour: Colour) -> Field:
    """One colour everywhere: (n, n, 3)."""
    return np.broadcast_to(colour, (*frame.shape, 3))


def over(albedo: Field, colour: Colour, share: Field) -> Field:
    """Lay a colour over an albedo where share is 1."""
    return albedo + (colour - albedo) * share[..., None]


def printed(frame: Frame, base: Colour, items: int) -> Field:
    """`base` with bands, discs and lines of type: packaging. (n, n, 3)."""
    albedo, rng = flat(frame, base), frame.rng
    for _ in range(items):
        colour, kind, v0 = dye(rng, 0.3), rng.integers(3), rng.uniform(-0.8, 0.8)
        if kind == 0:
            share = frame.cover(np.abs(frame.v - np.float32(v0)) - np.float32(rng.uniform(0.05, 0.3)))
        elif kind == 1:
            away = np.hypot(frame.u - np.float32(rng.uniform(-0.3, 0.3)), frame.v - np.float32(v0))
            share = frame.cover(away - np.float32(rng.uniform(0.1, 0.35)))
        else:
            share = type_lines(frame, rng.uniform(0.1, 0.2)) * frame.cover(
                box(frame.u, frame.v - np.float32(v0), 0.35, 0.2)
            )
        albedo = over(albedo, colour, share)
    return albedo


def type_lines(frame: Frame, step: float) -> Field:
    """Lines of something like text, `step` apart: coverage 0-1."""
    line = frame.v / np.float32(step)
    words = noise(frame.rng, frame.shape, 26)
    return ((line % 1 < 0.45) & (words > 0.42)).astype(np.float32)
