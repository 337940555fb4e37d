"""Scans written as NPZ: ours with the legacy keys, and the one that PtychoPINN trains on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.files.evidence.domain import LAYOUT_KEY, PATTERNS_FIRST
from ptycho_adapters.files.formats.metadata_json import KEY as METADATA_KEY
from ptycho_adapters.files.formats.metadata_json import metadata_to_text
from ptycho_adapters.files.formats.npz.parts import COMMANDED_KEY, COMMANDED_UNKNOWN, DOMAIN_KEY
from ptycho_core.errors import Problem
from ptycho_core.measurement.scan import MeasurementDomain, Scan

if TYPE_CHECKING:
    from pathlib import Path

_Arrays: TypeAlias = "dict[str, npt.NDArray[np.generic]]"


def write_npz_scan(scan: Scan, path: Path) -> None:
    """Write a scan so that `read_npz_scan` gives back an equal one; atomic.

    Args:
        scan: what to write.
        path: where to.

    Raises:
        OSError: from the file system; an earlier file is then as it was.
    """
    _save(_arrays(scan), path)


def ptychopinn_refuses(scan: Scan) -> tuple[Problem, ...]:
    """Name what PtychoPINN would misread or miss: it takes `diff3d` for amplitudes and needs an object guess."""
    problems = []
    if scan.domain is not MeasurementDomain.AMPLITUDE:
        fix = "take the square roots: ptycho convert --as-amplitude, or scan.as_amplitude() in Python"
        expected = "amplitude, for which PtychoPINN takes the patterns"
        problems.append(Problem(path="domain", expected=expected, found=str(scan.domain), fix=fix))
    if scan.object is None:
        expected, fix = "an object guess, which PtychoPINN needs", "give one with ptycho convert --object FILE"
        problems.append(Problem(path="object", expected=expected, found="none", fix=fix))
    return tuple(problems)


def write_ptychopinn_scan(scan: Scan, path: Path) -> None:
    """Write the NPZ that every loader of PtychoPINN accepts, and `read_npz_scan` gives back as an equal scan; atomic.

    The keys are `diff3d` (n, N, N) amplitude, `xcoords`, `ycoords`, `xcoords_start`, `ycoords_start` (n,), `probeGuess`
    (N, N) or (modes, N, N), `objectGuess` (H, W) and `scan_index` (n,). Start coordinates that are unknown repeat the
    others, and a text says so.

    Args:
        scan: amplitudes with an object; see `ptychopinn_refuses`.
        path: where to.

    Raises:
        OSError: from the file system; an earlier file is then as it was.
    """
    arrays = _arrays(scan)
    if scan.n_modes == 1:
        arrays["probeGuess"] = scan.probe[0]
    if scan.commanded_positions_px is None:
        arrays |= {"xcoords_start": arrays["xcoords"], "ycoords_start": arrays["ycoords"]}
        arrays[COMMANDED_KEY] = np.array(COMMANDED_UNKNOWN)
    _save(arrays, path)


def _arrays(scan: Scan) -> _Arrays:
    arrays: _Arrays = {
        "diff3d": scan.patterns,
        "xcoords": scan.positions_px[:, 1],
        "ycoords": scan.positions_px[:, 0],
        "probeGuess": scan.probe,
        "scan_index": scan.scan_index,
        DOMAIN_KEY: np.array(str(scan.domain)),
        LAYOUT_KEY: np.array(PATTERNS_FIRST),
        METADATA_KEY: np.array(metadata_to_text(scan.metadata, N=scan.N)),
    }
    if scan.object is not None:
        arrays["objectGuess"] = scan.object
    if scan.bad_pixels is not None:
        arrays["bad_pixels"] = scan.bad_pixels
    if scan.commanded_positions_px is not None:
        arrays["xcoords_start"] = scan.commanded_positions_px[:, 1]
        arrays["ycoords_start"] = scan.commanded_positions_px[:, 0]
    return arrays


def _save(arrays: _Arrays, path: Path) -> None:
    with atomic_path(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
