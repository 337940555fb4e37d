"""Ptychodus files without the client: both names of everything, what is missing, and what is damaged or hostile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import h5py
import numpy as np
import pytest

from ptycho_adapters.files import read_file_facts, read_product, read_scan, write_product, write_scan
from ptycho_adapters.files.writers import WRITERS, Writer
from ptycho_core.errors import ConfigError, ScanError, ScanFileError
from ptycho_core.measurement.scan import MeasurementDomain, ScanMetadata
from ptycho_core.results.run_details import RunDetails
from ptychodus_sample import ENERGY_EV, differences, sample_product, sample_scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from ptycho_adapters.files import ProbeSetting

_FORMATS = pytest.mark.parametrize(
    "writer", [writer for writer in WRITERS if writer.suffixes], ids=lambda writer: writer.format
)


@_FORMATS
@pytest.mark.parametrize("dtype", ["uint16", "uint32", "float32", "float64"])
def test_every_format_gives_back_what_it_was_given(writer: Writer, dtype: str, tmp_path: Path) -> None:
    """Counts, positions, probe, object, mask and geometry come back to the last bit."""
    scan, path = sample_scan(dtype=dtype), tmp_path / f"scan{writer.suffixes[0]}"

    write_scan(scan, path)

    assert differences(scan, read_scan(path)) == []
    assert read_file_facts(path).format == writer.format


@_FORMATS
def test_every_format_replaces_an_older_file(writer: Writer, tmp_path: Path) -> None:
    """Writing twice leaves the second scan and nothing else."""
    path = tmp_path / f"scan{writer.suffixes[0]}"
    write_scan(sample_scan(n_patterns=3), path)
    names = sorted(child.name for child in tmp_path.rglob("*"))

    write_scan(sample_scan(n_patterns=5), path)

    assert read_scan(path).n_patterns == 5
    assert sorted(child.name for child in tmp_path.rglob("*")) == names


def test_the_npz_for_ptychopinn_has_every_key_it_asks_for(tmp_path: Path) -> None:
    """Amplitudes under diff3d, start coordinates even where unknown, one mode as a plane; and it comes back equal."""
    scan = sample_scan()
    scan = attrs.evolve(scan, patterns=scan.amplitude(), domain="amplitude", probe=scan.probe[0])

    write_scan(scan, tmp_path / "train.npz", format="ptychopinn")

    with np.load(tmp_path / "train.npz", allow_pickle=False) as archive:
        assert np.array_equal(archive["diff3d"], np.sqrt(sample_scan().patterns.astype(np.float32)))
        assert np.array_equal(archive["xcoords_start"], scan.positions_px[:, 1])
        assert archive["probeGuess"].shape == (scan.N, scan.N)
        assert {"xcoords", "ycoords", "ycoords_start", "objectGuess", "scan_index"} <= set(archive.files)
    assert differences(scan, read_scan(tmp_path / "train.npz")) == []


def test_what_ptychopinn_would_misread_is_refused(tmp_path: Path) -> None:
    """Counts, and a scan without an object, are named."""
    with pytest.raises(ScanError) as caught:
        write_scan(sample_scan(with_object=False), tmp_path / "train.npz", format="ptychopinn")

    assert [problem.path for problem in caught.value.problems] == ["domain", "object"]


@pytest.mark.parametrize("suffix", [".h5", ""])
def test_what_ptychodus_cannot_hold_is_named_at_once(suffix: str, tmp_path: Path) -> None:
    """Amplitudes, an unknown geometry and a name with NUL are all refused, and nothing is written."""
    scan = attrs.evolve(
        sample_scan(), domain=MeasurementDomain.AMPLITUDE, metadata=ScanMetadata(name="a\0b", distance_m=1.0)
    )

    with pytest.raises(ScanError) as caught:
        write_scan(scan, tmp_path / f"scan{suffix}")

    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["domain", "metadata.name", "metadata.pixel_size_m", "metadata.wavelength_m"]
    assert list(tmp_path.iterdir()) == []


def test_positions_too_far_apart_for_an_object_are_refused(tmp_path: Path) -> None:
    """Where the client would need an object of terabytes, the positions are named."""
    scan = attrs.evolve(sample_scan(n_patterns=2, with_object=False), positions_px=[[0.0, 0.0], [0.0, 1e6]])

    with pytest.raises(ScanError, match="positions_px: expected within 65536 px"):
        write_scan(scan, tmp_path / "scan.h5")


@pytest.mark.parametrize(("path", "format_"), [("scan.xyz", None), ("scan.h5", "hdf9"), ("scan.h5", "ptychodus")])
def test_a_format_that_is_not_there_is_a_setting_at_fault(path: str, format_: str | None, tmp_path: Path) -> None:
    """An unknown suffix, an unknown name and a folder named like a file are ConfigErrors."""
    with pytest.raises(ConfigError, match="write_scan"):
        write_scan(sample_scan(), tmp_path / path, format=format_)

    assert list(tmp_path.iterdir()) == []


def test_a_product_knows_its_suffixes(tmp_path: Path) -> None:
    """A product goes to HDF5 or NPZ and nowhere else."""
    with pytest.raises(ConfigError, match=r"\.npz"):
        write_product(sample_product(), tmp_path / "product.mat")


@pytest.mark.parametrize("name", ["product.h5", "product.npz"])
def test_a_product_survives_its_file(name: str, tmp_path: Path) -> None:
    """Every field of a product comes back in either container."""
    product = sample_product()
    write_product(product, tmp_path / name)

    read = read_product(tmp_path / name)

    for field in attrs.fields(type(product)):
        left, right = getattr(product, field.name), getattr(read, field.name)
        assert np.array_equal(left, right) if isinstance(left, np.ndarray) else left == right, field.name


def test_an_npz_product_keeps_how_it_came_about(tmp_path: Path) -> None:
    """Details of the run are beside the client's words, as in HDF5."""
    run = RunDetails(first_probe=np.ones((1, 8, 8)), r_factors=np.arange(5.0), settings={"N": "8"}, loss_unit="nats")
    write_product(attrs.evolve(sample_product(), run=run), tmp_path / "product.npz")

    read = read_product(tmp_path / "product.npz").run

    assert read is not None
    assert (read.settings, read.loss_unit, read.held_out_losses) == (run.settings, "nats", None)
    assert read.first_probe is not None
    assert read.first_probe.shape == (1, 8, 8)
    assert read.r_factors is not None
    assert read.r_factors.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def _as_older_npz(path: Path, target: Path) -> None:
    """Rename the words of an NPZ product to those of client 1.6 and before, our extras dropped."""
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files if not key.startswith("ptycho_core")}
    arrays["costs"] = arrays.pop("loss_values")
    for key in ("photon_energy_eV", "mass_attenuation_m2_per_kg", "loss_epochs", "position_units", "far_field"):
        del arrays[key]
    np.savez(target, allow_pickle=False, **arrays)


