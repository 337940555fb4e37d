"""The released Ptychodus client opens what we write, and we read what it writes."""

from __future__ import annotations

import dataclasses
from importlib import metadata
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from ptycho_adapters.files import read_product, read_scan, write_product, write_scan
from ptychodus_sample import DETECTOR_PIXEL_M, DISTANCE_M, ENERGY_EV, differences, sample_product, sample_scan

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan

_HOW = "pip install --no-deps ptychodus==1.7.0"
io: Any = pytest.importorskip("ptychodus.api.io", reason=f"the Ptychodus client is not installed: {_HOW}")
assemble: Any = pytest.importorskip("ptychodus.api.assemble")
client_geometry: Any = pytest.importorskip("ptychodus.api.geometry")
client_object: Any = pytest.importorskip("ptychodus.api.object")
client_positions: Any = pytest.importorskip("ptychodus.api.probe_positions")
client_probe: Any = pytest.importorskip("ptychodus.api.probe")
client_product: Any = pytest.importorskip("ptychodus.api.product")
client_reconstruct: Any = pytest.importorskip("ptychodus.api.reconstruct")
npz_product_file: Any = pytest.importorskip("ptychodus.plugins.npz_product_file")
npz_diffraction_file: Any = pytest.importorskip("ptychodus.plugins.npz_diffraction_file")
training_data_file: Any = pytest.importorskip("ptychodus.plugins.training_data_file")

pytestmark = pytest.mark.skipif(
    metadata.version("ptychodus") != "1.7.0", reason=f"proved against the client 1.7.0: {_HOW}"
)


def _same(one: object, other: object) -> bool:
    """Tell whether two arrays are equal in shape and every number."""
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def _pixels_of(client: Any) -> np.ndarray:
    """Where the client itself puts the positions, (n, 2) in pixels of its object array."""
    frame = client.object_.get_geometry()
    columns = frame.map_probe_positions_to_object_x_px(client.probe_positions)
    rows = frame.map_probe_positions_to_object_y_px(client.probe_positions)
    return np.stack([rows, columns], axis=1)


def _client_product(scan: Scan, *, offset_m: tuple[float, float] = (1e-5, -3e-5), first_index: int = 0) -> Any:
    """The client's own product for a scan, its stage far from the origin."""
    assert scan.object is not None
    assert scan.metadata.pixel_size_m is not None
    pixel_m, (height, width) = scan.metadata.pixel_size_m, scan.object.shape
    square = client_geometry.PixelGeometry(width_m=pixel_m, height_m=pixel_m)
    points = [
        client_positions.ProbePosition(
            first_index + index,
            offset_m[1] + (x - (width - 1) / 2) * pixel_m,
            offset_m[0] + (y - (height - 1) / 2) * pixel_m,
        )
        for index, (y, x) in enumerate(scan.positions_px)
    ]
    return client_product.Product(
        metadata=client_product.ProductMetadata(
            name="Siemens star",
            comments="by the client",
            detector_distance_m=DISTANCE_M,
            photon_energy_eV=ENERGY_EV,
            probe_photon_count=1e4,
            exposure_time_s=0.1,
            mass_attenuation_m2_per_kg=0.0,
            tomography_angle_deg=0.0,
        ),
        probe_positions=client_positions.ProbePositionSequence(points),
        probes=client_probe.ProbeSequence(
            array=scan.probe[np.newaxis].astype(complex), opr_weights=None, pixel_geometry=square
        ),
        object_=client_object.Object(
            array=scan.object[np.newaxis].astype(complex),
            pixel_geometry=square,
            center=client_object.ObjectCenter(x_m=offset_m[1], y_m=offset_m[0]),
            layer_spacing_m=[],
        ),
        losses=[client_product.LossValue(1, 2.5)],
    )


def _client_diffraction(scan: Scan, indexes: np.ndarray | None = None) -> Any:
    return assemble.AssembledDiffractionData(
        np.arange(scan.n_patterns) if indexes is None else indexes,
        scan.patterns,
        client_geometry.PixelGeometry(width_m=DETECTOR_PIXEL_M, height_m=DETECTOR_PIXEL_M),
        scan.bad_pixels,
    )


def _assert_as_read(scan: Scan, read: Scan) -> None:
    """Exact in counts, mask, probe and object; positions to 1e-9; lengths to float64."""
    assert _same(read.patterns, scan.patterns)
    assert read.patterns.dtype == scan.patterns.dtype
    assert _same(read.probe, scan.probe)
    assert scan.object is not None
    assert read.object is not None
    assert _same(read.object, scan.object)
    assert read.bad_pixels is not None
    assert _same(read.bad_pixels, scan.bad_pixels)
    np.testing.assert_allclose(read.positions_px, scan.positions_px, rtol=1e-9)
    assert read.metadata.pixel_size_m == pytest.approx(scan.metadata.pixel_size_m, rel=1e-15)
    assert read.metadata.wavelength_m == pytest.approx(scan.metadata.wavelength_m, rel=1e-15)
    assert read.metadata.distance_m == scan.metadata.distance_m


