"""A ptychographic scan as an immutable value: patterns, positions, probe and what is known about them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import NewType

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.any_array import describe
from ptycho_core.errors import Problem, ScanError, raise_if_any
from ptycho_core.frozen import FrozenMapping
from ptycho_core.measurement.arrays import (
    Patterns,
    as_float64,
    as_index,
    as_mask,
    as_object,
    as_optional_float64,
    as_patterns,
    as_probe,
)
from ptycho_core.measurement.checks import LARGEST_COUNT, ScanParts, scan_problems
from ptycho_core.measurement.frames import is_memory_mapped
from ptycho_core.measurement.stored import stored
from ptycho_core.notebook import Picture, html_table, plot_with_entry_point

Counts = NewType("Counts", npt.NDArray[np.float32])
"""Photon counts per pixel and frame, float32, >= 0."""

Amplitude = NewType("Amplitude", npt.NDArray[np.float32])
"""Square root of photon counts, float32, >= 0."""


DOMAIN_EVIDENCE = "domain_evidence"
"""Key of a scan's extra metadata that says how the measurement domain was found."""


class MeasurementDomain(StrEnum):
    """What the numbers of a diffraction pattern are."""

    COUNTS = "counts"
    AMPLITUDE = "amplitude"


def counts_from_amplitude(amplitude: Amplitude) -> Counts:
    """Square amplitudes: photons per pixel. With `amplitude_from_counts` the only place where the domain changes."""
    return Counts(np.square(amplitude))


def amplitude_from_counts(counts: Counts) -> Amplitude:
    """Take the square root of photons per pixel."""
    return Amplitude(np.sqrt(counts))


@attrs.frozen(kw_only=True)
class ScanMetadata:
    """What is known about a scan beside its arrays; None means unknown.

    Attributes:
        name: a name for people.
        nphotons: photons per frame that the data were made for or normalised to.
        pixel_size_m: object pixel in metres.
        wavelength_m: wavelength in metres.
        distance_m: distance from object to detector in metres.
        extra: anything else, as text, such as how the measurement domain was found.
    """

    name: str = ""
    nphotons: float | None = None
    pixel_size_m: float | None = None
    wavelength_m: float | None = None
    distance_m: float | None = None
    extra: Mapping[str, str] = attrs.field(factory=dict, converter=FrozenMapping[str], hash=False)

    def __attrs_post_init__(self) -> None:
        values = {key: getattr(self, key) for key in ("nphotons", "pixel_size_m", "wavelength_m", "distance_m")}
        raise_if_any(
            ScanError,
            "scan metadata",
            [
                Problem(path=key, expected="a finite number > 0", found=repr(value))
                for key, value in values.items()
                if value is not None and not (np.isfinite(value) and value > 0.0)
            ],
        )


def _to_domain(value: str) -> MeasurementDomain:
    try:
        return MeasurementDomain(value)
    except ValueError:
        expected = " or ".join(MeasurementDomain)
        raise ScanError("scan", [Problem(path="domain", expected=expected, found=repr(value))]) from None


def _default_index(scan: Scan) -> npt.NDArray[np.int32]:
    return np.zeros(len(scan.patterns) if scan.patterns.ndim else 0, dtype=np.int32)


