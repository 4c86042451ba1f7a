"""The kinds of waste with a shiny surface: metal, plastic and film.

A kind is a function from a frame to a patch; waste.py lists them by class.
"""

import numpy as np

from starter.data.synthetic import objects as so
from starter.data.synthetic.objects import Frame, Patch

# Metal: mirrored surroundings, hard contrasts.


def can(frame: Frame) -> Patch:
    """A can from the side, whole or crushed."""
    rng = frame.rng
    frame = frame.crushed(rng.choice([0.03, 0.15, 0.5]), 4)
    wide = rng.uniform(0.45, 0.62)
    neck = wide * rng.uniform(0.78, 0.98)
    distance, bulge = so.lathe(frame, [(-0.95, neck), (-0.8, wide), (0.82, wide), (0.95, neck)])
    body = frame.cover(np.abs(frame.v) - np.float32(0.8))
    bare = so.flat(frame, np.full(3, rng.uniform(0.7, 0.9), np.float32))
    paint = so.printed(frame, so.dye(rng, 0.4), int(rng.integers(1, 5)))
    return Patch(
        frame.cover(distance), bare + (paint - bare) * body[..., None],
        bulge + so.creases(frame, 4, 0.08 * rng.random()),
        gloss=0.5, sharpness=30, metal=0.9 - 0.35 * body,
    )  # fmt: skip


def can_top(frame: Frame) -> Patch:
    """The lid of a can, with its tab."""
    rng, radius = frame.rng, frame.radius
    rings = np.float32(0.05) * np.sin(radius * np.float32(rng.uniform(14, 26)))
    tab = frame.cover(so.box(frame.u, frame.v - np.float32(0.1), 0.13, 0.26, 0.1))
    return Patch(
        frame.cover(radius - np.float32(0.9)),
        so.flat(frame, np.full(3, rng.uniform(0.65, 0.9), np.float32)),
        rings + tab * np.float32(0.06) + so.creases(frame, 3, 0.1),
        gloss=0.4, sharpness=25, metal=0.8,
    )  # fmt: skip


def foil(frame: Frame) -> Patch:
    """A ball or sheet of foil."""
    rng = frame.rng
    ball = rng.random() < 0.5
    dome = so.dome(frame) if ball else np.zeros_like(frame.u)
    distance = so.blob(frame, 0.5) if ball else so.box(*so.torn(frame), 0.9, rng.uniform(0.45, 0.85))
    return Patch(
        frame.cover(distance), so.flat(frame, np.full(3, rng.uniform(0.65, 0.95), np.float32)),
        np.float32(0.6) * dome + so.creases(frame, int(rng.integers(14, 30)), 0.13),
        gloss=0.5, sharpness=18, metal=rng.uniform(0.6, 0.9),
    )  # fmt: skip


def crown_cap(frame: Frame) -> Patch:
    """A crown cap."""
    rng = frame.rng
    angle = np.arctan2(frame.v, frame.u)
    flutes = np.sin(angle * np.float32(rng.choice([15, 21]))) * np.float32(0.035)
    rim = np.clip(frame.radius - np.float32(0.65), 0, 0.3)
    albedo = so.printed(frame, so.dye(rng, 0.4), int(rng.integers(0, 3)))
    return Patch(
        frame.cover(frame.radius - np.float32(0.86) - flutes), albedo,
        -rim + flutes * 4 * (rim > 0), gloss=0.6, sharpness=25, metal=rng.uniform(0.45, 0.75),
    )  # fmt: skip


# Plastic: smooth, clear or dyed, small hard highlights.