@pytest.mark.parametrize("name", ["product.h5", "product.npz"])
def test_the_client_opens_our_product(name: str, tmp_path: Path) -> None:
    """Arrays, positions, energy, distance, photons and losses are in the client what they are here."""
    product = sample_product()
    write_product(product, tmp_path / name)

    load = io.load_product if name.endswith(".h5") else npz_product_file.NPZProductFileIO().read
    client = load(tmp_path / name)

    assert client.metadata.name == product.name
    assert client.metadata.detector_distance_m == product.distance_m
    assert client.metadata.photon_energy_eV == pytest.approx(ENERGY_EV, rel=1e-15)
    assert client.metadata.probe_photon_count == pytest.approx(product.photons_per_frame, rel=1e-12)
    assert client.metadata.far_field is True
    assert _same(client.object_.get_array(), product.object[np.newaxis])
    assert _same(client.probes.get_probe_no_opr().get_array(), product.probe)
    assert client.probe_positions.get_indexes().tolist() == product.position_indexes.tolist()
    np.testing.assert_allclose(_pixels_of(client), product.positions_px - product.origin_px, rtol=1e-9)
    assert [(loss.epoch, loss.value) for loss in client.losses] == [(1, 3.0), (2, 2.0), (5, 1.5)]


@pytest.mark.parametrize("name", ["product.h5", "product.npz"])
def test_we_read_the_clients_product(name: str, tmp_path: Path) -> None:
    """What the client saves comes back exact, its positions about the object's corner."""
    scan = sample_scan()
    client = _client_product(scan)
    save = io.save_product if name.endswith(".h5") else npz_product_file.NPZProductFileIO().write
    save(tmp_path / name, client)

    product = read_product(tmp_path / name)

    assert _same(product.object, scan.object)
    assert _same(product.probe, scan.probe)
    assert product.name == "Siemens star"
    np.testing.assert_allclose(product.positions_px - product.origin_px, scan.positions_px, rtol=1e-9)
    assert product.wavelength_m == pytest.approx(scan.metadata.wavelength_m, rel=1e-15)
    assert product.distance_m == DISTANCE_M
    assert list(product.loss_values) == [2.5]


def test_the_client_opens_our_folder(tmp_path: Path) -> None:
    """Diffraction and product pair up in the client as they do here."""
    scan = sample_scan()
    write_scan(scan, tmp_path / "run")

    diffraction = io.load_diffraction_data(tmp_path / "run" / "diffraction.h5")
    paired = client_reconstruct.prepare_reconstruct_input(diffraction, io.load_product(tmp_path / "run" / "product.h5"))

    assert _same(paired.diffraction_patterns, scan.patterns)
    assert _same(paired.bad_pixels, scan.bad_pixels)
    assert diffraction.get_pixel_geometry().width_m == pytest.approx(DETECTOR_PIXEL_M, rel=1e-14)
    np.testing.assert_allclose(_pixels_of(paired.product), scan.positions_px, rtol=1e-9)
    assert _same(paired.product.object_.get_layer(0), scan.object)


def test_an_unknown_object_is_transparent_to_the_client(tmp_path: Path) -> None:
    """Without an object the client gets a transparent one that holds every patch, and we get none back."""
    scan = sample_scan(with_object=False)
    write_scan(scan, tmp_path / "run")

    client = io.load_product(tmp_path / "run" / "product.h5")

    assert (client.object_.get_array() == 1.0).all()
    pixels, (_, height, width) = _pixels_of(client), client.object_.get_array().shape
    assert (pixels - (scan.N - 1) / 2 >= 0.0).all()
    assert (pixels + (scan.N - 1) / 2 <= [height - 1, width - 1]).all()
    assert differences(scan, read_scan(tmp_path / "run")) == []


@pytest.mark.parametrize("with_object", [True, False])
def test_the_client_opens_our_training_file(with_object: bool, tmp_path: Path) -> None:
    """Its two readers give patterns, mask, positions and geometry as they are here."""
    scan = sample_scan(with_object=with_object)
    write_scan(scan, tmp_path / "scan.h5")

    dataset = training_data_file.TrainingDataDiffractionFileReader().read(tmp_path / "scan.h5")
    client = training_data_file.TrainingDataProductFileReader().read(tmp_path / "scan.h5")

    assert _same(dataset[0].get_patterns(), scan.patterns)
    assert _same(dataset.get_bad_pixels(), scan.bad_pixels)
    geometry = dataset.get_metadata().detector_pixel_geometry
    assert geometry.width_m == pytest.approx(DETECTOR_PIXEL_M, rel=1e-14)
    assert client.metadata.photon_energy_eV == pytest.approx(ENERGY_EV, rel=1e-15)
    origin = 0.0 if with_object else np.floor(scan.positions_px.min(axis=0) - (scan.N - 1) / 2)
    np.testing.assert_allclose(_pixels_of(client), scan.positions_px - origin, rtol=1e-9)
    assert _same(client.probes.get_probe_no_opr().get_array(), scan.probe)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "float32", "float64"])
