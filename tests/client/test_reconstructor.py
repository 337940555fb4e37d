"""The reconstructor for notebooks, and the formats for the client's registry."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import client_sample
from client_sample import NO_CLIENT, KnownBackend, known_object, scan_of_64_px
from ptycho_adapters.files import write_scan
from ptycho_core.errors import PtychoError, ScanError
from ptychodus_sample import sample_scan

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan

io: Any = pytest.importorskip("ptychodus.api.io", reason=NO_CLIENT)
reconstruct: Any = pytest.importorskip("ptychodus.api.reconstruct")
client_object: Any = pytest.importorskip("ptychodus.api.object")
client_plugins: Any = pytest.importorskip("ptychodus.api.plugins")
ours: Any = pytest.importorskip("ptycho_adapters.ptychodus.reconstructor")
products: Any = pytest.importorskip("ptycho_adapters.ptychodus.client_products")
plugins: Any = pytest.importorskip("ptycho_adapters.ptychodus.plugins")

known_backend = client_sample.known_backend


def _parameters(scan: Scan, folder: Path, *, shift_m: float = 0.0) -> Any:
    """The client's own input for a scan, its stage moved as a whole."""
    write_scan(scan, folder)
    product = io.load_product(folder / "product.h5")
    points = [
        dataclasses.replace(each, x_m=each.x_m + shift_m, y_m=each.y_m - 2 * shift_m)
        for each in product.probe_positions
    ]
    own = product.object_
    centre = client_object.ObjectCenter(x_m=own.get_center().x_m + shift_m, y_m=own.get_center().y_m - 2 * shift_m)
    moved = dataclasses.replace(
        product,
        probe_positions=type(product.probe_positions)(points),
        object_=client_object.Object(own.get_array(), own.get_pixel_geometry(), centre, own.layer_spacing_m),
    )
    return reconstruct.prepare_reconstruct_input(io.load_diffraction_data(folder / "diffraction.h5"), moved)


def test_the_clients_input_is_our_scan(tmp_path: Path) -> None:
    """Counts, positions, probe, mask, object and lengths are those that were written."""
    scan = sample_scan()

    made = products.scan_from(_parameters(scan, tmp_path / "run"))

    for name in ("patterns", "probe", "bad_pixels", "object"):
        np.testing.assert_array_equal(getattr(made, name), getattr(scan, name), err_msg=name)
    np.testing.assert_allclose(made.positions_px, scan.positions_px, rtol=1e-9)
    assert made.metadata.pixel_size_m == pytest.approx(scan.metadata.pixel_size_m)
    assert made.metadata.wavelength_m == pytest.approx(scan.metadata.wavelength_m)


def test_a_stage_far_from_its_origin_changes_nothing(tmp_path: Path, known_backend: KnownBackend) -> None:
    """The whole scan shifted gives the same object array about the shifted centre."""
    near, far = (
        next(ours.PtychoReconstructor().reconstruct(_parameters(sample_scan(), tmp_path / name, shift_m=shift))).product
        for name, shift in (("near", 0.0), ("far", 3e-4))
    )

    np.testing.assert_allclose(far.object_.get_array(), near.object_.get_array(), atol=1e-3)
    assert far.object_.get_center().x_m == pytest.approx(near.object_.get_center().x_m + 3e-4)


def test_the_product_is_the_clients_own_but_for_its_object(tmp_path: Path, known_backend: KnownBackend) -> None:
    """Metadata, probe, positions and places are as they came; the object lies at its coordinates."""
    scan = sample_scan()
    parameters = _parameters(scan, tmp_path / "run")

    (output,) = ours.PtychoReconstructor().reconstruct(parameters)

    given, made = parameters.product, output.product
    assert made.metadata == given.metadata
    assert made.probes is given.probes
    assert made.probe_positions is given.probe_positions
    assert made.object_.get_geometry() == given.object_.get_geometry()
    array, truth = made.object_.get_layer(0), known_object((0, 0), given.object_.get_array().shape)
    measured = array != 1.0
    assert measured.any()
    np.testing.assert_array_equal(array[measured], truth[measured])
    assert made.losses[0].value == 0.125


