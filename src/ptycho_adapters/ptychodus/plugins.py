"""File formats that the client lacks, for its plugin registry.

    from ptycho_adapters.ptychodus.plugins import register_plugins
    with ModelCore() as core:
        register_plugins(core.plugin_registry)

Whatever `read_scan` reads can then be opened as diffraction data, and, where it holds positions and a probe, as a
product: PtyPy's `.ptyd`, NPZ with amplitudes, and the others, chosen by content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from ptychodus.api.diffraction import (
    DiffractionDatasetLayoutNode,
    DiffractionFileReader,
    DiffractionMetadata,
    SimpleDiffractionArray,
    SimpleDiffractionDataset,
)
from ptychodus.api.geometry import ImageExtent, PixelGeometry
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import Product, ProductFileReader, ProductMetadata

from ptycho_adapters.files import read_scan
from ptycho_core.errors import Problem, ScanFileError
from ptycho_core.measurement.geometry import detector_pixel_m, energy_from_wavelength, positions_m_from_px
from ptycho_core.physics.canvas import canvas_frame

if TYPE_CHECKING:
    from pathlib import Path

    from ptychodus.api.diffraction import DiffractionDataset
    from ptychodus.api.plugins import PluginRegistry

    from ptycho_core.measurement.scan import Scan

SIMPLE_NAME: Final = "PtychoCore"
DISPLAY_NAME: Final = "ptycho-core: any scan file, by content (*.npz *.ptyd *.cxi *.h5 *.hdf5)"


class ScanDiffractionReader(DiffractionFileReader):
    """Diffraction data of any file that holds a scan; amplitudes are squared."""

    def read(self, file_path: Path) -> DiffractionDataset:
        """Read them, numbered from 0 on.

        Raises:
            ScanFileError: it is no scan.
        """
        scan = read_scan(file_path).as_counts()
        layout = DiffractionDatasetLayoutNode.create_root()
        layout.add_child(file_path.stem, type(scan.patterns).__name__, f"{scan.patterns.dtype}{scan.patterns.shape}")
        metadata = scan.metadata
        return SimpleDiffractionDataset(
            DiffractionMetadata(
                num_patterns_per_array=[scan.n_patterns],
                pattern_dtype=scan.patterns.dtype,
                detector_extent=ImageExtent(width_px=scan.N, height_px=scan.N),
                detector_distance_m=metadata.distance_m,
                detector_pixel_geometry=_detector_pixel(scan),
                photon_energy_eV=_energy_ev(scan),
                file_path=file_path,
            ),
            layout,
            [SimpleDiffractionArray(file_path.stem, np.arange(scan.n_patterns), scan.patterns)],
            bad_pixels=scan.bad_pixels,
        )


class ScanProductReader(ProductFileReader):
    """Positions, probe and object of any file that holds a scan with a probe and a known pixel."""

    def read(self, file_path: Path) -> Product:
        """Read them; an unknown object is transparent.

        Raises:
            ScanFileError: it is no scan, or has no length to it.
        """
        scan = read_scan(file_path).as_counts()
        pixel_m, energy_ev, distance_m = scan.metadata.pixel_size_m, _energy_ev(scan), scan.metadata.distance_m
        if pixel_m is None or energy_ev is None or distance_m is None:
            problem = Problem(
                path="pixel_size_m, wavelength_m, distance_m",
                expected="lengths, which a product of the client has",
                found="at least one is unknown",
                fix="open it as diffraction data and take positions and probe from elsewhere",
            )
            raise ScanFileError(str(file_path), [problem])
        square = PixelGeometry(width_m=pixel_m, height_m=pixel_m)
        object_, corner = _object(scan)
        height, width = object_.shape
        places = positions_m_from_px(scan.positions_px, pixel_m=pixel_m)
        return Product(
            metadata=_product_metadata(scan, file_path.stem, distance_m, energy_ev),
            probe_positions=ProbePositionSequence(
                [ProbePosition(index, float(x), float(y)) for index, (y, x) in enumerate(places)]
            ),
            probes=ProbeSequence(
                array=scan.probe[np.newaxis].astype(np.complex128), opr_weights=None, pixel_geometry=square
            ),
            object_=Object(
                array=object_.astype(np.complex128),
                pixel_geometry=square,
                center=ObjectCenter(
                    x_m=(corner[1] + (width - 1) / 2) * pixel_m, y_m=(corner[0] + (height - 1) / 2) * pixel_m
                ),
                layer_spacing_m=[],
            ),
            losses=[],
        )


def register_plugins(registry: PluginRegistry) -> None:
    """Add the readers to the client's registry; see its `ModelCore.plugin_registry`."""
    registry.diffraction_file_readers.register_plugin(
        ScanDiffractionReader(), simple_name=SIMPLE_NAME, display_name=DISPLAY_NAME
    )
    registry.register_product_file_reader_with_adapters(
        ScanProductReader(), simple_name=SIMPLE_NAME, display_name=DISPLAY_NAME
    )


def _product_metadata(scan: Scan, stem: str, distance_m: float, energy_ev: float) -> ProductMetadata:
    """Say what is known of a scan; the file's stem is the name of one that has none."""
    return ProductMetadata(
        name=scan.metadata.name or stem,
        comments="",
        detector_distance_m=distance_m,
        photon_energy_eV=energy_ev,
        probe_photon_count=float(np.square(np.abs(scan.probe.astype(np.complex128))).sum()),
        exposure_time_s=0.0,
        mass_attenuation_m2_per_kg=0.0,
        tomography_angle_deg=0.0,
    )


def _object(scan: Scan) -> tuple[np.ndarray, tuple[int, int]]:
    """Give the object, or a transparent one that holds every patch, and the coordinates of its first pixel."""
    if scan.object is not None:
        return scan.object, (0, 0)
    frame = canvas_frame(scan.positions_px, scan.N)
    return np.ones(frame.shape, dtype=np.complex64), frame.origin_px


def _energy_ev(scan: Scan) -> float | None:
    wavelength_m = scan.metadata.wavelength_m
    return None if wavelength_m is None else energy_from_wavelength(wavelength_m=wavelength_m)


def _detector_pixel(scan: Scan) -> PixelGeometry | None:
    metadata = scan.metadata
    if metadata.wavelength_m is None or metadata.distance_m is None or metadata.pixel_size_m is None:
        return None
    side = detector_pixel_m(
        wavelength_m=metadata.wavelength_m,
        distance_m=metadata.distance_m,
        pixel_m=metadata.pixel_size_m,
        size_px=scan.N,
    )
    return PixelGeometry(width_m=side, height_m=side)