def test_we_read_the_clients_diffraction_and_product(dtype: str, tmp_path: Path) -> None:
    """Files by the client's own writers give the scan, whatever the detector's dtype and the stage's origin."""
    scan = sample_scan(dtype=dtype)
    io.save_diffraction_data(tmp_path / "diffraction.h5", _client_diffraction(scan))
    io.save_product(tmp_path / "product.h5", _client_product(scan))

    _assert_as_read(scan, read_scan(tmp_path))
    _assert_as_read(scan, read_scan(tmp_path / "diffraction.h5", product=tmp_path / "product.h5"))


def test_patterns_and_positions_pair_as_in_the_client(tmp_path: Path) -> None:
    """Gaps, duplicates, outsiders and empty slots end where the client puts them, and are reported."""
    scan = sample_scan(n_patterns=7)
    client = _client_product(scan, first_index=2)
    points = list(client.probe_positions)
    points = [*points[:2], points[4], points[4], points[6]]
    points[3] = dataclasses.replace(points[3], x_m=points[3].x_m + 1e-7)
    client = dataclasses.replace(client, probe_positions=client_positions.ProbePositionSequence(points))
    diffraction = _client_diffraction(scan, np.array([4, 2, -1, 7, 6, 1, 8]))
    io.save_diffraction_data(tmp_path / "diffraction.h5", diffraction)
    io.save_product(tmp_path / "product.h5", client)
    paired = client_reconstruct.prepare_reconstruct_input(diffraction, client)

    read = read_scan(tmp_path)

    assert _same(read.patterns, paired.diffraction_patterns)
    np.testing.assert_allclose(read.positions_px, _pixels_of(paired.product), rtol=1e-9)
    note = read.metadata.extra["positions_evidence"]
    assert note == (
        "1 positions averaged that share an index, 2 positions interpolated between neighbours, "
        "1 patterns dropped outside the positions' range, 1 empty slots dropped"
    )


def test_we_read_the_clients_training_file(tmp_path: Path) -> None:
    """Its training HDF5 gives the scan; bad pixels were filled by the client and stay masked."""
    scan = sample_scan()
    paired = client_reconstruct.ReconstructInput(scan.patterns, scan.bad_pixels, _client_product(scan))
    io.save_training_data(tmp_path / "train.h5", paired, inpaint_bad_pixels=False)

    _assert_as_read(scan, read_scan(tmp_path / "train.h5"))


def test_we_read_the_clients_npz_for_ptychopinn(tmp_path: Path) -> None:
    """Its NPZ for PtychoPINN is known for counts by its integers and its mask."""
    scan = sample_scan()
    paired = client_reconstruct.ReconstructInput(scan.patterns, scan.bad_pixels, _client_product(scan))
    io.save_ptychopinn_training_data(tmp_path / "train.npz", paired, inpaint_bad_pixels=False)

    read = read_scan(tmp_path / "train.npz")

    assert read.domain == "counts"
    assert _same(read.patterns, scan.patterns)
    np.testing.assert_allclose(read.positions_px, scan.positions_px, rtol=1e-9)


def test_we_read_the_clients_npz_diffraction(tmp_path: Path) -> None:
    """Its NPZ diffraction goes with a product like its HDF5 one."""
    scan = sample_scan()
    write_scan(scan, tmp_path / "scan.h5")
    dataset = training_data_file.TrainingDataDiffractionFileReader().read(tmp_path / "scan.h5")
    npz_diffraction_file.NPZDiffractionFileIO().write(tmp_path / "diffraction.npz", dataset)
    npz_product_file.NPZProductFileIO().write(tmp_path / "product.npz", _client_product(scan))

    _assert_as_read(scan, read_scan(tmp_path / "diffraction.npz", product=tmp_path / "product.npz"))


def test_a_scan_goes_through_the_client_and_back(tmp_path: Path) -> None:
    """Written by us, loaded and saved by the client, read by us: the same measurement."""
    scan = attrs.evolve(sample_scan(), metadata=attrs.evolve(sample_scan().metadata, extra={}, nphotons=None))
    write_scan(scan, tmp_path / "ours")
    (tmp_path / "theirs").mkdir()
    for name, load, save in (
        ("diffraction.h5", io.load_diffraction_data, io.save_diffraction_data),
        ("product.h5", io.load_product, io.save_product),
    ):
        save(tmp_path / "theirs" / name, load(tmp_path / "ours" / name))

    _assert_as_read(scan, read_scan(tmp_path / "theirs"))
