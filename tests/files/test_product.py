"""Products in HDF5: exact for us, readable by the client, refused when damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import h5py
import numpy as np
import numpy.typing as npt
import pytest

from ptycho_adapters.files import read_product, write_product
from ptycho_core.errors import ScanError, ScanFileError
from ptycho_core.results.product import Product
from ptycho_core.results.uncertainty import PriorByFrequency, Uncertainty

if TYPE_CHECKING:
    from pathlib import Path


def _product(pixel_size_m: float | None = 3.7e-9) -> Product:
    rng = np.random.default_rng(0)
    return Product(
        name="Siemens star",
        object=rng.normal(size=(30, 41)) + 1j * rng.normal(size=(30, 41)),
        origin_px=(-4.0, 12.0),
        probe=rng.normal(size=(2, 8, 8)) * 1j,
        positions_px=rng.uniform(0.0, 20.0, (5, 2)),
        given_positions_px=rng.uniform(0.0, 20.0, (5, 2)),
        relative_flux=rng.uniform(0.5, 1.5, 5),
        position_indexes=[3, 1, 4, 15, 9],
        coverage=rng.uniform(size=(30, 41)),
        pixel_size_m=pixel_size_m,
        wavelength_m=1.2398e-10,
        distance_m=2.335,
        loss_epochs=[1, 2, 5],
        loss_values=[3.0, 2.0, np.nan],
        scale=680.1,
        gauge={"global phase": "free"},
        provenance={"n_groups": "explicit", "ünicode": "π"},
        metrics={"poisson deviance": 1.25},
        code_version="0.1.0",
    )


def _assert_equal(one: Product, other: Product) -> None:
    for field in attrs.fields(Product):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype, field.name
            assert np.array_equal(left, right, equal_nan=True), field.name
        else:
            assert left == right, field.name


@pytest.mark.parametrize("pixel_size_m", [3.7e-9, None])
def test_a_product_survives(pixel_size_m: float | None, tmp_path: Path) -> None:
    """Every field comes back exactly, whether the pixel size is known or not."""
    product = _product(pixel_size_m)

    write_product(product, tmp_path / "product.h5")

    _assert_equal(read_product(tmp_path / "product.h5"), product)


def _uncertainty(**changes: npt.NDArray[np.float32]) -> Uncertainty:
    rng = np.random.default_rng(1)
    names = ("phase_std_rad", "amplitude_std", "prior_share")
    arrays = {name: rng.uniform(size=(30, 41)).astype(np.float32) for name in names}
    arrays["phase_std_rad"][0] = np.inf
    return Uncertainty(**{**arrays, **changes}, by_frequency=_by_frequency())


def _by_frequency(**changes: npt.NDArray[np.float32]) -> PriorByFrequency:
    rising = np.linspace(0.0, 0.5, 7, dtype=np.float32)
    return PriorByFrequency(**{"frequency_per_px": rising, "phase": 2 * rising, "amplitude": 1 - rising, **changes})


@pytest.mark.parametrize("name", ["product.h5", "product.npz"])
def test_error_bars_survive(name: str, tmp_path: Path) -> None:
    """Every bit of them, where nothing is known too; in HDF5 each says its unit."""
    product, path = attrs.evolve(_product(), uncertainty=_uncertainty()), tmp_path / name
    write_product(product, path)

    found = read_product(path).uncertainty
    assert found is not None
    assert product.uncertainty is not None
    given = attrs.asdict(product.uncertainty)
    for field, read in attrs.asdict(found).items():
        rings = field == "by_frequency"
        for own, other in zip(read.values(), given[field].values(), strict=True) if rings else [(read, given[field])]:
            assert own.dtype == np.float32
            np.testing.assert_array_equal(own, other)
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            beside = file["ptycho_core/uncertainty"]
            assert beside["prior_share_by_frequency"].attrs["rows"] == b"frequency_per_px phase amplitude"
            units = {key: node.attrs["units"] for key, node in beside.items() if "units" in node.attrs}
        assert units == {"phase_std_rad": b"rad", "amplitude_std": b"1", "prior_share": b"1"}


def test_a_damaged_share_by_frequency_is_refused_and_a_missing_one_is_not_known(tmp_path: Path) -> None:
    """Files of before hold none; rows that are missing are named."""
    path = tmp_path / "product.h5"
    write_product(attrs.evolve(_product(), uncertainty=_uncertainty()), path)
    name = "ptycho_core/uncertainty/prior_share_by_frequency"
    with h5py.File(path, "a") as file:
        two_rows = file[name][:2]
        del file[name]
    found = read_product(path).uncertainty
    assert found is not None
    assert found.by_frequency is None
    with h5py.File(path, "a") as file:
        file[name] = two_rows
    with pytest.raises(ScanFileError, match=name):
        read_product(path)


def test_error_bars_in_part_are_damage(tmp_path: Path) -> None:
    """Where one of the three is missing, the file is refused with what is there."""
    path = tmp_path / "product.h5"
    write_product(attrs.evolve(_product(), uncertainty=_uncertainty()), path)
    with h5py.File(path, "a") as file:
        del file["ptycho_core/uncertainty/prior_share"]

    with pytest.raises(ScanFileError, match=r"ptycho_core/uncertainty: .*nothing"):
        read_product(path)


def test_unknown_things_stay_unknown(tmp_path: Path) -> None:
    """A product with the bare minimum comes back with nothing added."""
    product = Product(
        object=np.ones((3, 4)), origin_px=(0, 0), probe=np.ones((2, 2)), positions_px=np.eye(2), position_indexes=[0, 1]
    )

    write_product(product, tmp_path / "product.h5")

    _assert_equal(read_product(tmp_path / "product.h5"), product)


def test_the_client_places_positions_on_the_right_pixel(tmp_path: Path) -> None:
    """By the client's formula a position lands where the canvas says: its coordinate minus the origin."""
    product = _product()
    write_product(product, tmp_path / "product.h5")

    with h5py.File(tmp_path / "product.h5") as file:
        node = file["object"]
        for axis, (name, pixel) in enumerate((("y", "pixel_height_m"), ("x", "pixel_width_m"))):
            metres: npt.NDArray[np.float64] = file[f"probe_position_{name}_m"][()]
            size = node.shape[1 + axis]
            found = (metres - node.attrs[f"center_{name}_m"]) / node.attrs[pixel] + (size - 1) / 2

            np.testing.assert_allclose(found, product.positions_px[:, axis] - product.origin_px[axis], atol=1e-9)


