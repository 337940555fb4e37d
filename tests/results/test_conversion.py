"""Reconstructions as products: what is carried over, and what their files say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from ptycho_adapters.files import read_product, write_product
from ptycho_core.errors import ConfigError, ScanError
from ptycho_core.measurement.findings import Finding, Suspicion
from ptycho_core.measurement.scan import ScanMetadata
from ptycho_core.results.conversion import as_product
from ptycho_core.results.reconstruction import Reconstruction
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.results.product import Product

METADATA = ScanMetadata(name="wing", nphotons=7.0, pixel_size_m=5e-9, wavelength_m=1.5e-10, distance_m=2.0)
SAME = (
    "object",
    "origin_px",
    "probe",
    "positions_px",
    "given_positions_px",
    "relative_flux",
    "coverage",
    "scale",
    "gauge",
    "metrics",
)


def reconstruction() -> Reconstruction:
    rng = np.random.default_rng(0)
    return Reconstruction(
        object=(rng.normal(size=(20, 30)) + 1j).astype(np.complex64),
        coverage=rng.uniform(size=(20, 30)).astype(np.float32),
        origin_px=(-3, 5),
        probe=rng.normal(size=(2, 8, 8)).astype(np.complex64),
        probe_source="scan",
        positions_px=rng.uniform(size=(4, 2)),
        given_positions_px=rng.uniform(size=(4, 2)),
        relative_flux=rng.uniform(0.5, 1.5, 4),
        pattern_indices=np.array([2, 0, 5, 7]),
        scale=1.5,
        gauge={"phase": "free"},
        metrics={"r_factor": 0.25},
        r_factors=rng.uniform(size=4),
        seconds={"network and stitching": 1.0},
    )


def assert_same(product: Product, result: Reconstruction) -> None:
    for name in SAME:
        one, other = getattr(product, name), getattr(result, name)
        assert np.array_equal(one, other) if isinstance(other, np.ndarray) else one == other, name
    assert product.position_indexes.tolist() == result.pattern_indices.tolist()
    assert product.run is not None
    assert product.run.r_factors is not None
    assert result.r_factors is not None
    assert np.array_equal(product.run.r_factors, result.r_factors)


def test_a_product_holds_the_reconstruction_and_what_the_scan_knows() -> None:
    """Every array and figure is the same, lengths and name are those of the metadata, and the code is named."""
    result = reconstruction()

    product = as_product(result, METADATA)

    assert_same(product, result)
    lengths = (product.pixel_size_m, product.wavelength_m, product.distance_m)
    assert (product.name, *lengths) == ("wing", 5e-9, 1.5e-10, 2.0)
    assert product.code_version == VERSION


def test_what_nobody_knows_stays_unknown() -> None:
    """Without metadata there are no lengths, without residuals or findings none of a run, and no history is made up."""
    product = as_product(attrs.evolve(reconstruction(), r_factors=None))

    assert (product.name, product.pixel_size_m, product.wavelength_m, product.distance_m) == ("", None, None, None)
    assert product.run is None
    assert (len(product.loss_epochs), dict(product.provenance)) == (0, {})


@pytest.mark.parametrize("name", ["object.h5", "object.npz"])
def test_a_reconstruction_can_be_written(tmp_path: Path, name: str) -> None:
    """Its file holds it together with the metadata of the scan."""
    result = reconstruction()

    write_product(result, tmp_path / name, metadata=METADATA)

    found = read_product(tmp_path / name)
    assert_same(found, result)
    assert (found.name, found.pixel_size_m) == ("wing", 5e-9)


@pytest.mark.parametrize("name", ["object.h5", "object.npz"])
def test_findings_are_read_again(tmp_path: Path, name: str) -> None:
    """Kind and text of each, in their order, with residuals or alone."""
    found = (
        Finding(kind=Suspicion.POOR_FIT, text="poor fit"),
        Finding(kind=Suspicion.BEAM_MOVED, text="the beam was moved by 3 px"),
    )
    for residuals in (reconstruction().r_factors, None):
        result = attrs.evolve(reconstruction(), findings=found, r_factors=residuals)

        write_product(result, tmp_path / name)

        run = read_product(tmp_path / name).run
        assert run is not None
        assert run.findings == found


def test_a_reconstruction_without_metadata_can_be_written(tmp_path: Path) -> None:
    """The pixel size is then unknown to the file."""
    write_product(reconstruction(), tmp_path / "object.h5")

    assert read_product(tmp_path / "object.h5").pixel_size_m is None


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """Metadata beside a product that has its own, values that are not finite, and what is no result."""
    result, path = reconstruction(), tmp_path / "object.h5"

    with pytest.raises(ConfigError, match="metadata: expected none beside a product"):
        write_product(as_product(result), path, metadata=METADATA)  # type: ignore[call-overload]
    with pytest.raises(ScanError, match="object: expected finite values"):
        write_product(attrs.evolve(result, object=result.object * np.nan), path)
    with pytest.raises(TypeError, match="expected a Product or a Reconstruction, found dict"):
        write_product({}, path)  # type: ignore[call-overload]

    assert not path.exists()
