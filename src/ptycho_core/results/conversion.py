"""From a reconstruction to a product: the same result in the words that files have for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_core.measurement.scan import ScanMetadata
from ptycho_core.results.product import Product
from ptycho_core.results.run_details import RunDetails
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from ptycho_core.results.reconstruction import Reconstruction


def as_product(reconstruction: Reconstruction, metadata: ScanMetadata | None = None) -> Product:
    """Return a reconstruction as a product, with its residuals, its findings and the object before a finish.

    What a reconstruction does not know of itself, the settings of its run and the losses of a training, stays unknown.

    Args:
        reconstruction: the result.
        metadata: of its scan: name, pixel size, wavelength and distance; None leaves them unknown.

    Raises:
        ScanError: the reconstruction holds what no product can, such as values that are not finite.
    """
    known = ScanMetadata() if metadata is None else metadata
    return Product(
        object=reconstruction.object,
        origin_px=reconstruction.origin_px,
        probe=reconstruction.probe,
        positions_px=reconstruction.positions_px,
        given_positions_px=reconstruction.given_positions_px,
        position_indexes=reconstruction.pattern_indices,
        relative_flux=reconstruction.relative_flux,
        coverage=reconstruction.coverage,
        pixel_size_m=known.pixel_size_m,
        wavelength_m=known.wavelength_m,
        distance_m=known.distance_m,
        scale=reconstruction.scale,
        gauge=reconstruction.gauge,
        metrics=reconstruction.metrics,
        code_version=VERSION,
        name=known.name,
        run=_details(reconstruction),
        uncertainty=reconstruction.uncertainty,
    )


def _details(reconstruction: Reconstruction) -> RunDetails | None:
    residuals, before, found = reconstruction.r_factors, reconstruction.before_finish, reconstruction.findings
    if residuals is None and before is None and not found:
        return None
    return RunDetails(r_factors=residuals, before_finish=before, findings=found)