@attrs.frozen(kw_only=True, eq=False)
class Scan:
    """A measured scan. Every array is read-only; positions and arrays are in (y, x) order.

    Attributes:
        patterns: (n, N, N) as measured (uint16, uint32, float32 or float64), zero frequency at N // 2. A read-only
            `np.memmap` of one of these and `StoredPatterns` are kept as they are, so that a scan may be larger than the
            memory.
        domain: whether the patterns hold counts or amplitudes.
        positions_px: (n, 2) float64, (y, x) of the centre of each illuminated patch in object pixels. A patch of
            size N at y covers [y - (N - 1) / 2, y + (N - 1) / 2].
        probe: (modes, N, N) complex64 illumination; (N, N) is taken as one mode.
        object: (H, W) complex64 transmission whose pixel [0, 0] lies at coordinate (0, 0), or None.
        bad_pixels: (N, N) bool, True where the detector is bad, or None.
        metadata: what is known beside the arrays.
        scan_index: (n,) int32, which scan each pattern belongs to; zeros by default.
        commanded_positions_px: (n, 2) float64 positions that the stage was asked for, where they were kept apart.

    Raises:
        ScanError: with every problem there is.
    """

    patterns: Patterns = attrs.field(converter=as_patterns)
    domain: MeasurementDomain = attrs.field(converter=_to_domain)
    positions_px: npt.NDArray[np.float64] = attrs.field(converter=as_float64)
    probe: npt.NDArray[np.complex64] = attrs.field(converter=as_probe)
    object: npt.NDArray[np.complex64] | None = attrs.field(default=None, converter=as_object)
    bad_pixels: npt.NDArray[np.bool_] | None = attrs.field(default=None, converter=as_mask)
    metadata: ScanMetadata = attrs.field(factory=ScanMetadata)
    scan_index: npt.NDArray[np.int32] = attrs.field(
        default=attrs.Factory(_default_index, takes_self=True), converter=as_index
    )
    commanded_positions_px: npt.NDArray[np.float64] | None = attrs.field(default=None, converter=as_optional_float64)

    def __attrs_post_init__(self) -> None:
        raise_if_any(ScanError, "scan", scan_problems(self._parts(), largest=largest_value(self.domain)))

    @property
    def n_patterns(self) -> int:
        """Number of patterns and positions."""
        return len(self.patterns)

    @property
    def N(self) -> int:  # noqa: N802 - the field's own name for it
        """Side of a pattern and of the probe in pixels."""
        return int(self.patterns.shape[1])

    @property
    def n_modes(self) -> int:
        """Number of incoherent probe modes."""
        return len(self.probe)

    @property
    def memory_mapped(self) -> bool:
        """Whether the patterns are in a file, and only in memory while they are looked at."""
        return is_memory_mapped(self.patterns) or stored(self.patterns) is not None

    def counts(self, chosen: slice | npt.NDArray[np.integer] = slice(None)) -> Counts:
        """Give patterns as photon counts, (m, N, N) float32 (exact for whole counts up to 2**24).

        Args:
            chosen: which patterns; all of them by default. No others are converted.
        """
        values = self.patterns[chosen].astype(np.float32, copy=False)
        if self.domain is MeasurementDomain.COUNTS:
            return Counts(values)
        return counts_from_amplitude(Amplitude(values))

    def amplitude(self) -> Amplitude:
        """Give the patterns as square roots of photon counts, (n, N, N) float32."""
        values = self.patterns[:].astype(np.float32, copy=False)
        if self.domain is MeasurementDomain.AMPLITUDE:
            return Amplitude(values)
        return amplitude_from_counts(Counts(values))

    def as_counts(self) -> Scan:
        """Give this scan as one that holds counts: amplitudes are squared, with a note; counts stay as they are.

        Returns:
            An equal scan with patterns (n, N, N) float32 in counts, or this one.

        Raises:
            ScanError: when the squares are no scan, such as a frame so dim that all of them are 0 in float32.
        """
        if self.domain is MeasurementDomain.COUNTS:
            return self
        return self._in_domain(self.counts(), MeasurementDomain.COUNTS, "squares of amplitudes")

    def as_amplitude(self) -> Scan:
        """Give this scan as one that holds amplitudes: counts become their square roots, with a note.

        Returns:
            An equal scan with patterns (n, N, N) float32 in square roots of counts, or this one if it holds them.
        """
        if self.domain is MeasurementDomain.AMPLITUDE:
            return self
        return self._in_domain(self.amplitude(), MeasurementDomain.AMPLITUDE, "square roots of counts")

    def _in_domain(self, patterns: npt.NDArray[np.float32], domain: MeasurementDomain, how: str) -> Scan:
        before = self.metadata.extra.get(DOMAIN_EVIDENCE)
        note = how + (f"; {before}" if before else "")
        metadata = attrs.evolve(self.metadata, extra={**self.metadata.extra, DOMAIN_EVIDENCE: note})
        return attrs.evolve(self, patterns=patterns, domain=domain, metadata=metadata)

    def subset(self, indices: npt.ArrayLike) -> Scan:
        """Keep some patterns, in the order asked for, with everything that belongs to them.

        Args:
            indices: (m,) integers from 0 to n - 1.

        Returns:
            A scan of m patterns with the same probe, object, mask and metadata.

        Raises:
            ScanError: for an index that is no integer or out of range, or when what is left is no scan.
        """
        chosen = np.asarray(indices)
        expected = f"a list of integers from 0 to {self.n_patterns - 1}"
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise ScanError("scan subset", [Problem(path="indices", expected=expected, found=describe(chosen))])
        outside = chosen[(chosen < 0) | (chosen >= self.n_patterns)]
        if outside.size:
            raise ScanError("scan subset", [Problem(path="indices", expected=expected, found=str(outside[0]))])
        commanded, left = self.commanded_positions_px, stored(self.patterns)
        return attrs.evolve(
            self,
            patterns=self.patterns[chosen] if left is None else left.taken(chosen),
            positions_px=self.positions_px[chosen],
            scan_index=self.scan_index[chosen],
            commanded_positions_px=None if commanded is None else commanded[chosen],
        )

    def plot(self) -> Picture:
        """Draw mean pattern, probe, positions and flux, with the package installed for it (`ptycho_core.plot`).

        Raises:
            DependencyError: no package that draws is installed.
        """
        return plot_with_entry_point(self)

    def _repr_html_(self) -> str:
        rows = {
            "patterns": self.n_patterns,
            "size [px]": (self.N, self.N),
            "domain": f"{self.domain}, {self.patterns.dtype}",
            "probe modes": self.n_modes,
            "positions (y, x) [px]": tuple(np.ptp(self.positions_px, axis=0).tolist()),
            "object [px]": None if self.object is None else self.object.shape,
            "bad pixels": None if self.bad_pixels is None else int(np.count_nonzero(self.bad_pixels)),
            "pixel [m]": self.metadata.pixel_size_m,
            "wavelength [m]": self.metadata.wavelength_m,
            "distance [m]": self.metadata.distance_m,
        }
        return html_table(f"Scan {self.metadata.name}".rstrip(), rows)

    def _parts(self) -> ScanParts:
        return ScanParts(
            patterns=self.patterns,
            positions_px=self.positions_px,
            probe=self.probe,
            object=self.object,
            bad_pixels=self.bad_pixels,
            scan_index=self.scan_index,
            commanded_positions_px=self.commanded_positions_px,
        )


def largest_value(domain: MeasurementDomain) -> float:
    """Give the largest pixel value that is taken for a measurement in this domain."""
    return LARGEST_COUNT if domain is MeasurementDomain.COUNTS else math.sqrt(LARGEST_COUNT)
