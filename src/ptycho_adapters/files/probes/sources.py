"""Where a probe comes from when a scan's file has none: another file, or the optics that made it."""

from __future__ import annotations

import math
import warnings
from pathlib import Path  # noqa: TC003 - signatures are read at run time too
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.probes.files import StoredProbe, read_probe_file
from ptycho_adapters.files.reading import ProbeSource  # noqa: TC001 - signatures are read at run time too
from ptycho_core.errors import Problem, ScanError, ScanFileError, raise_if_any
from ptycho_core.physics.probe_models import ProbeFrame, ProbeModel, model_probe
from ptycho_core.physics.probes import scaled_to

if TYPE_CHECKING:
    from ptycho_adapters.files.reading import ProbeSetting

_SAME_PIXEL = 0.01
# An object absorbs, it does not swallow: a probe further off than this was not given in photons.
_LARGEST_FLUX_RATIO = 10.0
_AS_A_FILE = "give a probe as a file instead, with probe=probe_from_file(FILE) or --probe FILE"


def probe_from_file(path: Path) -> ProbeSource:
    """Take the probe of another file; it is read at once.

    A probe whose photons are not within a factor of ten of the patterns' was not given in photons: it is scaled to
    them, with a warning.

    Args:
        path: a product or a result of another program (HDF5, MATLAB 7.3, PtyPy, NPZ), a CXI file or a scan with a
            probe, a `.npy` array, or a complex TIFF.

    Returns:
        A source for `read_scan`.

    Raises:
        FileNotFoundError: there is no such file.
        ScanFileError: it holds no probe.
    """
    stored = read_probe_file(path)

    def source(setting: ProbeSetting) -> npt.NDArray[np.complex64]:
        raise_if_any(ScanFileError, str(path), _misfits(stored, setting))
        photons = _photons(stored.array)
        if 1.0 / _LARGEST_FLUX_RATIO <= photons / setting.photons <= _LARGEST_FLUX_RATIO:
            return stored.array
        said = (
            f"{path}: the probe holds {photons:.3g} photons, the patterns {setting.photons:.3g}: it was scaled to them"
        )
        warnings.warn(said, UserWarning, stacklevel=2)
        return scaled_to(stored.array, photons=setting.photons).astype(np.complex64)

    return source


def probe_from_model(model: ProbeModel) -> ProbeSource:
    """Compute the probe from the optics, with the photons of the patterns.

    Args:
        model: what made the beam.

    Returns:
        A source for `read_scan`. It raises ScanFileError for a scan whose pixel or wavelength is not known, and for a
        beam that its frame cannot hold.
    """

    def source(setting: ProbeSetting) -> npt.NDArray[np.complex64]:
        lengths = {"pixel_m": setting.pixel_m, "wavelength_m": setting.wavelength_m}
        missing = [name for name, value in lengths.items() if value is None]
        if setting.pixel_m is None or setting.wavelength_m is None:
            expected, found = "the scan's object pixel and wavelength", f"no {' and no '.join(missing)} in the file"
            problem = Problem(path="probe model", expected=expected, found=found, fix=_AS_A_FILE)
            raise ScanFileError("probe model", [problem])
        frame = ProbeFrame(size_px=setting.size_px, pixel_m=setting.pixel_m, wavelength_m=setting.wavelength_m)
        try:
            return model_probe(model, frame, photons=setting.photons).astype(np.complex64)
        except ScanError as error:
            raise ScanFileError("probe model", error.problems) from None

    return source


def _photons(probe: npt.NDArray[np.complex64]) -> float:
    return float(np.sum(np.square(np.abs(probe.astype(np.complex128)))))


def _misfits(stored: StoredProbe, setting: ProbeSetting) -> list[Problem]:
    """Say where a probe was made for other patterns."""
    problems = []
    rows, columns = stored.array.shape[1:]
    if (rows, columns) != (setting.size_px, setting.size_px):
        expected = f"{setting.size_px}×{setting.size_px} px, as the patterns"
        problems.append(Problem(path="probe", expected=expected, found=f"{rows}×{columns}"))
    known = stored.pixel_m is not None and setting.pixel_m is not None
    if known and not math.isclose(stored.pixel_m or 0.0, setting.pixel_m or 0.0, rel_tol=_SAME_PIXEL):
        expected = f"pixels of {setting.pixel_m:.4g} m, as the scan's"
        problems.append(Problem(path="probe", expected=expected, found=f"pixels of {stored.pixel_m:.4g} m"))
    photons = _photons(stored.array)
    if not (np.isfinite(photons) and photons > 0.0):
        problems.append(Problem(path="probe", expected="finite numbers with light in them", found=f"Σ|P|² = {photons}"))
    return problems