def bottle(frame: Frame) -> Patch:
    """A bottle with cap and label."""
    rng = frame.rng
    frame = frame.crushed(rng.choice([0.02, 0.1, 0.3]), 4)
    wide, neck = rng.uniform(0.28, 0.42), rng.uniform(0.1, 0.15)
    distance, bulge = so.lathe(
        frame,
        [(-0.95, neck), (-0.72, neck), (rng.uniform(-0.5, -0.2), wide), (0.85, wide), (0.95, wide * 0.85)],
    )
    ribs = np.float32(rng.uniform(0, 0.03)) * np.sin(frame.v * np.float32(rng.uniform(18, 34)))
    cap = frame.cover(frame.v + np.float32(0.78))
    label = frame.cover(np.abs(frame.v - np.float32(0.2)) - np.float32(rng.uniform(-0.1, 0.3)))
    clear = rng.random() < 0.75
    albedo = so.flat(frame, so.white(rng) if clear else so.dye(rng, 0.3))
    albedo = so.over(so.over(albedo, so.bright(rng), label), so.dye(rng, 0.4), cap)
    body = rng.uniform(0.25, 0.5) if clear else 1.0
    rim = np.clip(1 - bulge * 2.6, 0, 1)  # clear walls are seen edge on at the outline
    opacity = np.clip(body + 0.5 * rim + label + cap, 0, 1)
    return Patch(frame.cover(distance), albedo, bulge + ribs, opacity=opacity, gloss=0.75, sharpness=45)


def plastic_cup(frame: Frame) -> Patch:
    """A cup, clear or dyed."""
    rng = frame.rng
    frame = frame.crushed(rng.choice([0.02, 0.1, 0.3]), 4)
    distance, bulge = so.lathe(frame, so.cup_profile(rng))
    ribs = np.float32(rng.uniform(0, 0.025)) * np.sin(frame.v * np.float32(rng.uniform(20, 45)))
    clear = rng.random() < 0.65
    albedo = so.flat(frame, so.dye(rng, 0.7)) if clear else so.printed(frame, so.dye(rng, 0.5), 2)
    opacity = np.clip(rng.uniform(0.3, 0.6) + np.clip(1 - bulge * 2, 0, 0.5), 0, 1) if clear else 1.0
    height = (bulge + ribs).astype(np.float32)
    return Patch(
        frame.cover(distance), albedo, height, opacity=opacity, gloss=rng.uniform(0.3, 0.8), sharpness=45
    )


def plastic_lid(frame: Frame) -> Patch:
    """A lid with a ridge, often with a hole."""
    rng, radius = frame.rng, frame.radius
    ring = np.float32(rng.uniform(0.55, 0.75))
    ridge = np.float32(0.07) * np.exp(-(((radius - ring) * 14) ** 2))
    edge = -np.float32(0.6) * np.clip(radius - np.float32(0.78), 0, 1)
    hole = frame.cover(radius - np.float32(rng.choice([-1, 0.08])))
    albedo = so.over(so.flat(frame, so.dye(rng, 0.7)), np.full(3, 0.08, np.float32), hole)
    return Patch(
        frame.cover(radius - np.float32(0.88)), albedo, ridge + edge,
        opacity=rng.uniform(0.5, 1), gloss=0.6, sharpness=40,
    )  # fmt: skip


def container(frame: Frame) -> Patch:
    """A food container from above."""
    rng = frame.rng
    frame = frame.crushed(rng.choice([0.02, 0.15]), 4)
    wide, corner = rng.uniform(0.55, 0.8), rng.uniform(0.1, 0.3)
    distance = so.box(frame.u, frame.v, wide, 0.85, corner)
    floor = np.clip((-distance - np.float32(0.12)) * 4, 0, 1)
    height = -np.float32(0.3) * floor + so.creases(frame, 2, 0.03)
    return Patch(
        frame.cover(distance), so.flat(frame, so.dye(rng, 0.6)), height,
        opacity=rng.uniform(0.45, 1), gloss=rng.uniform(0.4, 0.8), sharpness=45,
    )  # fmt: skip