def test_refined_positions_come_back_in_metres(tmp_path: Path, known_backend: KnownBackend) -> None:
    """A position that was moved by a pixel is moved by the size of one."""
    import attrs  # noqa: PLC0415

    scan = sample_scan()
    parameters = _parameters(scan, tmp_path / "run")
    found = known_backend.reconstruct(None, products.scan_from(parameters))
    moved = attrs.evolve(found, positions_px=found.positions_px + np.array([1.0, -2.0]))

    product = products.product_from(parameters, moved)

    pixel = scan.metadata.pixel_size_m
    assert pixel is not None
    before, after = parameters.product.probe_positions, product.probe_positions
    np.testing.assert_allclose(after.get_coordinates_y_m() - before.get_coordinates_y_m(), pixel, rtol=1e-6)
    np.testing.assert_allclose(after.get_coordinates_x_m() - before.get_coordinates_x_m(), -2 * pixel, rtol=1e-6)
    assert after.get_indexes().tolist() == before.get_indexes().tolist()


def test_an_object_of_several_layers_is_refused(tmp_path: Path, known_backend: KnownBackend) -> None:
    """Before anything is done, with the number of layers."""
    parameters = _parameters(sample_scan(), tmp_path / "run")
    own = parameters.product.object_
    layers = client_object.Object(
        np.repeat(own.get_array(), 2, axis=0), own.get_pixel_geometry(), own.get_center(), [1e-6]
    )
    product = dataclasses.replace(parameters.product, object_=layers)

    with pytest.raises(ScanError, match="2 layers"):
        next(ours.PtychoReconstructor().reconstruct(dataclasses.replace(parameters, product=product)))
    assert known_backend.scans == []


def test_without_a_model_the_package_has_one(
    tmp_path: Path, known_backend: KnownBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said in the log, and no model counts as loaded or can be saved."""
    own = ours.PtychoReconstructor()
    with caplog.at_level("INFO"):
        list(own.reconstruct(_parameters(sample_scan(), tmp_path / "run")))

    assert "weights in the package" in caplog.text
    assert not own.is_model_loaded()
    with pytest.raises(RuntimeError, match="no model"):
        own.save_model(tmp_path / "model.zip")


def test_it_is_one_of_the_clients_trainable_reconstructors() -> None:
    """With the client's own kind of file for models and training data."""
    own = ours.PtychoReconstructor()

    assert isinstance(own, reconstruct.TrainableReconstructor)
    assert (own.get_model_file_extension(), own.get_progress_goal()) == (".zip", 1)


def test_the_registry_gets_every_format_that_we_read(tmp_path: Path) -> None:
    """A scan in our NPZ opens in the client as diffraction data, and a client's training file as a product."""
    registry = client_plugins.PluginRegistry()
    plugins.register_plugins(registry)
    scan = scan_of_64_px()
    write_scan(scan, tmp_path / "scan.npz")
    write_scan(scan, tmp_path / "scan.h5")

    dataset = registry.diffraction_file_readers.get_strategy_by_name("PtychoCore").read(tmp_path / "scan.npz")
    product = registry.product_file_readers.get_strategy_by_name("PtychoCore").read(tmp_path / "scan.h5")

    np.testing.assert_array_equal(dataset[0].get_patterns(), scan.patterns)
    frame = product.object_.get_geometry()
    np.testing.assert_allclose(
        np.ptp(frame.map_probe_positions_to_object_y_px(product.probe_positions)), np.ptp(scan.positions_px[:, 0])
    )
    np.testing.assert_array_equal(product.probes.get_probe_no_opr().get_array(), scan.probe)


def test_a_product_without_lengths_is_refused(tmp_path: Path) -> None:
    """The client computes with them, so they are named."""
    import attrs  # noqa: PLC0415

    from ptycho_core.measurement.scan import ScanMetadata  # noqa: PLC0415

    write_scan(attrs.evolve(scan_of_64_px(), metadata=ScanMetadata()), tmp_path / "scan.npz")

    with pytest.raises(PtychoError, match="pixel_size_m"):
        plugins.ScanProductReader().read(tmp_path / "scan.npz")