def test_the_layout_is_the_clients(tmp_path: Path) -> None:
    """Names, ranks and types are those that the client reads."""
    product = _product()
    write_product(product, tmp_path / "product.h5")

    with h5py.File(tmp_path / "product.h5") as file:
        assert file["object"].shape == (1, 30, 41)
        assert file["probe"].shape == (1, 2, 8, 8)
        assert file["object_layer_spacing_m"].shape == (0,)
        assert list(file["probe_position_indexes"]) == [3, 1, 4, 15, 9]
        # 12398.42 eV Å, from the exact constants of the SI.
        assert file.attrs["photon_energy_eV"] == pytest.approx(12398.419843320026 / 1.2398, rel=1e-12)
        assert file.attrs["probe_photon_count"] == pytest.approx(float(np.sum(np.abs(product.probe) ** 2)), rel=1e-6)
        assert isinstance(file.attrs["name"], str)


def test_a_product_of_an_older_client_is_read(tmp_path: Path) -> None:
    """Old names (probe_energy_eV, costs) and a file without our group are understood."""
    write_product(_product(2.0**-28), tmp_path / "product.h5")
    with h5py.File(tmp_path / "product.h5", "r+") as file:
        del file["ptycho_core"], file["loss_epochs"], file.attrs["photon_energy_eV"], file.attrs["position_units"]
        file.move("loss_values", "costs")

    product = read_product(tmp_path / "product.h5")

    assert product.coverage is None
    assert product.origin_px == (-4.0, 12.0)
    assert product.wavelength_m == pytest.approx(1.2398e-10, rel=1e-12)
    assert np.array_equal(product.positions_px, _product().positions_px)
    assert list(product.loss_epochs) == [0, 1, 2]
    assert list(product.loss_values[:2]) == [3.0, 2.0]


