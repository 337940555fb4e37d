"""A preparation from file to file: frames go through a few at a time, everything else at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.files.formats.npz.streaming import PreparedScan, write_prepared
from ptycho_adapters.files.raw.frames import RawFrames, raw_frames
from ptycho_adapters.files.raw.number_formats import in_words, taken_for
from ptycho_adapters.files.raw.own_parts import OwnParts, own_parts
from ptycho_adapters.files.raw.places import SourceFiles, how_placed, own_turn, positions_of, zoom_of
from ptycho_adapters.files.raw.tables import read_picture
from ptycho_adapters.files.stated import Stated
from ptycho_core.errors import Problem, ScanError, ScanFileError, raise_if_any
from ptycho_core.measurement.beam import find_beam_centre
from ptycho_core.measurement.geometry import object_pixel_m, wavelength_from_energy, wavelength_from_voltage
from ptycho_core.measurement.plausibility import geometry_problems
from ptycho_core.measurement.preparation.darks import mean_dark
from ptycho_core.measurement.preparation.frames import (
    Corrections,
    FramePlan,
    plan_frames,
    prepared_frames,
)
from ptycho_core.measurement.preparation.probes import prepared_probe
from ptycho_core.measurement.preparation.selection import frame_ranges, kept_frames, odd_frames
from ptycho_core.measurement.preparation.settings import Flip, PreparationSettings
from ptycho_core.measurement.scan import MeasurementDomain, ScanMetadata

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.any_array import AnyArray

Real = npt.NDArray[np.float64]
Progress = Callable[[int], object]

_LOOKED_AT = 64  # frames, spread over the scan, from which beam and bad pixels are found
_NO_PROBE = "none: infer, train and convert take one, --probe FILE or --probe-model"


@attrs.frozen(kw_only=True, eq=False)
class Prepared:
    """What went in, what was done and what came out.

    Attributes:
        came_in: figures of the input.
        done: what was done, in words.
        came_out: figures of the output.
        before: (H, W) mean of some frames of the input.
        after: (N, N) mean of all frames of the output.
        probe: whether the output holds one.
    """

    came_in: Mapping[str, object]
    done: Sequence[str]
    came_out: Mapping[str, object]
    before: Real
    after: Real
    probe: bool


@attrs.frozen(kw_only=True, eq=False)
class _Job:
    """Everything that is settled before the frames go through."""

    source: RawFrames
    own: OwnParts
    plan: FramePlan
    centre: tuple[float, float]
    kept: npt.NDArray[np.int64]
    positions_px: Real
    metadata: ScanMetadata
    probe: npt.NDArray[np.complex64] | None
    before: Real
    done: tuple[str, ...]


def prepare_scan(
    files: SourceFiles, target: Path, settings: PreparationSettings, progress: Progress = lambda _: None
) -> Prepared:
    """Bring measured frames and positions into an NPZ scan.

    Args:
        files: what is read.
        target: NPZ file to write; what is there is replaced at the end.
        settings: what is to be done.
        progress: told how many frames have come through, after each piece.

    Returns:
        What was done, with figures.

    Raises:
        FileNotFoundError: a file is not there.
        ScanFileError: a file cannot be read, or what is asked for cannot be done with it, with every problem there is.
        OSError: from the file system.
    """
    try:
        job = _settled(files, settings)
        with atomic_path(target) as partial:
            after = write_prepared(_prepared(job), partial, _frames(job, progress))
    except ScanError as error:
        raise ScanFileError(str(files.frames), error.problems) from None
    return Prepared(
        came_in=_figures_in(job),
        done=job.done,
        came_out=_figures_out(job, after),
        before=job.before,
        after=after,
        probe=job.probe is not None,
    )


def _settled(files: SourceFiles, settings: PreparationSettings) -> _Job:
    source = raw_frames(files.frames, files.key)
    own = own_parts(files.frames, source.shape[0], _stated(settings))
    _check_domain(own, settings)
    listed = kept_frames(source.shape[0], frame_ranges(settings.drop) or ())
    looked_at = source.spread(listed if len(listed) else np.arange(source.shape[0]), _LOOKED_AT)
    corrections, done = _corrections(files, source, own, settings, looked_at)
    done = taken_for(source.dtype) + done
    before = looked_at.mean(axis=0, dtype=np.float64)
    given = settings.centre_y is not None and settings.centre_x is not None
    centre, how = (float(settings.centre_y or 0.0), float(settings.centre_x or 0.0)), "as given"
    if not given:
        light = before if corrections.dark is None else before - corrections.dark
        beam = find_beam_centre(light, corrections.bad)
        centre, how = beam.place_px, f"found as the {beam.found_by}"
    plan = plan_frames(source.shape[1:], source.dtype, settings, corrections, centre)
    kept = _kept(source, settings, corrections, done)
    done += [*_what_is_done(plan, centre, how), *how_placed(files, own, own_turn(files, own, settings))]
    metadata = _metadata(own, source, plan)
    positions = positions_of(files, source, own, plan, metadata)
    probe = _probe(own, source, plan, done)
    return _Job(
        source=source,
        own=own,
        plan=plan,
        centre=centre,
        kept=kept,
        positions_px=positions[kept],
        metadata=metadata,
        probe=probe,
        before=before,
        done=tuple(done),
    )


def _stated(settings: PreparationSettings) -> Stated:
    """Give the lengths that are said, which are then not looked for in the file."""
    return Stated(
        wavelength_m=_wavelength_m(settings, None),
        distance_m=settings.distance_m,
        detector_pixel_m=settings.detector_pixel_m,
        pixel_m=settings.pixel_m,
    )


def _wavelength_m(settings: PreparationSettings, of_file_m: float | None) -> float | None:
    """Settle the wavelength: what is typed, then what the file says."""
    if settings.energy_ev is not None:
        return wavelength_from_energy(energy_ev=settings.energy_ev)
    if settings.voltage_v is not None:
        return wavelength_from_voltage(voltage_v=settings.voltage_v)
    return settings.wavelength_m or of_file_m


def _check_domain(own: OwnParts, settings: PreparationSettings) -> None:
    """Refuse to sum or correct amplitudes, which are no counts."""
    if own.domain != MeasurementDomain.AMPLITUDE or (settings.bin == 1 and not settings.background):
        return
    fix = "square them first: ptycho convert IN OUT --as-counts"
    raise ScanError("preparation", [Problem(path="bin", expected="counts to sum", found="amplitudes", fix=fix)])


def _corrections(
    files: SourceFiles,
    source: RawFrames,
    own: OwnParts,
    settings: PreparationSettings,
    looked_at: AnyArray,
) -> tuple[Corrections, list[str]]:
    shape, done = source.shape[1:], []
    bad = np.zeros(shape, dtype=bool)
    if own.bad is not None and own.bad.shape == shape:
        bad |= own.bad
    if files.mask is not None:
        mask = read_picture(files.mask, "mask", shape).astype(np.bool_)
        bad |= np.asarray(mask.any(axis=0)) if mask.ndim == 3 else mask
        done.append(f"mask of {files.mask.name}")
    bad |= _never_good(looked_at, settings)
    dark = own.dark if own.dark is not None and own.dark.shape == shape else None
    if files.dark is not None:
        dark = mean_dark(read_picture(files.dark, "dark", shape))
    if dark is not None:
        done.append(f"dark frame, {float(dark.mean()):.4g} a pixel, taken off")
    flat = None if files.flat is None else mean_dark(read_picture(files.flat, "flat", shape))
    if flat is not None:
        bad |= ~(np.isfinite(flat) & (flat > 0.0))
        usual = float(np.mean(flat[~bad])) if not bad.all() else 1.0
        flat = np.where(bad, np.float32(1.0), flat / np.float32(usual)).astype(np.float32)
        done.append("divided by the flat field")
    if settings.background:
        done.append(f"background of {settings.background:g} a pixel taken off")
    if bad.any():
        done.append(f"{int(np.count_nonzero(bad))} pixels masked")
    return Corrections(bad=bad, dark=dark, flat=flat), done


def _never_good(frames: AnyArray, settings: PreparationSettings) -> npt.NDArray[np.bool_]:
    """Tell the pixels that hold the largest number of their type in all frames, or are beyond a threshold in all."""
    low, high = np.nanmin(frames, axis=0), np.nanmax(frames, axis=0)
    bad: npt.NDArray[np.bool_] = np.asarray(~np.isfinite(frames).any(axis=0))
    if frames.dtype.kind == "u":
        bad |= low == np.iinfo(frames.dtype.name).max
    if settings.mask_above is not None:
        bad |= low >= settings.mask_above
    if settings.mask_below is not None:
        bad |= high <= settings.mask_below
    return bad


def _kept(
    source: RawFrames, settings: PreparationSettings, corrections: Corrections, done: list[str]
) -> npt.NDArray[np.int64]:
    n_frames = source.shape[0]
    kept = kept_frames(n_frames, frame_ranges(settings.drop) or ())
    if settings.drop_odd:
        good = ~corrections.bad
        sums = [piece[:, good].sum(axis=1, dtype=np.float64) for piece in source.pieces(np.arange(n_frames))]
        odd = odd_frames(np.concatenate(sums))
        kept = np.setdiff1d(kept, odd)
        listed = ", ".join(map(str, odd[:8])) + (", …" if len(odd) > 8 else "")
        done.append(f"{len(odd)} dark or glitched frames left out" + (f": {listed}" if len(odd) else ""))
    if not len(kept):
        raise ScanError("preparation", [Problem(path="drop", expected="a frame that is left", found="none")])
    if len(kept) < n_frames:
        done.insert(0, f"{n_frames - len(kept)} of {n_frames} frames left out")
    return kept


def _metadata(own: OwnParts, source: RawFrames, plan: FramePlan) -> ScanMetadata:
    """Settle the lengths at the end: what is typed, then what the file says."""
    settings, geometry = plan.settings, own.geometry
    wavelength = _wavelength_m(settings, geometry.wavelength_m)
    distance = settings.distance_m or geometry.distance_m
    stated = geometry.detector_pixel_m
    detector = settings.detector_pixel_m or (None if stated is None else stated[1])
    raise_if_any(ScanError, "preparation", geometry_problems(distance_m=distance, detector_pixel_m=detector))
    pixel = settings.pixel_m
    if pixel is None and wavelength and distance and detector:
        binned = abs(detector) * settings.bin
        pixel = object_pixel_m(
            wavelength_m=wavelength, distance_m=abs(distance), detector_pixel_m=binned, size_px=plan.size
        )
    elif pixel is None and geometry.pixel_m is not None:
        pixel = geometry.pixel_m / zoom_of(source, plan)
    raise_if_any(ScanError, "preparation", geometry_problems(pixel_m=pixel))
    return ScanMetadata(
        name=source.path.stem, pixel_size_m=pixel, wavelength_m=wavelength, distance_m=distance, extra=own.notes
    )


def _what_is_done(plan: FramePlan, centre: tuple[float, float], how: str) -> list[str]:
    settings = plan.settings
    turned = [f"turned by {settings.turn_deg} degrees"] if settings.turn_deg else []
    turned += [f"{settings.flip} flipped"] if settings.flip is not Flip.NONE else []
    turned += ["rows and columns exchanged"] if settings.transpose else []
    done = [f"frames {', '.join(turned)}"] if turned else []
    window = plan.size * settings.bin
    done.append(f"window of {window} x {window} px about the beam at ({centre[0]:.2f}, {centre[1]:.2f}), {how}")
    return done + ([f"blocks of {settings.bin} x {settings.bin} px summed"] if settings.bin > 1 else [])


def _probe(own: OwnParts, source: RawFrames, plan: FramePlan, done: list[str]) -> npt.NDArray[np.complex64] | None:
    if own.probe is None:
        return None
    settings = plan.settings
    turned = bool(settings.turn_deg) or settings.flip is not Flip.NONE or settings.transpose
    if turned or own.probe.shape[1:] != source.shape[1:]:
        done.append("the probe of the file left out: " + ("the frames are turned" if turned else "it has another size"))
        return None
    return prepared_probe(own.probe, plan)


def _frames(job: _Job, progress: Progress) -> Iterator[AnyArray]:
    through = 0
    for piece in job.source.pieces(job.kept):
        yield prepared_frames(piece, job.plan)
        through += len(piece)
        progress(through)


def _prepared(job: _Job) -> PreparedScan:
    mask = job.plan.mask
    return PreparedScan(
        n_patterns=len(job.kept),
        size=job.plan.size,
        dtype=job.plan.result_dtype,
        positions_px=job.positions_px,
        bad_pixels=mask if mask.any() else None,
        probe=job.probe,
        domain=job.own.domain,
        metadata=job.metadata,
    )


def _figures_in(job: _Job) -> dict[str, object]:
    n_frames, height, width = job.source.shape
    return {
        "frames": n_frames,
        "frame_px": f"{height} x {width}",
        "number_format": in_words(job.source.dtype),
        "frames_in": job.source.key or job.source.path.name,
    }


def _figures_out(job: _Job, after: Real) -> dict[str, object]:
    extent = np.ptp(job.positions_px, axis=0)
    return {
        "patterns": len(job.kept),
        "pattern_px": job.plan.size,
        "number_format": str(job.plan.result_dtype),
        "bad_pixels": int(np.count_nonzero(job.plan.mask)),
        "counts_per_pattern": float(after.sum()),
        "object_pixel_m": job.metadata.pixel_size_m,
        "extent_px": f"{extent[0]:.4g} x {extent[1]:.4g}",
        "probe": _NO_PROBE if job.probe is None else str(job.probe.shape),
    }