def test_an_npz_product_of_an_older_client_is_read(tmp_path: Path) -> None:
    """The names of 1.6 (probe_energy_eV, costs) are understood, which the client 1.7 itself cannot."""
    write_product(sample_product(), tmp_path / "new.npz")
    _as_older_npz(tmp_path / "new.npz", tmp_path / "old.npz")

    product = read_product(tmp_path / "old.npz")

    assert product.photon_energy_ev == pytest.approx(ENERGY_EV, rel=1e-14)
    assert list(product.loss_epochs) == [0, 1, 2]
    assert list(product.loss_values) == [3.0, 2.0, 1.5]
    expected = sample_product().positions_px - sample_product().origin_px
    np.testing.assert_allclose(product.positions_px - product.origin_px, expected, rtol=1e-9)


def test_a_scan_with_an_older_product_is_read(tmp_path: Path) -> None:
    """Old names in HDF5, without our extras, give positions and wavelength."""
    scan = sample_scan()
    write_scan(scan, tmp_path / "run")
    with h5py.File(tmp_path / "run" / "product.h5", "r+") as file:
        for name in ("photon_energy_eV", "mass_attenuation_m2_per_kg", "far_field", "position_units"):
            del file.attrs[name]
        del file["ptycho_core"]

    read = read_scan(tmp_path / "run")

    np.testing.assert_allclose(read.positions_px, scan.positions_px, rtol=1e-9)
    assert read.metadata.wavelength_m == pytest.approx(scan.metadata.wavelength_m, rel=1e-15)


def test_diffraction_alone_says_what_is_missing(tmp_path: Path) -> None:
    """No product is searched for beside the file: the caller is told to name it."""
    write_scan(sample_scan(), tmp_path / "run")

    with pytest.raises(ScanFileError, match=r"product: expected .*; give it with product= or --product"):
        read_scan(tmp_path / "run" / "diffraction.h5")


