"""What readers of scans have in common: the evidence they look at, the request they answer, their record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.files.in_file import InFile
from ptycho_adapters.files.pattern_map import PatternMap
from ptycho_adapters.files.stated import Stated
from ptycho_core.errors import Problem, ScanFileError
from ptycho_core.measurement.arrays import Patterns, as_probe
from ptycho_core.measurement.frames import frame_slices
from ptycho_core.measurement.scan import MeasurementDomain, Scan

_RASTER_AXES = 4


class ScanFormat(StrEnum):
    """The file formats that hold a scan, or one half of it."""

    NPZ = "npz"
    PTYCHOPINN = "ptychopinn"
    PTYCHODUS = "ptychodus"
    PTYCHODUS_TRAINING = "ptychodus-training"
    PTYCHODUS_PRODUCT = "ptychodus-product"
    CXI = "cxi"
    PTYCHOSHELVES = "ptychoshelves"
    PTYPY = "ptypy"
    PTYLAB = "ptylab"
    EMD = "emd"
    EMPAD = "empad"
    NEXUS = "nexus"
    FRAMES = "frames"
    TIFF = "tiff"


class Container(StrEnum):
    """What a file is made of, by its first bytes."""

    FOLDER = "folder"
    HDF5 = "HDF5"
    ZIP = "NPZ"
    OTHER = "other"


@attrs.frozen(kw_only=True)
class ArrayFacts:
    """Shape and dtype of an array in a file, known without reading its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def nbytes(self) -> int:
        """Bytes that the array takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def as_stack(self) -> ArrayFacts:
        """Give (rows, columns, H, W) as (n, H, W), and anything else as it is."""
        if len(self.shape) != _RASTER_AXES:
            return self
        return ArrayFacts(shape=(self.shape[0] * self.shape[1], *self.shape[2:]), dtype=self.dtype)


@attrs.frozen(kw_only=True)
class Evidence:
    """What a file shows without reading its numbers.

    Attributes:
        path: the file or folder.
        container: what it is made of.
        head: its first 8 bytes; empty for a folder.
        arrays: shape and dtype of what it holds: HDF5 datasets by their path without a leading slash
            ("entry_1/data_1/data"), NPZ members by key, the files of a folder by name (shape ()).
        problems: what kept the list from being complete; not empty for a damaged file.
    """

    path: Path
    container: Container
    head: bytes = b""
    arrays: Mapping[str, ArrayFacts] = attrs.field(factory=dict)
    problems: tuple[Problem, ...] = ()

    def is_hdf5_with(self, *names: str) -> bool:
        """Tell whether this is an HDF5 file that holds all these datasets."""
        return self.container is Container.HDF5 and self.arrays.keys() >= set(names)

    def is_npz_with(self, *names: str) -> bool:
        """Tell whether this is an NPZ file that holds all these members."""
        return self.container is Container.ZIP and self.arrays.keys() >= set(names)


@attrs.frozen(kw_only=True)
class ProbeSetting:
    """What is known about a scan by the time that its probe is needed.

    Attributes:
        size_px: side of a pattern.
        photons: photons per frame, the mean of the patterns' sums.
        pixel_m: object pixel in metres, None when unknown.
        wavelength_m: wavelength in metres, None when unknown.
        distance_m: distance from object to detector in metres, None when unknown.
    """

    size_px: int
    photons: float
    pixel_m: float | None = None
    wavelength_m: float | None = None
    distance_m: float | None = None


ProbeSource = Callable[[ProbeSetting], npt.NDArray[np.complex64]]
"""Gives the probe, (modes, N, N) or (N, N) complex, for a setting; sum of |P|² = photons per frame."""


class DetectorCheck(StrEnum):
    """What is done about pixels and frames that are no measurement."""

    MASK = "mask"
    WARN = "warn"
    OFF = "off"


@attrs.frozen(kw_only=True)
class ReadRequest:
    """What the caller says beside the path.

    Attributes:
        domain: what the patterns are; None means that the file tells.
        product: a second file with what the first one lacks: positions, probe and object of a Ptychodus diffraction
            file, the parameters of a PtychoShelves data file.
        probe: where the probe comes from when it is not to be the one in the files.
        pattern_map: where the patterns are to be put, or that they are to be left where they are, so that they are
            never in memory together; None for memory.
        detector_check: what is done about pixels and frames that are no measurement.
        stated: lengths and positions that outrank those of the file.
    """

    domain: MeasurementDomain | None = None
    product: Path | None = None
    probe: ProbeSource | None = None
    pattern_map: PatternMap | InFile | None = None
    detector_check: DetectorCheck = DetectorCheck.MASK
    stated: Stated = attrs.field(factory=Stated)


@attrs.frozen(kw_only=True)
class FileFacts:
    """What a scan file holds, learned without loading a pattern.

    Attributes:
        format: which format it is.
        title: the format's name for people.
        n_patterns: number of patterns.
        frame: (rows, columns) of a pattern in px.
        dtype: dtype of the patterns in the file.
        pattern_bytes: bytes of the patterns in memory, as they are in the file.
    """

    format: ScanFormat
    title: str
    n_patterns: int
    frame: tuple[int, int]
    dtype: np.dtype[np.generic]
    pattern_bytes: int


@attrs.frozen(kw_only=True)
class Reader:
    """One format: how its files are known, measured and read.

    Attributes:
        format: the format.
        title: its name for people and messages.
        recognises: tells from the evidence alone whether a file is of this format.
        read: reads the scan; raises ScanFileError and nothing else for any content.
        patterns: name of the patterns' array in the evidence, for facts and size checks; None when it takes more than
            a name, or when the file holds none.
        takes_stated: whether lengths and positions may be said beside the file.
    """

    format: ScanFormat
    title: str
    recognises: Callable[[Evidence], bool]
    read: Callable[[Path, ReadRequest], Scan]
    patterns: Callable[[Evidence], ArrayFacts | None]
    takes_stated: bool = False


def refuse_product(path: Path, request: ReadRequest, title: str) -> None:
    """Refuse a second file that a format has no use for.

    Raises:
        ScanFileError: when one was given.
    """
    if request.product is not None:
        problem = Problem(
            path="product", expected=f"no second file: {title} holds everything", found=str(request.product)
        )
        raise ScanFileError(str(path), [problem])


def mean_photons(patterns: Patterns, domain: MeasurementDomain) -> float:
    """Give photons per frame: the mean over the frames of their summed counts.

    Args:
        patterns: (n, N, N) patterns.
        domain: whether they are counts or amplitudes.
    """
    total = 0.0
    for some in frame_slices(patterns):
        for pattern in patterns[some]:
            # Frame by frame: a square of the whole stack would take its memory again.
            frame = pattern.astype(np.float64)
            total += float(np.sum(frame) if domain is MeasurementDomain.COUNTS else np.vdot(frame, frame))
    return total / max(len(patterns), 1)


MISSING_PROBE = Problem(
    path="probe",
    expected="an illumination",
    found="none in the file",
    fix="give one with probe=, --probe FILE or --probe-model",
)


def choose_probe(
    own: npt.ArrayLike | None, request: ReadRequest, setting: ProbeSetting, notes: dict[str, str]
) -> npt.NDArray[np.complex64] | Problem:
    """Settle the probe: the caller's source, then the file's own; nothing is made up.

    Args:
        own: the probe in the files, None when there is none.
        request: what the caller said.
        setting: what the source may need to know.
        notes: where a probe that is not the file's is recorded, under `probe_evidence`.

    Returns:
        (modes, N, N) complex64, or the problem that there is no probe.
    """
    if request.probe is not None:
        notes["probe_evidence"] = "given by the caller" + ("; the file has another" if own is not None else "")
        return as_probe(request.probe(setting))
    if own is not None:
        return as_probe(own)
    return MISSING_PROBE