def cutlery(frame: Frame) -> Patch:
    """A fork or a spoon."""
    rng = frame.rng
    frame = frame.crushed(0.06, 3)
    handle = so.box(frame.u, frame.v - np.float32(0.3), 0.07, 0.63, 0.06)
    head = np.hypot(frame.u / np.float32(0.21), (frame.v + np.float32(0.6)) / np.float32(0.33)) - 1
    head = head * np.float32(0.2)
    if rng.random() < 0.5:
        tines = np.abs((frame.u * 9) % 1 - 0.5) / 9 - np.float32(0.03)
        head = np.where(frame.v < -0.55, np.maximum(head, tines), head)
    distance = np.minimum(handle, head)
    height = np.clip(-distance, 0, 0.1)
    return Patch(
        frame.cover(distance), so.flat(frame, so.dye(rng, 0.85)), height,
        opacity=rng.uniform(0.6, 1), gloss=0.7, sharpness=35,
    )  # fmt: skip


# Plasticbag: thin film, curved wrinkles, many small highlights.


def carrier_bag(frame: Frame) -> Patch:
    """A carrier bag, often with its handle."""
    rng = frame.rng
    bent = frame.crushed(0.45, 4)
    distance = so.box(bent.u, bent.v, rng.uniform(0.55, 0.75), 0.8, 0.2)
    if rng.random() < 0.5:
        hole = np.hypot(bent.u, (bent.v + np.float32(0.75)) * np.float32(0.8)) - np.float32(0.28)
        distance = np.maximum(distance, -hole)
    albedo = so.printed(bent, so.dye(rng, 0.75), int(rng.integers(0, 3)))
    return Patch(
        frame.cover(distance), albedo, so.wrinkles(frame, rng.uniform(0.2, 0.4)),
        opacity=rng.uniform(0.55, 1), gloss=rng.uniform(0.2, 0.5), sharpness=20,
    )  # fmt: skip


def crisp_packet(frame: Frame) -> Patch:
    """A crisp packet, now and then inside out."""
    rng = frame.rng
    frame = frame.crushed(rng.choice([0.05, 0.25]), 4)
    zigzag = np.abs((frame.u * 7) % 1 - 0.5) * np.float32(0.05)
    distance = so.box(frame.u, frame.v, rng.uniform(0.5, 0.68), 0.9) + zigzag
    pillow = np.float32(0.3) * np.cos(frame.v * np.float32(1.6)) * np.cos(frame.u * np.float32(1.8))
    silver = rng.random() < 0.3  # turned inside out
    colour = np.full(3, rng.uniform(0.65, 0.9), np.float32) if silver else so.dye(rng, 0.2)
    albedo = so.printed(frame, colour, 0 if silver else int(rng.integers(2, 6)))
    return Patch(
        frame.cover(distance), albedo, pillow + so.wrinkles(frame, rng.uniform(0.12, 0.3)),
        gloss=rng.uniform(0.3, 0.6), sharpness=22, metal=rng.uniform(0.3, 0.65) if silver else 0.15,
    )  # fmt: skip


def wrapper(frame: Frame) -> Patch:
    """A twisted wrapper."""
    rng = frame.rng
    frame = frame.crushed(0.2, 5)
    waist = np.interp(np.abs(frame.v), [0, 0.5, 0.62, 0.9], [0.32, 0.3, 0.12, 0.36]).astype(np.float32)
    distance = np.maximum(np.abs(frame.u) - waist, np.abs(frame.v) - np.float32(0.88))
    bulge = np.sqrt(np.maximum(waist**2 - frame.u**2, 0))
    albedo = so.printed(frame, so.dye(rng, 0.35), int(rng.integers(1, 4)))
    return Patch(
        frame.cover(distance), albedo, 0.5 * bulge + so.wrinkles(frame, 0.2),
        opacity=rng.uniform(0.6, 1), gloss=0.5, sharpness=25, metal=rng.choice([0.0, 0.3]),
    )  # fmt: skip


def film(frame: Frame) -> Patch:
    """A piece of cling film."""
    rng = frame.rng
    distance = so.blob(frame.crushed(0.4, 5), 0.7)
    return Patch(
        frame.cover(distance), so.flat(frame, so.dye(rng, 0.9)), so.wrinkles(frame, rng.uniform(0.2, 0.4), 8),
        opacity=rng.uniform(0.25, 0.7), gloss=rng.uniform(0.35, 0.7), sharpness=25,
    )  # fmt: skip
