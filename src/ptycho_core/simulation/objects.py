"""Test objects with structure down to about 2 px and antialiased edges, each a pure function of a generator.

A texture is a pair of maps in [0, 1], (2, H, W): the first becomes phase, the second absorption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.float64]
Texture = Callable[[tuple[int, int], np.random.Generator], Real]


class ObjectKind(StrEnum):
    """The classes of test objects."""

    DEAD_LEAVES = "dead-leaves"
    SIEMENS_STAR = "siemens-star"
    FILAMENTS = "filaments"
    RANDOM_FIELD = "random-field"
    CHIP = "chip"
    CELLS = "cells"


def make_object(
    kind: ObjectKind,
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    phase_range_rad: float = 1.2,
    amplitude_range: tuple[float, float] = (0.75, 1.0),
) -> npt.NDArray[np.complex128]:
    """Make a complex transmission: amplitude · exp(i·phase).

    Args:
        kind: the class of object.
        shape: rows and columns, each at least 16.
        rng: source of randomness; the same state gives the same object.
        phase_range_rad: the phase runs from 0 to this; may be negative.
        amplitude_range: lowest and highest amplitude, 0 <= low <= high.

    Returns:
        (H, W).

    Raises:
        ValueError: a shape or range outside the above.
    """
    low, high = amplitude_range
    if min(shape) < 16 or not 0 <= low <= high or not np.isfinite([phase_range_rad, high]).all():
        raise ValueError(
            f"expected at least 16 x 16 px and 0 <= low <= high amplitude, found {shape}, {amplitude_range}"
        )
    phase, absorption = np.clip(OBJECTS[kind](shape, rng), 0, 1)
    transmission: npt.NDArray[np.complex128] = (high - (high - low) * absorption) * np.exp(1j * phase_range_rad * phase)
    return transmission


def dead_leaves(shape: tuple[int, int], rng: np.random.Generator) -> Real:
    """Opaque ellipses and rectangles that hide each other, sizes by an inverse-cube law: all scales at once."""
    smallest, largest = 1.5, max(4.0, min(shape) / 6)
    mean_area = 2 * np.pi * smallest**2 * np.log(largest / smallest)
    count = int(4 * shape[0] * shape[1] / mean_area)
    radius = 1 / np.sqrt(rng.uniform(1 / largest**2, 1 / smallest**2, count))
    centre = rng.uniform((0, 0), shape, (count, 2))
    angle, aspect = rng.uniform(0, np.pi, count), rng.uniform(0.4, 1.0, count)
    level, boxy = rng.uniform(0, 1, (count, 2)), rng.random(count) < 0.4
    texture = np.tile(rng.uniform(0, 1, (2, 1, 1)), (1, *shape))
    for k in range(count):
        window, y, x = _around(shape, centre[k], radius[k] * 1.5)
        u, v = np.cos(angle[k]) * y + np.sin(angle[k]) * x, np.cos(angle[k]) * x - np.sin(angle[k]) * y
        v = v / aspect[k]
        distance = np.maximum(np.abs(u), np.abs(v)) if boxy[k] else np.hypot(u, v)
        cover = np.clip((radius[k] - distance) * aspect[k] + 0.5, 0, 1)
        texture[:, *window] += cover * (level[k][:, None, None] - texture[:, *window])
    return texture


def siemens_star(shape: tuple[int, int], rng: np.random.Generator) -> Real:
    """Spokes that narrow towards a centre, broken by rings: every spacing in every direction."""
    y, x = _grid(shape)
    y, x = y - shape[0] * rng.uniform(0.35, 0.65), x - shape[1] * rng.uniform(0.35, 0.65)
    radius, spokes = np.hypot(y, x), int(rng.integers(18, 40))
    turn = np.arctan2(y, x) + rng.uniform(0, 2 * np.pi)
    across = np.arcsin(np.sin(spokes * turn)) * radius / spokes
    star = np.clip(across + 0.5, 0, 1)
    ring_step = min(shape) / 7
    gap = np.clip(2.0 - np.abs(radius % ring_step - ring_step / 2), 0, 1)
    outer = np.clip(0.62 * max(shape) - radius + 0.5, 0, 1)
    star = star * (1 - gap) * outer
    return np.stack([star, star * rng.uniform(0.3, 0.8) + 0.1 * _field(shape, rng, slope=2.0)])


def filaments(shape: tuple[int, int], rng: np.random.Generator) -> Real:
    """Curved fibres 1.5 to 5 px wide that cross; thickness adds up."""
    y, x = _grid(shape)
    extent, thickness = float(np.hypot(*shape)), np.zeros(shape)
    for _ in range(max(12, int(0.22 * np.sqrt(shape[0] * shape[1])))):
        bend, angle = extent * rng.uniform(0.6, 4.0), rng.uniform(0, 2 * np.pi)
        through = rng.uniform((0, 0), shape)
        to_line = np.hypot(y - through[0] - bend * np.sin(angle), x - through[1] - bend * np.cos(angle)) - bend
        half = rng.uniform(0.75, 2.5)
        edge = np.clip(half - np.abs(to_line) + 0.5, 0, 1)
        # A fibre is round: thick along its axis, thin at its sides.
        thickness += edge * np.sqrt(np.clip(1.2 - (to_line / (half + 0.5)) ** 2, 0, 1)) * rng.uniform(0.4, 1.0)
    thickness /= np.percentile(thickness, 99.5)
    return np.stack([thickness, thickness * 0.8 + 0.1 * _field(shape, rng, slope=2.0)])


def random_field(shape: tuple[int, int], rng: np.random.Generator) -> Real:
    """Gaussian random fields with a power-law spectrum, phase and absorption half correlated."""
    slope = rng.uniform(1.3, 2.0)
    one, other = _field(shape, rng, slope=slope), _field(shape, rng, slope=slope)
    return np.stack([one, 0.5 * one + 0.5 * other])


def chip(shape: tuple[int, int], rng: np.random.Generator) -> Real:
    """Layers of straight wires, pads and vias along the axes, in few levels of thickness."""
    texture = np.zeros((2, *shape))
    area = shape[0] * shape[1]
    for layer in range(4):
        level = rng.uniform(0.2, 0.45, 2)
        along = layer % 2
        for _ in range(max(3, int(area / 1100))):
            half = np.empty(2)
            half[along], half[1 - along] = rng.uniform(6, max(12.0, min(shape) / 5)), rng.uniform(1.0, 3.5)
            if rng.random() < 0.25:
                half[:] = rng.uniform(1.0, 5.0)
            window, y, x = _around(shape, rng.uniform((0, 0), shape), float(half.max()))
            cover = np.clip(half[0] - np.abs(y) + 0.5, 0, 1) * np.clip(half[1] - np.abs(x) + 0.5, 0, 1)
            # Wires of one layer merge instead of piling up.
            floor = layer * 0.18
            texture[:, *window] = np.maximum(texture[:, *window], cover * (floor + level[:, None, None]))
    scaled: Real = texture / texture.max(axis=(1, 2), keepdims=True)
    return scaled


def cells(shape: tuple[int, int], rng: np.random.Generator) -> Real:
    """Round bodies with a wall, a grainy inside and small dense organelles."""
    grain = _field(shape, rng, slope=1.6)
    density, absorption = 0.08 * grain, 0.1 * _field(shape, rng, slope=1.8)
    for _ in range(max(2, int(shape[0] * shape[1] / 1100))):
        radius, aspect = rng.uniform(6, max(10.0, min(shape) / 9)), rng.uniform(0.55, 1.0)
        middle, angle, weight = rng.uniform((0, 0), shape), rng.uniform(0, np.pi), rng.uniform(0.35, 0.6)
        window, y, x = _around(shape, middle, radius)
        u, v = np.cos(angle) * y + np.sin(angle) * x, (np.cos(angle) * x - np.sin(angle) * y) / aspect
        rho = np.hypot(u, v) / radius
        inside = np.clip((1 - rho) * radius * aspect + 0.5, 0, 1)
        wall = np.exp(-0.5 * ((rho - 0.93) * radius * aspect / 0.8) ** 2)
        body = weight * np.sqrt(np.clip(1 - rho**2, 0, 1)) * (0.6 + 0.6 * grain[window])
        density[window] += inside * body + 0.35 * wall
        absorption[window] += 0.3 * inside * body + 0.25 * wall
        for _ in range(int(rng.integers(2, 9))):
            spot = middle + rng.uniform(-0.6, 0.6, 2) * radius * aspect
            near, sy, sx = _around(shape, spot, 4.0)
            dot = np.clip(rng.uniform(1.0, 3.0) - np.hypot(sy, sx) + 0.5, 0, 1)
            density[near] += 0.35 * dot
            absorption[near] += 0.5 * dot
    return np.stack([density, absorption])


OBJECTS: Mapping[ObjectKind, Texture] = MappingProxyType(
    {
        ObjectKind.DEAD_LEAVES: dead_leaves,
        ObjectKind.SIEMENS_STAR: siemens_star,
        ObjectKind.FILAMENTS: filaments,
        ObjectKind.RANDOM_FIELD: random_field,
        ObjectKind.CHIP: chip,
        ObjectKind.CELLS: cells,
    }
)
"""The texture of each class of objects."""


def _grid(shape: tuple[int, int]) -> tuple[Real, Real]:
    """Row and column coordinates that broadcast to the shape."""
    return np.arange(shape[0], dtype=np.float64)[:, None], np.arange(shape[1], dtype=np.float64)[None, :]


def _around(
    shape: tuple[int, int], centre: npt.NDArray[np.floating], reach: float
) -> tuple[tuple[slice, slice], Real, Real]:
    """The part of the frame within reach of a point, and its coordinates relative to the point."""
    low = [max(0, int(np.floor(c - reach - 1))) for c in centre]
    high = [max(0, min(n, int(np.ceil(c + reach + 2)))) for c, n in zip(centre, shape, strict=True)]
    y, x = np.arange(low[0], high[0]) - centre[0], np.arange(low[1], high[1]) - centre[1]
    return (slice(low[0], high[0]), slice(low[1], high[1])), y[:, None], x[None, :]


def _field(shape: tuple[int, int], rng: np.random.Generator, *, slope: float) -> Real:
    """Gaussian random field with amplitude spectrum 1/q^slope below the pixel scale, squashed into [0, 1]."""
    q = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    # Flat below one period in a third of the frame, so that no single gradient rules it.
    spectrum = np.fft.rfft2(rng.normal(size=shape)) / (q + 3 / max(shape)) ** slope * np.exp(-((q / 0.35) ** 4))
    noise = np.fft.irfft2(spectrum, s=shape)
    result: Real = 0.5 + 0.5 * np.tanh((noise - noise.mean()) / (1.3 * noise.std()))
    return result
