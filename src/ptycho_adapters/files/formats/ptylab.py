"""Scans in PtyLab's HDF5 files for conventional ptychography, and in those of its MATLAB twin.

`ptychogram` is (n, N, N) photons with zero frequency in the middle; `encoder` (n, 2) holds row and column of the beam
on the object in metres; `dxd` is the side of a detector pixel, `zo` the distance to the detector and `wavelength` what
it says, all in metres. `orientation`, if there is one, says how the frames are to be turned, as PtyPy counts: 1 columns
the other way, 2 rows the other way, 4 rows and columns exchanged before that, and sums of these.

MATLAB writes arrays with their axes in the other order. An `encoder` of (2, n) tells, and then the frames have rows and
columns exchanged, too. Fourier ptychography (`zled` instead of `zo`) is another experiment and refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.files.formats.beamline_parts import POSITIONS_FLAGS, BeamlineParts, Geometry
from ptycho_adapters.files.formats.measured import MeasuredFormat
from ptycho_adapters.files.hdf5.collect import Collector, collecting
from ptycho_adapters.files.reading import Evidence, ReadRequest, ScanFormat
from ptycho_adapters.files.stacks.hdf5 import hdf5_stack
from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.files.stacks.stack import FrameStack

TITLE = "PtyLab"

_FRAMES, _ENCODER, _ORIENTATION = "ptychogram", "encoder", "orientation"
_COLUMNS_BACK, _ROWS_BACK, _EXCHANGED = 1, 2, 4
_ANGLE, _SPECTRUM = "theta", "spectralDensity"
_FEW = 2


def is_ptylab(evidence: Evidence) -> bool:
    """Tell a PtyLab file by the name of its frames."""
    return evidence.is_hdf5_with(_FRAMES)


def ptylab_stack(evidence: Evidence) -> FrameStack | None:
    """Find the frames, turned as the file says; None where they are no stack."""
    facts = evidence.arrays.get(_FRAMES)
    if facts is None or len(facts.shape) != 3:
        return None
    stored = hdf5_stack(evidence.path, _FRAMES, facts)
    by_matlab = _is_by_matlab(evidence)
    with collecting(evidence.path) as file:
        turn = _orientation(file) or 0
    if not turn and not by_matlab:
        return stored
    exchanged = bool(turn & _EXCHANGED) != by_matlab
    _, height, width = facts.shape

    def upright(frames: AnyArray) -> AnyArray:
        return _turned(np.swapaxes(frames, 1, 2) if by_matlab else frames, turn)

    return stored.turned(upright, (width, height) if exchanged else (height, width))


def read_ptylab_parts(path: Path, stack: FrameStack, request: ReadRequest) -> BeamlineParts:
    """Read everything of a file but its frames; what is missing is among the problems.

    Args:
        path: the file.
        stack: its frames.
        request: what was said; positions are not missed where they were.

    Raises:
        ScanFileError: it cannot be opened.
    """
    parts = BeamlineParts(key_of={"positions_px": _ENCODER, "geometry": "wavelength, zo, dxd"})
    with collecting(path) as file:
        if not request.stated.places_frames:
            parts.positions_m = _positions_m(file, stack.facts.shape[0], parts.notes)
        pixel = file.positive("dxd", "m")
        parts.geometry = Geometry(
            wavelength_m=request.stated.wavelength_m or file.positive("wavelength", "m"),
            distance_m=request.stated.distance_m or file.positive("zo", "m"),
            detector_pixel_m=None if pixel is None else (pixel, pixel),
        )
        turn = _orientation(file)
        if turn:
            parts.notes["orientation_evidence"] = f"frames turned as the file asks for: orientation {turn}"
        _check_experiment(file, parts.notes)
        parts.problems.extend(file.problems)
    return parts


PTYLAB = MeasuredFormat(
    format=ScanFormat.PTYLAB, title=TITLE, recognises=is_ptylab, stack=ptylab_stack, parts=read_ptylab_parts
)


def _is_by_matlab(evidence: Evidence) -> bool:
    encoder = evidence.arrays.get(_ENCODER)
    return encoder is not None and len(encoder.shape) == 2 and encoder.shape[0] == _FEW < encoder.shape[1]


def _orientation(file: Collector) -> int | None:
    """Read how the frames are to be turned; what is no number from 0 to 7 is noted as a problem."""
    number = file.number(_ORIENTATION)
    if number is None:
        return None
    whole = _COLUMNS_BACK | _ROWS_BACK | _EXCHANGED
    if number not in range(whole + 1):
        problem = Problem(path=_ORIENTATION, expected=f"a whole number from 0 to {whole}", found=f"{number:g}")
        file.problems.append(problem)
        return None
    return int(number)


def _turned(frames: AnyArray, turn: int) -> AnyArray:
    exchanged = np.swapaxes(frames, 1, 2) if turn & _EXCHANGED else frames
    return exchanged[:, :: -1 if turn & _ROWS_BACK else 1, :: -1 if turn & _COLUMNS_BACK else 1]


def _positions_m(file: Collector, n_frames: int, notes: dict[str, str]) -> AnyArray | None:
    encoder = file.quantity(_ENCODER, "positions (n, 2), row and column in metres", "m")
    if encoder is None:
        file.problems[-1] = attrs.evolve(file.problems[-1], fix=file.problems[-1].fix or POSITIONS_FLAGS)
        return None
    if encoder.ndim == 2 and encoder.shape == (_FEW, n_frames) and n_frames > _FEW:
        encoder = encoder.T
        notes["axes_evidence"] = "the encoder is (2, n), as MATLAB writes it: rows and columns of frames are exchanged"
    if encoder.ndim != 2 or encoder.shape[1] != _FEW or encoder.dtype.kind not in "iuf":
        expected = "(n, 2) real numbers: row and column in metres"
        file.problems.append(Problem(path=_ENCODER, expected=expected, found=describe(encoder)))
        return None
    return encoder.astype(np.float64)


def _check_experiment(file: Collector, notes: dict[str, str]) -> None:
    """Refuse experiments that the far field at one wavelength does not hold for."""
    if file.has("zled") and not file.has("zo"):
        problem = Problem(path="zled", expected="conventional ptychography, with zo", found="Fourier ptychography")
        file.problems.append(problem)
    angle = file.number(_ANGLE) if file.kind(_ANGLE) else None
    if angle:
        problem = Problem(path=_ANGLE, expected="frames on a plane across the beam", found=f"tilted by {angle:g}")
        file.problems.append(attrs.evolve(problem, fix="correct the tilt in the frames first"))
    spectrum = file.array(_SPECTRUM, "wavelengths") if file.kind(_SPECTRUM) in {"i", "u", "f"} else None
    if spectrum is not None and len(np.unique(spectrum)) > 1:
        notes["ignored_keys"] = f"{_SPECTRUM}: {spectrum.size} wavelengths, of which the one of the file is taken"
