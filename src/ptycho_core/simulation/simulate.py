"""Simulated scans: an object, a probe and a path become Poisson counts, reproducible from a seed."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TypeVar, cast

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.errors import ConfigError, Problem, ScanError, raise_if_any
from ptycho_core.measurement.arrays import as_complex
from ptycho_core.measurement.scan import MeasurementDomain, Scan, ScanMetadata
from ptycho_core.physics.probes import ProbeKind, aberrate, make_probe, with_modes
from ptycho_core.physics.subpixel import scan_counts
from ptycho_core.simulation.objects import ObjectKind, make_object
from ptycho_core.simulation.scan_paths import (
    PathKind,
    jittered,
    on_whole_pixels,
    raster_positions,
    scan_area,
    spiral_positions,
)

_FRAMES_AT_ONCE = 64

Kind = TypeVar("Kind", bound=StrEnum)


def _member(kind: type[Kind], value: str) -> Kind:
    """The member of that name; an unknown name passes, so that it is reported together with all other problems."""
    return kind(value) if value in list(kind) else cast("Kind", value)


def _object_kind(value: str) -> ObjectKind:
    return _member(ObjectKind, value)


def _probe_kind(value: str) -> ProbeKind:
    return _member(ProbeKind, value)


def _path_kind(value: str) -> PathKind:
    return _member(PathKind, value)


@attrs.frozen(kw_only=True)
class SimulationConfig:
    """A simulated scan by name.

    Attributes:
        N: side of a diffraction pattern in pixels.
        object_kind: class of test object.
        object_size_px: side of the square object in pixels, at least N + 2·jitter_px.
        phase_range_rad: the object's phase runs from 0 to this.
        amplitude_min: the object's lowest amplitude, in [0, 1]; the highest is 1.
        probe_kind: class of illumination.
        n_modes: incoherent probe modes, 1 to 6.
        aberration_rad: root mean square of random pupil aberrations; 0 for a perfect lens.
        photons: photons per frame of a transparent object.
        background: mean background counts per detector pixel.
        path: class of scan path.
        step_px: distance between neighbouring positions in object pixels.
        jitter_px: largest random displacement of a position along each axis.
        whole_pixel: round positions so that every patch starts on a whole pixel and nothing is interpolated.
        seed: the source of all randomness.

    Raises:
        ConfigError: with every problem there is.
    """

    N: int = 64
    object_kind: ObjectKind = attrs.field(default=ObjectKind.DEAD_LEAVES, converter=_object_kind)
    object_size_px: int = 256
    phase_range_rad: float = 1.2
    amplitude_min: float = 0.75
    probe_kind: ProbeKind = attrs.field(default=ProbeKind.ZONE_PLATE, converter=_probe_kind)
    n_modes: int = 1
    aberration_rad: float = 0.0
    photons: float = 1e6
    background: float = 0.0
    path: PathKind = attrs.field(default=PathKind.RASTER, converter=_path_kind)
    step_px: float = 6.0
    jitter_px: float = 1.5
    whole_pixel: bool = False
    seed: int = 0

    def __attrs_post_init__(self) -> None:
        raise_if_any(ConfigError, "simulation", _problems(self))


def simulate(config: SimulationConfig) -> Scan:
    """Simulate the scan that a configuration describes; the same configuration gives the same scan.

    Object, probe, path and noise draw from their own streams, so changing one leaves the others as they were.
    """
    object_rng, probe_rng, path_rng, noise_rng = map(
        np.random.default_rng, np.random.SeedSequence(config.seed).spawn(4)
    )
    shape = (config.object_size_px, config.object_size_px)
    object_ = make_object(
        config.object_kind,
        shape,
        object_rng,
        phase_range_rad=config.phase_range_rad,
        amplitude_range=(config.amplitude_min, 1.0),
    )
    probe = make_probe(config.probe_kind, config.N, photons=config.photons)
    if config.aberration_rad > 0:
        probe = aberrate(probe, probe_rng, strength_rad=config.aberration_rad)
    return simulate_scan(
        object_,
        with_modes(probe, config.n_modes),
        _positions(config, path_rng),
        rng=noise_rng,
        background=config.background,
        name=f"{config.object_kind}-{config.probe_kind}-{config.seed}",
    )


def simulate_scan(
    object_: npt.NDArray[np.complexfloating],
    probe: npt.NDArray[np.complexfloating],
    positions_px: npt.NDArray[np.floating],
    *,
    rng: np.random.Generator,
    background: float = 0.0,
    name: str = "simulated",
) -> Scan:
    """Draw Poisson counts for every position; sub-pixel positions move the probe, not the object.

    Object and probe are rounded to complex64 first, so that the scan holds exactly what made its counts.

    Args:
        object_: (H, W), pixel [0, 0] at position (0, 0).
        probe: (modes, N, N); Σ|P|² is the photons per frame of a transparent object, see `probes.scaled_to`.
        positions_px: (n, 2), (y, x) of the patch centres.
        rng: source of the noise.
        background: mean background counts per pixel, >= 0.
        name: a name for people.

    Returns:
        Counts as uint16, where they do not fit as uint32, then float64, with object, probe and photons per frame.

    Raises:
        ScanError: a patch reaches outside the object, or the scan is not valid.
        ValueError: a probe without a mode axis, or a negative background.
    """
    if not (math.isfinite(background) and background >= 0):
        raise ValueError(f"background: expected a finite number >= 0, found {background}")
    stored_object, stored_probe = as_complex(object_), as_complex(probe)
    for path, array in (("object", stored_object), ("probe", stored_probe)):
        if not np.isfinite(array).all():
            problem = Problem(path=path, expected="finite values", found="NaN or infinite ones (in complex64)")
            raise ScanError("simulation", [problem])
    positions = np.asarray(positions_px, dtype=np.float64)
    size = stored_probe.shape[-1]
    counts = np.empty((len(positions), size, size), dtype=np.int64)
    for first in range(0, len(positions), _FRAMES_AT_ONCE):
        part = slice(first, first + _FRAMES_AT_ONCE)
        counts[part] = rng.poisson(scan_counts(stored_object, stored_probe, positions[part], background=background))
    most = counts.max(initial=0)
    dtype = next((t for t in (np.uint16, np.uint32) if most <= np.iinfo(t).max), np.float64)
    return Scan(
        patterns=counts.astype(dtype),
        domain=MeasurementDomain.COUNTS,
        positions_px=positions,
        probe=stored_probe,
        object=stored_object,
        metadata=ScanMetadata(name=name, nphotons=float(np.sum(np.abs(stored_probe.astype(np.complex128)) ** 2))),
    )


def _positions(config: SimulationConfig, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    whole = scan_area((config.object_size_px, config.object_size_px), config.N)
    area = whole.inset(config.jitter_px)
    match config.path:
        case PathKind.RASTER:
            positions = raster_positions(area, step_px=config.step_px)
        case PathKind.SPIRAL:
            positions = spiral_positions(area, step_px=config.step_px)
    positions = jittered(positions, whole, rng, jitter_px=config.jitter_px)
    return on_whole_pixels(positions, config.N) if config.whole_pixel else positions


def _problems(config: SimulationConfig) -> list[Problem]:
    """Everything that is wrong with a configuration; the fields together only when each is right alone."""
    kinds: list[tuple[str, str, type[StrEnum]]] = [
        ("object_kind", config.object_kind, ObjectKind),
        ("probe_kind", config.probe_kind, ProbeKind),
        ("path", config.path, PathKind),
    ]
    rules: list[tuple[str, object, str, bool]] = [
        ("N", config.N, "a whole number from 8 to 2048", _whole(config.N, 8, 2048)),
        (
            "object_size_px",
            config.object_size_px,
            "a whole number from 16 to 8192",
            _whole(config.object_size_px, 16, 8192),
        ),
        ("phase_range_rad", config.phase_range_rad, "a finite number", _number(config.phase_range_rad)),
        ("amplitude_min", config.amplitude_min, "a number in [0, 1]", _number(config.amplitude_min, 0, 1)),
        ("n_modes", config.n_modes, "a whole number from 1 to 6", _whole(config.n_modes, 1, 6)),
        ("aberration_rad", config.aberration_rad, "a number from 0 to 10", _number(config.aberration_rad, 0, 10)),
        ("photons", config.photons, "a number from 1 to 1e12", _number(config.photons, 1, 1e12)),
        ("background", config.background, "a number from 0 to 1e6", _number(config.background, 0, 1e6)),
        ("step_px", config.step_px, "a number from 0.25 to 1024", _number(config.step_px, 0.25, 1024)),
        ("jitter_px", config.jitter_px, "a number from 0 to 1024", _number(config.jitter_px, 0, 1024)),
        ("whole_pixel", config.whole_pixel, "true or false", isinstance(config.whole_pixel, bool)),
        ("seed", config.seed, "a whole number >= 0", _whole(config.seed, 0, math.inf)),
        *((name, value, f"one of {', '.join(kind)}", isinstance(value, kind)) for name, value, kind in kinds),
    ]
    problems = [Problem(path=path, expected=text, found=repr(value)) for path, value, text, holds in rules if not holds]
    if problems or config.object_size_px >= config.N + 2 * config.jitter_px:
        return problems
    room = "room for a pattern and twice the jitter: at least N + 2 * jitter_px"
    return [Problem(path="object_size_px", expected=room, found=repr(config.object_size_px))]


def _whole(value: object, low: float, high: float) -> bool:
    """An int, not a bool, within limits."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(value: object, low: float = -math.inf, high: float = math.inf) -> bool:
    """A finite int or float, not a bool, within limits."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
    )