def test_what_a_product_cannot_hold_is_refused(tmp_path: Path) -> None:
    """Two layers and two coherent probes are problems, both named."""
    write_product(_product(), tmp_path / "product.h5")
    with h5py.File(tmp_path / "product.h5", "r+") as file:
        for name in ("object", "probe"):
            content, attributes = file[name][()], dict(file[name].attrs)
            del file[name]
            file[name] = np.concatenate([content, content])
            file[name].attrs.update(attributes)

    with pytest.raises(ScanFileError) as caught:
        read_product(tmp_path / "product.h5")

    assert [problem.path for problem in caught.value.problems] == ["object", "probe"]


@pytest.mark.parametrize("missing", ["object", "probe", "probe_position_indexes", "probe_position_x_m"])
def test_a_missing_dataset_is_named(missing: str, tmp_path: Path) -> None:
    """The error says which dataset is not there."""
    write_product(_product(), tmp_path / "product.h5")
    with h5py.File(tmp_path / "product.h5", "r+") as file:
        del file[missing]

    with pytest.raises(ScanFileError, match=f"{missing}: expected a dataset"):
        read_product(tmp_path / "product.h5")


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    """The message names the path."""
    with pytest.raises(FileNotFoundError, match=r"Product file not found: .*nope\.h5"):
        read_product(tmp_path / "nope.h5")


@pytest.mark.parametrize("length", [0, 10, 600, 5000])
def test_a_truncated_file_is_refused(length: int, tmp_path: Path) -> None:
    """Half a file is an error of the file, never a product."""
    path = tmp_path / "product.h5"
    write_product(_product(), path)
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(ScanFileError, match=r"product\.h5"):
        read_product(path)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"object": np.ones(3)}, "object"),
        ({"object": np.full((30, 41), np.nan)}, "object"),
        ({"probe": np.ones((2, 8, 7))}, "probe"),
        ({"positions_px": np.ones((5, 3))}, "positions_px"),
        ({"position_indexes": [1, 2]}, "position_indexes"),
        ({"coverage": np.ones((3, 3))}, "coverage"),
        ({"given_positions_px": np.ones((4, 2))}, "given_positions_px"),
        ({"relative_flux": np.ones(4)}, "relative_flux"),
        ({"given_positions_px": np.full((5, 2), np.nan)}, "given_positions_px"),
        ({"loss_values": [1.0]}, "loss_epochs"),
        ({"pixel_size_m": 0.0}, "pixel_size_m"),
        ({"scale": float("nan")}, "scale"),
        ({"origin_px": (float("inf"), 0.0)}, "origin_px"),
        ({"name": "a\0b"}, "name"),
        ({"uncertainty": _uncertainty(prior_share=np.ones((2, 2), np.float32))}, "uncertainty.prior_share"),
        (
            {"uncertainty": attrs.evolve(_uncertainty(), by_frequency=_by_frequency(phase=np.ones(3, np.float32)))},
            "uncertainty.by_frequency.phase",
        ),
        (
            {"uncertainty": attrs.evolve(_uncertainty(), by_frequency=_by_frequency(phase=np.full(7, 2, np.float32)))},
            "uncertainty.by_frequency.phase",
        ),
        ({"uncertainty": _uncertainty(amplitude_std=np.full((30, 41), -1, np.float32))}, "uncertainty.amplitude_std"),
    ],
)
def test_what_is_no_product_is_refused(changes: dict[str, object], path: str) -> None:
    """Each defect is a problem at its field."""
    with pytest.raises(ScanError) as caught:
        attrs.evolve(_product(), **changes)  # type: ignore[arg-type]

    assert path in [problem.path for problem in caught.value.problems]
