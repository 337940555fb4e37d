"""Scans in CXI files, the format of the Coherent X-ray Imaging Data Bank (specification 1.6).

Energies are joules, lengths metres, and a mask is anything but 0 where a pixel is bad, unless its bits say no more than
that a peak was found there or a correction made. Translations are (x, y, z) of the sample: over it the beam moves the
other way. The rows of a detector run along -y and its columns along -x of the laboratory unless the file has basis
vectors that say otherwise, so that the two signs cancel: the column of a position goes with +x, its row with +y. Data
are photons, with zero frequency in the middle unless the light says that a Fourier transform left it in the corner.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.formats.beamline import scan_of
from ptycho_adapters.files.formats.beamline_parts import POSITIONS_FLAGS, BeamlineParts, Geometry, OwnWords
from ptycho_adapters.files.formats.metadata_json import metadata_from_text
from ptycho_adapters.files.hdf5.collect import Collector, collecting
from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem
from ptycho_core.measurement.arrays import as_index
from ptycho_core.measurement.geometry import LIGHT_SPEED_M_S, PLANCK_J_S
from ptycho_core.measurement.preparation.darks import mean_dark
from ptycho_core.measurement.scan import MeasurementDomain, Scan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ptycho_adapters.files.reading import ArrayFacts, Evidence, ReadRequest
    from ptycho_adapters.files.stated import Stated

TITLE = "CXI"
ENTRY = "entry_1"
DETECTOR = f"{ENTRY}/instrument_1/detector_1"
SOURCE = f"{ENTRY}/instrument_1/source_1"
DATA_KEYS = (f"{ENTRY}/data_1/data", f"{DETECTOR}/data")
TRANSLATION_KEYS = (
    f"{ENTRY}/sample_1/geometry_1/translation",
    f"{ENTRY}/data_1/translation",
    f"{DETECTOR}/translation",
)
MOTOR_KEYS = (f"{ENTRY}/sample_1/transformations/x", f"{ENTRY}/sample_1/transformations/y")
"""Where NXcxi_ptycho has the positions that were not linked together into translations."""
PROBE_KEYS = (f"{ENTRY}/image_1/data", f"{SOURCE}/illumination", f"{SOURCE}/probe", f"{DETECTOR}/probe")
DARK_KEYS = (f"{DETECTOR}/data_dark", f"{ENTRY}/data_1/data_dark")
# Where there is a beam (NXcxi_ptycho), it has the photons' energy, and the source that of its ring.
ENERGY_KEYS = (f"{ENTRY}/instrument_1/beam_1/energy", f"{ENTRY}/beam_1/energy", f"{SOURCE}/energy")
OBJECT_KEY = f"{ENTRY}/image_2/data"
OWN_GROUP = f"{ENTRY}/ptycho_core"

# From visible light to hard gamma rays; an energy outside of it is in other units.
_ENERGIES_J = (1e-20, 1e-12)
# Bits of a mask that are no faults: in the peak mask, artefact corrected, peak of the hit finder, background corrected.
_NO_FAULTS = 0x20 | 0x800 | 0x2000 | 0x4000
_ALONG_AXIS = 0.999
_SAME_WAVELENGTH = 1e-6


def is_cxi(evidence: Evidence) -> bool:
    """Tell a CXI file by its version or by where its patterns lie."""
    return evidence.is_hdf5_with("cxi_version") or cxi_patterns(evidence) is not None


def cxi_patterns(evidence: Evidence) -> ArrayFacts | None:
    """Give shape and dtype of the patterns of a CXI file, None for any other."""
    if not evidence.is_hdf5_with():
        return None
    return next((evidence.arrays[key].as_stack() for key in DATA_KEYS if key in evidence.arrays), None)


def read_cxi_scan(path: Path, request: ReadRequest) -> Scan:
    """Read a scan from a CXI file.

    Args:
        path: the file with the patterns.
        request: what the caller said. A second file may be given: a CXI product with the translations, the probe and
            the lengths that the first one lacks. Where neither has a probe, it has to come from elsewhere.

    Returns:
        The scan; its metadata say what was found out rather than stated.

    Raises:
        ScanFileError: with every problem there is.
    """
    with ExitStack() as stack:
        file = stack.enter_context(collecting(path))
        second = file if request.product is None else stack.enter_context(collecting(request.product))
        files = (file,) if second is file else (file, second)
        data_key = file.first(*DATA_KEYS) or DATA_KEYS[0]
        there = _first_with(files, TRANSLATION_KEYS)
        translation_key = there.first(*TRANSLATION_KEYS) or TRANSLATION_KEYS[0]
        parts = BeamlineParts(key_of=_keys(data_key, translation_key))
        dark = _dark(file, parts.notes)
        parts.patterns = file.patterns(data_key, "diffraction patterns", request.pattern_map, dark)
        parts.geometry = _geometry(files, parts.notes, request.stated)
        if not request.stated.places_frames:
            parts.positions_m = _positions_m(there, translation_key, _number_of(parts.patterns))
        parts.bad_pixels = _bad_pixels(file, parts.notes)
        if request.probe is None:
            _read_probe(_first_with(files, PROBE_KEYS), parts)
        parts.own = _own_words(file)
        parts.problems.extend(problem for one in files for problem in one.problems)
    return scan_of(parts, path, request)


def read_cxi_parts(path: Path, n_frames: int, stated: Stated) -> tuple[BeamlineParts, npt.NDArray[np.float32] | None]:
    """Read everything of a CXI file but its patterns.

    Args:
        path: the file.
        n_frames: how many patterns it holds, which tells (n, 3) translations from (3, n).
        stated: lengths that are said beside the file, which are not looked for in it.

    Returns:
        The parts, with what is missing as problems, and the mean of the dark frames.
    """
    with collecting(path) as file:
        key = file.first(*TRANSLATION_KEYS) or TRANSLATION_KEYS[0]
        parts = BeamlineParts(key_of=_keys(DATA_KEYS[0], key))
        parts.geometry = _geometry((file,), parts.notes, stated)
        parts.positions_m = _positions_m(file, key, n_frames)
        parts.bad_pixels = _bad_pixels(file, parts.notes)
        _read_probe(file, parts)
        parts.own = _own_words(file)
        dark = _dark(file, parts.notes)
        parts.problems.extend(file.problems)
    return parts, dark


def _first_with(files: Sequence[Collector], keys: Sequence[str]) -> Collector:
    """Give the first of the files that holds one of these, or the first of all."""
    return next((file for file in files if file.first(*keys) is not None), files[0])


def _keys(data_key: str, translation_key: str) -> dict[str, str]:
    return {
        "patterns": data_key,
        "positions_px": translation_key,
        "bad_pixels": f"{DETECTOR}/mask",
        "geometry": f"{DETECTOR}, {SOURCE}",
        "object": OBJECT_KEY,
    }


def _geometry(files: Sequence[Collector], notes: dict[str, str], stated: Stated) -> Geometry:
    """Read the lengths, but for those that were said: a file that says them wrongly is mended so."""
    detector = _first_with(files, [f"{DETECTOR}/{axis}_pixel_size" for axis in "yx"])
    is_said = stated.detector_pixel_m is not None
    pixels = [None if is_said else detector.positive(f"{DETECTOR}/{axis}_pixel_size", "m") for axis in "yx"]
    height, width = pixels[0] or pixels[1], pixels[1] or pixels[0]
    return Geometry(
        wavelength_m=stated.wavelength_m
        or _wavelength_m(_first_with(files, (*ENERGY_KEYS, f"{SOURCE}/wavelength")), notes),
        distance_m=stated.distance_m
        or _distance_m(_first_with(files, (f"{DETECTOR}/distance", f"{DETECTOR}/corner_position")), notes),
        detector_pixel_m=None if height is None or width is None else (height, width),
    )


def _distance_m(file: Collector, notes: dict[str, str]) -> float | None:
    """Give the distance of the detector, or of its corner; some files count it along -z."""
    distance = file.number(f"{DETECTOR}/distance", "m")
    if distance is None and file.has(f"{DETECTOR}/corner_position"):
        corner = file.quantity(f"{DETECTOR}/corner_position", "(x, y, z)", "m")
        if corner is not None and corner.dtype.kind == "f" and corner.shape == (3,):
            distance = float(corner[2])
            notes["distance_evidence"] = "z of the detector's corner"
    return abs(distance) if distance is not None and np.isfinite(distance) and distance != 0.0 else None


def _wavelength_m(file: Collector, notes: dict[str, str]) -> float | None:
    """Settle the wavelength: from the energy, which the format asks for, unless that is not in joules."""
    key = file.first(*ENERGY_KEYS) or ENERGY_KEYS[-1]
    energy_j = file.positive(key, "J")
    stated_m = file.positive(f"{SOURCE}/wavelength", "m")
    if energy_j is None:
        return stated_m
    smallest, largest = _ENERGIES_J
    wavelength_m = PLANCK_J_S * LIGHT_SPEED_M_S / energy_j
    if stated_m is not None and abs(wavelength_m - stated_m) <= _SAME_WAVELENGTH * stated_m:
        return stated_m
    if smallest <= energy_j <= largest:
        if stated_m is not None:
            notes["wavelength_evidence"] = f"the energy; the file also states {stated_m:g} m"
        return wavelength_m
    if stated_m is not None:
        notes["wavelength_evidence"] = f"the stated one; an energy of {energy_j:g} is not in joules"
        return stated_m
    problem = Problem(
        path=key,
        expected=f"a photon energy in joules, {smallest:g} to {largest:g}",
        found=f"{energy_j:g}",
        fix="multiply an energy in eV by 1.602176634e-19, state its unit in a units attribute, or give --energy-ev",
    )
    file.problems.append(problem)
    return None


def _number_of(patterns: AnyArray | None) -> int | None:
    return len(patterns) if patterns is not None and patterns.ndim == 3 else None


def _positions_m(file: Collector, key: str, n_patterns: int | None) -> AnyArray | None:
    """Give the beam on the sample as (n, 2), rows and columns, in metres."""
    if not file.has(key) and all(file.has(motor) for motor in MOTOR_KEYS):
        translation = _of_motors(file)
    else:
        translation = file.quantity(key, "translations (n, 3) of the sample", "m")
    if translation is None:
        file.problems[-1] = attrs.evolve(file.problems[-1], fix=file.problems[-1].fix or POSITIONS_FLAGS)
        return None
    if translation.ndim == 3 and translation.shape[2] in (2, 3):
        translation = translation.reshape(-1, translation.shape[2])
    if translation.ndim == 2 and translation.shape[0] in (2, 3) and n_patterns == translation.shape[1] != 3:
        translation = translation.T
    if translation.ndim != 2 or translation.shape[1] not in (2, 3) or translation.dtype.kind not in "iuf":
        expected = "(n, 3) real numbers: x, y, z in metres"
        file.problems.append(Problem(path=key, expected=expected, found=describe(translation)))
        return None
    rows, columns = _detector_axes(file)
    values = translation.astype(np.float64)
    return np.stack([-sign * values[:, axis] for axis, sign in (rows, columns)], axis=1)


def _of_motors(file: Collector) -> AnyArray | None:
    """Give (n, 2) by the motors x and y, which have a number for each frame, be it in the shape of a raster."""
    x, y = (file.quantity(key, "positions of a motor", "m") for key in MOTOR_KEYS)
    if x is None or y is None or x.size != y.size or "c" in {x.dtype.kind, y.dtype.kind}:
        expected = "equally many of x and y"
        file.problems.append(Problem(path=", ".join(MOTOR_KEYS), expected=expected, found="others"))
        return None
    return np.stack([x.astype(np.float64).ravel(), y.astype(np.float64).ravel()], axis=1)


def _detector_axes(file: Collector) -> tuple[tuple[int, int], tuple[int, int]]:
    """Say along which axis of the laboratory, and in which sense, the rows and the columns of the detector grow."""
    usual = (1, -1), (0, -1)
    key = f"{DETECTOR}/basis_vectors"
    if not file.has(key):
        return usual
    vectors = file.array(key, "two vectors of three components")
    if vectors is None or vectors.dtype.kind != "f":
        return usual
    if vectors.ndim == 3 and vectors.shape[1:] == (2, 3) and len(vectors):
        vectors = vectors[0]
    if vectors.shape == (3, 2):
        vectors = vectors.T
    if vectors.shape != (2, 3):
        file.problems.append(Problem(path=key, expected="shape (3, 2) or (2, 3)", found=describe(vectors)))
        return usual
    found = [_axis_of(vector) for vector in vectors.astype(np.float64)]
    rows, columns = found
    if rows is None or columns is None or rows[0] == columns[0]:
        expected = "rows and columns along x and y of the laboratory"
        problem = Problem(
            path=key, expected=expected, found=f"{vectors.tolist()}", fix="turn the translations yourself"
        )
        file.problems.append(problem)
        return usual
    return rows, columns


def _axis_of(vector: npt.NDArray[np.float64]) -> tuple[int, int] | None:
    length = float(np.sqrt(np.sum(np.square(vector))))
    axis = int(np.argmax(np.abs(vector)))
    if not (0.0 < length < np.inf) or axis == 2 or abs(vector[axis]) < _ALONG_AXIS * length:
        return None
    return axis, 1 if vector[axis] > 0 else -1


def _dark(file: Collector, notes: dict[str, str]) -> npt.NDArray[np.float32] | None:
    """Give the mean of the dark frames, which is no light and taken off; None where the file has none."""
    key = file.first(*DARK_KEYS)
    frames = None if key is None else file.array(key, "dark frames")
    if key is None or frames is None:
        return None
    if frames.ndim not in (2, 3) or frames.dtype.kind not in "iuf" or not frames.size:
        expected = "dark frames, (N, N) or (n, N, N) real numbers"
        file.problems.append(Problem(path=key, expected=expected, found=describe(frames)))
        return None
    dark = mean_dark(frames)
    if not np.isfinite(dark).all():
        file.problems.append(Problem(path=key, expected="finite dark frames", found="NaN or infinite values"))
        return None
    number = len(frames) if frames.ndim == 3 else 1
    notes["dark_evidence"] = f"the mean of {number} dark frames, {dark.mean():.4g} a pixel, was taken off ({key})"
    return dark


def _bad_pixels(file: Collector, notes: dict[str, str]) -> AnyArray | None:
    """Read the mask: bits say what is wrong with a pixel, but for those that say what it is or what was done to it."""
    key = f"{DETECTOR}/mask"
    if not file.has(key):
        return None
    mask = file.array(key, "a mask (N, N)")
    if mask is None:
        return None
    bad = mask.astype(np.bool_)
    if mask.dtype.kind in "iu" and mask.dtype.itemsize >= 2:
        faults = (mask.astype(np.int64) & ~_NO_FAULTS) != 0
        if (faults != bad).any():
            notes["mask_evidence"] = "bits of peaks and of corrections that were made are no faults"
        bad = faults
    return np.asarray(bad.any(axis=0)) if bad.ndim == 3 else bad


def _read_probe(file: Collector, parts: BeamlineParts) -> None:
    """Take the first complex array that can be the probe; images of the sample have other sizes and names."""
    for key in PROBE_KEYS:
        if file.kind(key) != "c":
            continue
        probe = file.array(key, "an illumination")
        if probe is None:
            return
        if probe.ndim == 4 and len(probe) == 1:
            probe = probe[0]
        parts.probe = probe
        parts.key_of = {**parts.key_of, "probe": key}
        return


def _own_words(file: Collector) -> OwnWords | None:
    """Read what this library adds to the format; None for files of others."""
    domain, text = file.text(f"{OWN_GROUP}/measurement_domain"), file.text(f"{OWN_GROUP}/metadata")
    if domain is None or text is None:
        return None
    metadata, problems = metadata_from_text(text)
    file.problems.extend(problems)
    if domain not in tuple(MeasurementDomain):
        expected = " or ".join(MeasurementDomain)
        file.problems.append(Problem(path=f"{OWN_GROUP}/measurement_domain", expected=expected, found=repr(domain)))
        return None
    index = _own_array(file, f"{OWN_GROUP}/scan_index")
    return OwnWords(
        domain=MeasurementDomain(domain),
        metadata=metadata,
        positions_px=_own_array(file, f"{OWN_GROUP}/positions_px"),
        object=_own_array(file, f"{OWN_GROUP}/object"),
        scan_index=None if index is None else as_index(index),
        commanded_positions_px=_own_array(file, f"{OWN_GROUP}/commanded_positions_px"),
    )


def _own_array(file: Collector, key: str) -> AnyArray | None:
    return file.array(key, "an array") if file.has(key) else None
