"""A small scan and a product as an experiment leaves them, with a geometry that is no round number."""

from __future__ import annotations

import attrs
import numpy as np

from ptycho_core.measurement.geometry import object_pixel_m, wavelength_from_energy
from ptycho_core.measurement.scan import MeasurementDomain, Scan, ScanMetadata
from ptycho_core.results.product import Product

SIZE = 16
DETECTOR_PIXEL_M = 75e-6
DISTANCE_M = 2.335
ENERGY_EV = 8812.3


def sample_metadata() -> ScanMetadata:
    """Geometry of a hard X-ray scan, the object pixel by the far field."""
    wavelength_m = wavelength_from_energy(energy_ev=ENERGY_EV)
    pixel_m = object_pixel_m(
        wavelength_m=wavelength_m, distance_m=DISTANCE_M, detector_pixel_m=DETECTOR_PIXEL_M, size_px=SIZE
    )
    return ScanMetadata(
        name="Siemens star",
        nphotons=1e4,
        pixel_size_m=pixel_m,
        wavelength_m=wavelength_m,
        distance_m=DISTANCE_M,
        extra={"sample": "gold on silicon nitride"},
    )


def sample_scan(*, n_patterns: int = 7, dtype: str = "uint16", with_object: bool = True) -> Scan:
    """Counts with one bright spot in the middle, an object larger than the scan, one bad pixel."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    counts = rng.poisson(300.0 * np.exp(-(x**2 + y**2) / 9.0) + 0.3, (n_patterns, SIZE, SIZE)).astype(dtype)
    probe = np.stack([np.exp(-(x**2 + y**2) / 20.0) * (1 + 0.2j * x), 0.3j * np.exp(-(x**2 + y**2) / 30.0)])
    bad = np.zeros((SIZE, SIZE), dtype=np.bool_)
    bad[3, 5] = True
    counts[:, 3, 5] = 0
    return Scan(
        patterns=counts,
        domain=MeasurementDomain.COUNTS,
        positions_px=rng.uniform(8.0, 30.0, (n_patterns, 2)),
        probe=probe,
        object=rng.normal(size=(41, 52)) + 1j * rng.normal(size=(41, 52)) if with_object else None,
        bad_pixels=bad,
        metadata=sample_metadata(),
    )


def sample_product() -> Product:
    """A reconstruction of two probe modes on a canvas whose corner is not the origin."""
    rng = np.random.default_rng(0)
    metadata = sample_metadata()
    return Product(
        name="Siemens star",
        object=rng.normal(size=(30, 41)) + 1j * rng.normal(size=(30, 41)),
        origin_px=(-4.0, 12.0),
        probe=rng.normal(size=(2, 8, 8)) * 1j,
        positions_px=rng.uniform(0.0, 20.0, (5, 2)),
        position_indexes=[3, 1, 4, 15, 9],
        coverage=rng.uniform(size=(30, 41)),
        pixel_size_m=metadata.pixel_size_m,
        wavelength_m=metadata.wavelength_m,
        distance_m=metadata.distance_m,
        loss_epochs=[1, 2, 5],
        loss_values=[3.0, 2.0, 1.5],
        scale=680.1,
        gauge={"global phase": "free"},
        provenance={"n_groups": "explicit", "ünicode": "π"},
        metrics={"poisson deviance": 1.25},
        code_version="0.1.0",
    )


def differences(one: Scan, other: Scan) -> list[str]:
    """Name the fields in which two scans differ, notes taken on reading aside."""
    found = []
    for field in attrs.fields(Scan):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, ScanMetadata) and isinstance(right, ScanMetadata):
            kept = {key: right.extra[key] for key in left.extra if key in right.extra}
            same = left == attrs.evolve(right, extra=kept)
        elif isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
            same = left.dtype == right.dtype and np.array_equal(left, right)
        else:
            same = left is right or (not isinstance(left, np.ndarray) and bool(left == right))
        if not same:
            found.append(field.name)
    return found