def test_a_folder_without_product_says_so(tmp_path: Path) -> None:
    """The standard name that is not there is named."""
    write_scan(sample_scan(), tmp_path / "run")
    (tmp_path / "run" / "product.h5").unlink()

    with pytest.raises(ScanFileError, match=r"product\.h5: expected a Ptychodus product"):
        read_scan(tmp_path / "run")


def test_a_product_is_no_scan(tmp_path: Path) -> None:
    """A product given as a scan is recognised and sent to its place."""
    write_product(sample_product(), tmp_path / "product.h5")

    with pytest.raises(ScanFileError, match="a Ptychodus product, which has none"):
        read_scan(tmp_path / "product.h5")


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_a_product_is_refused_where_it_has_no_use(suffix: str, tmp_path: Path) -> None:
    """A second file is never dropped silently."""
    write_scan(sample_scan(), tmp_path / f"scan{suffix}")
    write_product(sample_product(), tmp_path / "product.h5")

    with pytest.raises(ScanFileError, match="product: expected no second file"):
        read_scan(tmp_path / f"scan{suffix}", product=tmp_path / "product.h5")


def test_a_product_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    """The message names the path."""
    write_scan(sample_scan(), tmp_path / "run")

    with pytest.raises(FileNotFoundError, match=r"Product file not found: .*nope\.h5"):
        read_scan(tmp_path / "run" / "diffraction.h5", product=tmp_path / "nope.h5")


def _set(node: h5py.File, name: str, value: npt.ArrayLike) -> h5py.Dataset:
    attributes = dict(node[name].attrs)
    del node[name]
    node[name] = value
    node[name].attrs.update(attributes)
    return node[name]


_SPOILED: dict[str, tuple[Callable[[h5py.File, h5py.File], object], str]] = {
    "near field": (lambda _, p: p.attrs.modify("far_field", np.False_), "far_field"),
    "no square pixels": (lambda _, p: p["object"].attrs.modify("pixel_height_m", 1e-9), "object.pixel_height_m"),
    "no pixel": (lambda _, p: p["object"].attrs.modify("pixel_width_m", 0.0), "object.pixel_width_m"),
    "no probe": (lambda _, p: p.pop("probe"), "product.h5: probe"),
    "no x": (lambda _, p: p.pop("probe_position_x_m"), "product.h5: probe_position_x_m"),
    "no indexes": (lambda d, _: _set(d, "indexes", np.zeros((7, 2))), "indexes"),
    "too few indexes": (lambda d, _: _set(d, "indexes", np.arange(6)), "indexes"),
    "indexes of another scan": (lambda d, _: _set(d, "indexes", np.arange(100, 107)), "indexes"),
    "one index": (lambda d, _: _set(d, "indexes", 3), "indexes"),
    "flat object": (lambda _, p: _set(p, "object", np.ones(5, dtype=complex)), "object"),
    "one scan index": (
        lambda _, p: p["ptycho_core"].create_dataset("scan_index", data=3),
        "ptycho_core/scan",
    ),
    "one number as position": (lambda _, p: _set(p, "ptycho_core/positions_px", 3.0), "probe_posi"),
    "text as metadata": (lambda _, p: _set(p, "ptycho_core/metadata", np.bytes_("{")), "_metadata"),
    "flat patterns": (lambda d, _: _set(d, "patterns", np.ones((7, 16))), "patterns"),
    "no square patterns": (lambda d, _: _set(d, "patterns", np.ones((7, 16, 8))), "patterns"),
    "negative patterns": (lambda d, _: _set(d, "patterns", np.full((7, 16, 16), -1.0)), "patterns"),
    "patterns of text": (lambda d, _: _set(d, "patterns", np.full((7, 16, 16), b"x")), "patterns"),
    "no patterns": (lambda d, _: d.pop("patterns"), "patterns"),
    "mask of another size": (lambda d, _: _set(d, "bad_pixels", np.zeros((4, 4), dtype=bool)), "bad_pixels"),
    "unequal x and y": (lambda _, p: (_set(p, "probe_position_x_m", np.ones(3)), p.pop("ptycho_core")), "probe_posi"),
    "positions of text": (lambda _, p: _set(p, "ptycho_core/positions_px", b"x"), "product.h5: ptycho_core/posi"),
    "no energy at all": (lambda _, p: (p.attrs.modify("photon_energy_eV", 1e-320), p.pop("ptycho_core")), "wavele"),
}


