"""The kinds of waste with a dull surface: paper, drink cartons and foam.

A kind is a function from a frame to a patch; waste.py lists them by class.
"""

import numpy as np

from starter.data.synthetic import objects as so
from starter.data.synthetic.objects import Frame, Patch
from starter.data.synthetic.textures import Field


def _cuboid(frame: Frame, wide: float, tall: float) -> tuple[Field, tuple[Field, Field], Field]:
    """A box seen from a corner: coverage, tilt of its three faces, and their shade."""
    rng = frame.rng
    depth_u, depth_v = np.float32(rng.uniform(0.12, 0.4)), np.float32(rng.uniform(0.1, 0.35))
    side = np.clip((frame.u - np.float32(wide)) / depth_u, 0, 1)
    top = np.clip((-np.float32(tall) - frame.v) / depth_v, 0, 1)
    slide = np.maximum(side, top)
    distance = so.box(frame.u - slide * depth_u, frame.v + slide * depth_v, wide, tall)
    on_side, on_top = (side > 0) & (side >= top), (top > 0) & (top > side)
    tilt = rng.uniform(-1.3, 1.3, 4)
    right = np.where(on_side, tilt[0], np.where(on_top, tilt[1], 0)).astype(np.float32)
    down = np.where(on_side, tilt[2], np.where(on_top, tilt[3], 0)).astype(np.float32)
    shade = np.where(on_side, rng.uniform(0.55, 0.9), np.where(on_top, rng.uniform(0.8, 1.08), 1))
    return frame.cover(distance), (right, down), shade.astype(np.float32)


# Paper: matte, fibre, sharp folds.


def sheet(frame: Frame) -> Patch:
    """A flat sheet, blank or written on."""
    rng = frame.rng
    u, v = so.torn(frame) if rng.random() < 0.4 else (frame.u, frame.v)
    albedo = so.flat(frame, so.dye(rng, 0.9))
    if rng.random() < 0.6:
        ink = so.type_lines(frame, rng.uniform(0.07, 0.16)) * frame.cover(so.box(u, v, 0.5, 0.7))
        albedo = so.over(albedo, np.full(3, 0.25, np.float32), ink * np.float32(rng.uniform(0.3, 0.9)))
    return Patch(
        frame.cover(so.box(u, v, rng.uniform(0.55, 0.75), 0.9)), albedo,
        so.creases(frame, int(rng.integers(1, 8)), 0.1) + so.grain(frame, 0.002), gloss=0.03,
    )  # fmt: skip


def paper_ball(frame: Frame) -> Patch:
    """A crumpled sheet."""
    rng = frame.rng
    colour = so.brown(rng) if rng.random() < 0.2 else so.dye(rng, 0.9)
    return Patch(
        frame.cover(so.blob(frame.crushed(0.15, 9), 0.6)), so.flat(frame, colour),
        np.float32(0.5) * so.dome(frame) + so.crumple(frame, rng.uniform(0.5, 1)) + so.grain(frame, 0.003),
        gloss=0.03,
    )  # fmt: skip


def newspaper(frame: Frame) -> Patch:
    """A page in columns with a picture."""
    rng = frame.rng
    columns = (np.abs((frame.u * 2.2) % 1 - 0.5) < 0.42).astype(np.float32)
    ink = so.type_lines(frame, rng.uniform(0.05, 0.1)) * columns * np.float32(rng.uniform(0.4, 0.75))
    photo = so.box(frame.u - np.float32(rng.uniform(-0.4, 0.4)), frame.v - np.float32(0.3), 0.25, 0.2)
    albedo = so.over(so.flat(frame, so.white(rng) * np.float32(0.9)), np.full(3, 0.15, np.float32), ink)
    albedo = so.over(albedo, so.bright(rng) * np.float32(0.6), frame.cover(photo))
    u, v = so.torn(frame)
    height = so.creases(frame, int(rng.integers(2, 9)), 0.12) + so.grain(frame, 0.003)
    return Patch(frame.cover(so.box(u, v, rng.uniform(0.6, 0.85), 0.9)), albedo, height)


def paper_cup(frame: Frame) -> Patch:
    """A cup, plain or printed."""
    rng = frame.rng
    frame = frame.crushed(rng.choice([0.02, 0.1, 0.3]), 4)
    distance, bulge = so.lathe(frame, so.cup_profile(rng))
    colour = so.brown(rng) if rng.random() < 0.35 else so.dye(rng, 0.75)
    albedo = so.printed(frame, colour, int(rng.integers(0, 3)))
    height = bulge + so.creases(frame, 4, 0.05) + so.grain(frame, 0.002)
    return Patch(frame.cover(distance), albedo, height, gloss=rng.uniform(0.02, 0.12))


def carton_box(frame: Frame) -> Patch:
    """A cardboard box."""
    rng = frame.rng
    frame = frame.crushed(rng.choice([0.02, 0.12]), 4)
    mask, slope, shade = _cuboid(frame, rng.uniform(0.4, 0.6), rng.uniform(0.35, 0.6))
    colour = so.brown(rng) if rng.random() < 0.75 else so.dye(rng, 0.4)
    albedo = so.printed(frame, colour, int(rng.integers(0, 3))) * shade[..., None]
    flutes = np.float32(0.006) * np.sin(frame.u * np.float32(60))
    height = flutes + so.creases(frame, 3, 0.06) + so.grain(frame, 0.003)
    return Patch(mask, albedo, height, slope, gloss=0.03)


