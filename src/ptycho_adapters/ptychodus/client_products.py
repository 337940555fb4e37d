"""Between the client's own values and ours: what it wants reconstructed as a scan, a reconstruction as its product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
from ptychodus.api.object import Object
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import LossValue, Product

from ptycho_adapters.ptychodus.mapping import on_canvas, positions_yx, require_one_layer, scan_of_arrays
from ptycho_core.errors import Problem, ScanError
from ptycho_core.measurement.scan import ScanMetadata

if TYPE_CHECKING:
    import numpy.typing as npt
    from ptychodus.api.object import ObjectGeometry
    from ptychodus.api.reconstruct import ReconstructInput

    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

_PIXEL_TOLERANCE = 0.01


def scan_from(parameters: ReconstructInput) -> Scan:
    """Give what the client wants reconstructed as a scan, in the pixels of its object.

    Args:
        parameters: patterns paired with positions, and the product that holds these and the probe. Of a probe that
            varies along the scan (OPR) the first one is taken, as the client hands it on.

    Raises:
        ScanError: an object of several layers, near field, pixels that are not square, or what is no scan.
    """
    product = parameters.product
    require_one_layer(product.object_.num_layers)
    geometry = product.object_.get_geometry()
    _require_far_field(product, geometry)
    scan = scan_of_arrays(
        parameters.diffraction_patterns,
        positions_yx(
            geometry.map_probe_positions_to_object_y_px(product.probe_positions),
            geometry.map_probe_positions_to_object_x_px(product.probe_positions),
        ),
        product.probes.get_probe_no_opr().get_array(),
        bad_pixels=parameters.bad_pixels,
        metadata=ScanMetadata(
            name=product.metadata.name,
            pixel_size_m=geometry.pixel_width_m,
            wavelength_m=product.metadata.photon_wavelength_m,
            distance_m=product.metadata.detector_distance_m,
        ),
    )
    return attrs.evolve(scan, object=product.object_.get_layer(0))


def product_from(parameters: ReconstructInput, reconstruction: Reconstruction) -> Product:
    """Give a reconstruction as the client's product: its object array, with what was refined beside it.

    Args:
        parameters: what was reconstructed; metadata, scan indexes, pixels and centre stay as they are there.
        reconstruction: of `scan_from(parameters)`. Probe and positions are the client's own values, to the last bit,
            where they were not refined.
    """
    given = parameters.product
    geometry = given.object_.get_geometry()
    canvas = on_canvas(reconstruction, (geometry.height_px, geometry.width_px))
    return Product(
        metadata=given.metadata,
        probe_positions=_positions(given, reconstruction, geometry),
        probes=_probes(given, reconstruction),
        object_=Object(
            array=canvas.astype(np.complex128),
            pixel_geometry=given.object_.get_pixel_geometry(),
            center=given.object_.get_center(),
            layer_spacing_m=[],
        ),
        losses=[LossValue(epoch=0, value=reconstruction.metrics["r_factor"])],
    )


def _positions(given: Product, reconstruction: Reconstruction, geometry: ObjectGeometry) -> ProbePositionSequence:
    before, after = reconstruction.given_positions_px, reconstruction.positions_px
    if before is None or np.array_equal(before, after):
        return given.probe_positions
    places = _in_metres(after, geometry)
    chosen = [given.probe_positions[int(index)] for index in reconstruction.pattern_indices]
    return ProbePositionSequence(
        [
            ProbePosition(index=each.index, x_m=float(x), y_m=float(y), probe_photon_count=each.probe_photon_count)
            for each, (y, x) in zip(chosen, places, strict=True)
        ]
    )


def _in_metres(positions_px: npt.NDArray[np.float64], geometry: ObjectGeometry) -> npt.NDArray[np.float64]:
    middle = (np.array([geometry.height_px, geometry.width_px]) - 1) / 2
    pixels = np.array([geometry.pixel_height_m, geometry.pixel_width_m])
    places: npt.NDArray[np.float64] = np.array([geometry.center_y_m, geometry.center_x_m]) + pixels * (
        positions_px - middle
    )
    return places


def _probes(given: Product, reconstruction: Reconstruction) -> ProbeSequence:
    own = given.probes.get_probe_no_opr().get_array()
    if own.shape == reconstruction.probe.shape and np.allclose(own, reconstruction.probe, rtol=1e-4, atol=1e-6):
        return given.probes
    return ProbeSequence(
        array=reconstruction.probe[np.newaxis].astype(np.complex128),
        opr_weights=None,
        pixel_geometry=given.probes.get_pixel_geometry(),
    )


def _require_far_field(product: Product, geometry: ObjectGeometry) -> None:
    problems = []
    if not product.metadata.far_field:
        problems.append(Problem(path="product.far_field", expected="true", found="a near-field product"))
    width, height = geometry.pixel_width_m, geometry.pixel_height_m
    if abs(width - height) > _PIXEL_TOLERANCE * width:
        found = f"{height:.6g} m x {width:.6g} m"
        problems.append(Problem(path="product.object pixels", expected="square pixels", found=found))
    if problems:
        raise ScanError("reconstruction for Ptychodus", problems)