@pytest.mark.parametrize("case", _SPOILED, ids=list(_SPOILED))
def test_each_defect_is_named(case: str, tmp_path: Path) -> None:
    """The error has a problem at the name of what is wrong."""
    spoil, path = _SPOILED[case]
    write_scan(sample_scan(), tmp_path / "run")
    with (
        h5py.File(tmp_path / "run" / "diffraction.h5", "r+") as diffraction,
        h5py.File(tmp_path / "run" / "product.h5", "r+") as product,
    ):
        spoil(diffraction, product)

    with pytest.raises(ScanFileError) as caught:
        read_scan(tmp_path / "run")

    assert any(problem.path.startswith(path) for problem in caught.value.problems), caught.value


@pytest.mark.parametrize("name", ["patterns", "probe_position_y_px"])
def test_what_a_training_file_lacks_is_named(name: str, tmp_path: Path) -> None:
    """A dataset that is missing is named with what is there; without its mark the file is no training file."""
    write_scan(sample_scan(), tmp_path / "scan.h5")
    with h5py.File(tmp_path / "scan.h5", "r+") as file:
        del file[name], file["ptycho_core/positions_px"]

    with pytest.raises(ScanFileError, match=f"{name}: expected a dataset|file: expected a scan in"):
        read_scan(tmp_path / "scan.h5")


def test_a_varying_probe_and_a_thick_object_are_reduced_and_noted(tmp_path: Path) -> None:
    """The first coherent probe is taken and several layers are left out, and the metadata say so."""
    scan = sample_scan()
    write_scan(scan, tmp_path / "run")
    with h5py.File(tmp_path / "run" / "product.h5", "r+") as product:
        for name in ("probe", "object"):
            _set(product, name, np.concatenate([product[name][()]] * 2))

    read = read_scan(tmp_path / "run")

    assert np.array_equal(read.probe, scan.probe)
    assert read.object is None
    assert np.array_equal(read.positions_px, scan.positions_px)
    assert read.metadata.extra["probe_evidence"].startswith("the first of 2 coherent probes")
    assert read.metadata.extra["object_evidence"] == "left out: it has 2 layers"


def test_a_pixel_that_does_not_follow_from_the_detector_is_noted(tmp_path: Path) -> None:
    """The product's pixel counts, and the metadata tell of the other one."""
    write_scan(sample_scan(), tmp_path / "run")
    with h5py.File(tmp_path / "run" / "diffraction.h5", "r+") as file:
        file["patterns"].attrs.modify("detector_pixel_width_m", 55e-6)

    assert (
        "by wavelength, distance and detector pixel" in read_scan(tmp_path / "run").metadata.extra["geometry_evidence"]
    )


def test_amplitudes_among_counts_are_found_out(tmp_path: Path) -> None:
    """Roots of whole numbers in a format for counts are refused until the caller says what they are."""
    scan = sample_scan()
    write_scan(attrs.evolve(scan, patterns=np.sqrt(scan.patterns.astype(np.float64))), tmp_path / "scan.h5")

    with pytest.raises(ScanFileError, match="measurement_domain"):
        read_scan(tmp_path / "scan.h5")

    assert read_scan(tmp_path / "scan.h5", domain="amplitude").domain is MeasurementDomain.AMPLITUDE


def test_a_probe_can_be_given_from_outside(tmp_path: Path) -> None:
    """A source of probes learns size, flux and geometry, takes the place of a missing probe, and is noted."""
    scan, seen = sample_scan(), []
    write_scan(scan, tmp_path / "run")
    with h5py.File(tmp_path / "run" / "product.h5", "r+") as file:
        del file["probe"]

    def source(setting: ProbeSetting) -> npt.NDArray[np.complex64]:
        seen.append(setting)
        return np.ones((setting.size_px, setting.size_px), dtype=np.complex64)

    read = read_scan(tmp_path / "run", probe=source)

    assert read.probe.shape == (1, scan.N, scan.N)
    assert read.metadata.extra["probe_evidence"] == "given by the caller"
    assert seen[0].photons == pytest.approx(float(scan.patterns.sum()) / scan.n_patterns)
    assert (seen[0].pixel_m, seen[0].distance_m) == (scan.metadata.pixel_size_m, scan.metadata.distance_m)