# Paperpack: coated board, printed all over, flat faces with straight seams.


def gable_carton(frame: Frame) -> Patch:
    """A milk carton with its roof."""
    rng = frame.rng
    frame = frame.crushed(rng.choice([0.02, 0.1, 0.25]), 4)
    wide, knee = rng.uniform(0.38, 0.5), rng.uniform(-0.55, -0.35)
    distance = so.box(frame.u, frame.v, wide, 0.93)
    roof, seam = frame.v < knee, frame.v < -0.8
    split = frame.u > wide * rng.uniform(0.1, 0.7)
    albedo = so.printed(frame, so.dye(rng, 0.7), int(rng.integers(4, 9)))
    shade = np.where(split, rng.uniform(0.6, 0.85), 1) * np.where(seam, 1.05, np.where(roof, 0.85, 1))
    down = np.where(seam, 0.1, np.where(roof, rng.uniform(-1.2, -0.4), 0)).astype(np.float32)
    fold = np.where(roof & ~seam, np.abs(frame.u) * np.float32(rng.uniform(-0.6, 0.6)), 0)
    height = (fold + so.creases(frame, 2, 0.05)).astype(np.float32)
    albedo = (albedo * shade[..., None]).astype(np.float32)
    return Patch(
        frame.cover(distance), albedo, height, (0.0, down), gloss=rng.uniform(0.08, 0.2), sharpness=12
    )


def juice_box(frame: Frame) -> Patch:
    """A small box, often with its straw."""
    rng = frame.rng
    frame = frame.crushed(rng.choice([0.02, 0.12]), 4)
    mask, slope, shade = _cuboid(frame, rng.uniform(0.35, 0.5), rng.uniform(0.5, 0.62))
    albedo = so.printed(frame, so.dye(rng, 0.6), int(rng.integers(4, 9))) * shade[..., None]
    if rng.random() < 0.6:
        bent = frame.u - np.float32(rng.uniform(-0.2, 0.4)) + np.float32(0.25) * frame.v
        straw = frame.cover(so.box(bent, frame.v + np.float32(0.72), 0.045, 0.27))
        albedo = so.over(albedo, so.dye(rng, 0.7), straw)
        mask = np.maximum(mask, straw)
    height = so.creases(frame, 3, 0.06)
    return Patch(mask, albedo, height, slope, gloss=rng.uniform(0.08, 0.2), sharpness=12)


def flat_pack(frame: Frame) -> Patch:
    """A carton pressed flat, now and then inside out."""
    rng = frame.rng
    bent = frame.crushed(0.12, 4)
    albedo = so.printed(frame, so.dye(rng, 0.6), int(rng.integers(4, 9)))
    folds = np.float32(0.15) * np.abs(frame.u - np.float32(rng.uniform(-0.2, 0.2)))
    inside = rng.random() < 0.12  # the coated inner side shows: grey-silver, plain
    albedo = so.flat(frame, np.full(3, rng.uniform(0.6, 0.8), np.float32)) if inside else albedo
    return Patch(
        frame.cover(so.box(bent.u, bent.v, rng.uniform(0.45, 0.65), 0.92, 0.03)), albedo,
        folds + so.creases(frame, 5, 0.08), gloss=rng.uniform(0.1, 0.22), sharpness=12,
        metal=0.3 if inside else 0.0,
    )  # fmt: skip


# Styrofoam: matte white, beads.


def _foam(frame: Frame, distance: Field, height: Field, shade: Field | float = 1.0) -> Patch:
    rng = frame.rng
    colour = np.maximum(so.dye(rng, 0.96), np.float32(0.1)) ** np.float32(0.5)
    albedo = (so.flat(frame, colour) * np.asarray(shade)[..., None]).astype(np.float32)
    relief = height + so.beads(frame, rng.uniform(0.045, 0.09))
    return Patch(frame.cover(distance), albedo, relief, gloss=0.06, sharpness=8)


def foam_block(frame: Frame) -> Patch:
    """A block of packaging."""
    rng = frame.rng
    frame = frame.crushed(0.05, 9)
    mask, slope, shade = _cuboid(frame, rng.uniform(0.4, 0.65), rng.uniform(0.3, 0.6))
    patch = _foam(frame, frame.u, np.zeros_like(frame.u), shade)
    return Patch(mask, patch.albedo, patch.height, slope, gloss=patch.gloss, sharpness=patch.sharpness)


def foam_tray(frame: Frame) -> Patch:
    """A food tray."""
    rng = frame.rng
    distance = so.box(frame.u, frame.v, rng.uniform(0.55, 0.8), 0.85, rng.uniform(0.1, 0.3))
    return _foam(frame, distance, -np.float32(0.3) * np.clip((-distance - np.float32(0.12)) * 4, 0, 1))


def foam_cup(frame: Frame) -> Patch:
    """A cup."""
    distance, bulge = so.lathe(frame.crushed(0.03, 4), so.cup_profile(frame.rng))
    return _foam(frame, distance, bulge)


def foam_piece(frame: Frame) -> Patch:
    """A broken piece."""
    distance = so.blob(frame.crushed(0.1, 14), 0.8, 3)
    return _foam(frame, distance, so.creases(frame, 4, 0.2))
