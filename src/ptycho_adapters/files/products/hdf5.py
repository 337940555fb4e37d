"""Products in the HDF5 layout of Ptychodus, with our own extras in the group `ptycho_core`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeAlias

import attrs
import numpy as np

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.files.hdf5.members import read_array, read_long_text, read_number, read_numbers
from ptycho_adapters.files.hdf5.nodes import DAMAGE, damaged, find_node, names_in, open_h5
from ptycho_adapters.files.hdf5.texts import read_text
from ptycho_adapters.files.products.contents import (
    BY_FREQUENCY,
    BY_FREQUENCY_ARRAY,
    BY_FREQUENCY_ROWS,
    JSON_TEXTS,
    OBJECT_NUMBERS,
    OPTIONAL_ARRAYS,
    OWN,
    REQUIRED_ARRAYS,
    ROOT_NUMBERS,
    UNCERTAINTY_ARRAYS,
    UNCERTAINTY_UNITS,
    UNITS,
    ProductContents,
    by_frequency_table,
)
from ptycho_adapters.files.products.run_details import GROUP, read_run_details, write_run_details
from ptycho_core.errors import Problem
from ptycho_core.measurement.geometry import energy_from_wavelength

if TYPE_CHECKING:
    from pathlib import Path

    import h5py

    from ptycho_core.results.product import Product

Attributes: TypeAlias = "dict[str, str | float | np.bytes_]"


@attrs.frozen(kw_only=True)
class Experiment:
    """What a product says about the experiment; None stands for unknown.

    Attributes:
        name: a name for people.
        photons: photons per frame of a transparent object.
        wavelength_m: wavelength in metres.
        distance_m: distance from object to detector in metres.
        pixel_m: object pixel in metres.
    """

    name: str
    photons: float
    wavelength_m: float | None
    distance_m: float | None
    pixel_m: float | None

    @property
    def unit_m(self) -> float:
        """The pixel size as it is written: 1 where it is unknown."""
        return 1.0 if self.pixel_m is None else self.pixel_m

    def root_attributes(self) -> Attributes:
        """Give the attributes of the file's root, by the client's names."""
        energy = 0.0 if self.wavelength_m is None else energy_from_wavelength(wavelength_m=self.wavelength_m)
        return {
            "name": self.name,
            "comments": "",
            "detector_object_distance_m": self.distance_m or 0.0,
            "focus_object_distance_m": 0.0,
            # The client renamed the energy and the attenuation; writing both names serves old and new ones.
            "photon_energy_eV": energy,
            "probe_energy_eV": energy,
            "probe_photon_count": self.photons,
            "exposure_time_s": 0.0,
            "mass_attenuation_m2_per_kg": 0.0,
            "mass_attenuation_m2_kg": 0.0,
            "tomography_angle_deg": 0.0,
            "tilt_angle_deg": 0.0,
            "far_field": True,
            # A fixed-length text, unlike those that the client reads: it lies in no heap that damage could lead astray.
            UNITS: np.bytes_("m" if self.pixel_m is not None else "px"),
        }

    def pixel_attributes(self) -> Attributes:
        """Give the attributes of an array in the object's plane."""
        return {"pixel_width_m": self.unit_m, "pixel_height_m": self.unit_m}

    def centre_attributes(self, origin_px: tuple[float, float], shape: tuple[int, int]) -> Attributes:
        """Give the attributes that place the object in the frame of the positions."""
        (y, x), (height, width) = origin_px, shape
        return {
            "center_y_m": (y + (height - 1) / 2.0) * self.unit_m,
            "center_x_m": (x + (width - 1) / 2.0) * self.unit_m,
        }


def experiment_of(product: Product) -> Experiment:
    """Say what a product knows about the experiment."""
    return Experiment(
        name=product.name,
        photons=product.photons_per_frame,
        wavelength_m=product.wavelength_m,
        distance_m=product.distance_m,
        pixel_m=product.pixel_size_m,
    )


def write_product_h5(product: Product, path: str | Path) -> None:
    """Write a product so that it is read back equal and the Ptychodus client opens it; atomic.

    Args:
        product: what to write.
        path: where to; an existing file is replaced.

    Raises:
        OSError: from the file system; an existing file is then as it was.
    """
    with atomic_path(path) as partial:
        write_product_file(product, partial)


def write_product_file(product: Product, path: Path) -> None:
    """Write a product straight to a path, for callers that commit several files together."""
    from ptycho_adapters.files.hdf5.writing import new_hdf5  # noqa: PLC0415 - only who writes a product needs it

    experiment = experiment_of(product)
    height, width = product.object.shape
    positions_m = product.positions_px * experiment.unit_m
    with new_hdf5(path) as file:
        file.attrs.update(experiment.root_attributes())
        file["probe_position_indexes"] = product.position_indexes
        file["probe_position_x_m"] = positions_m[:, 1]
        file["probe_position_y_m"] = positions_m[:, 0]
        file["probe"] = product.probe[np.newaxis]
        file["object"] = product.object[np.newaxis]
        for name in ("probe", "object"):
            file[name].attrs.update(experiment.pixel_attributes())
        file["object"].attrs.update(experiment.centre_attributes(product.origin_px, (height, width)))
        file["object_layer_spacing_m"] = np.zeros(0)
        file["loss_epochs"] = product.loss_epochs
        file["loss_values"] = product.loss_values
        _write_own(product, file.create_group(OWN))


def _write_own(product: Product, group: h5py.Group) -> None:
    # The positions in pixels are kept as well: dividing metres by the pixel size would lose their last bit.
    group["positions_px"] = product.positions_px
    for name in ("given_positions_px", "relative_flux", "coverage"):
        if (known := getattr(product, name)) is not None:
            group[name] = known
    if product.uncertainty is not None:
        beside = group.create_group("uncertainty")
        for name, unit in UNCERTAINTY_UNITS.items():
            beside[name] = getattr(product.uncertainty, name)
            beside[name].attrs["units"] = np.bytes_(unit)
        if product.uncertainty.by_frequency is not None:
            beside[BY_FREQUENCY] = by_frequency_table(product.uncertainty.by_frequency)
            beside[BY_FREQUENCY].attrs["rows"] = np.bytes_(" ".join(BY_FREQUENCY_ROWS))
    group.attrs["origin_px"] = product.origin_px
    group.attrs["scale"] = product.scale
    if product.code_version:
        group.attrs["code_version"] = np.bytes_(product.code_version.encode())
    if product.wavelength_m is not None:
        group.attrs["wavelength_m"] = product.wavelength_m
    for name, content in zip(JSON_TEXTS, (product.gauge, product.provenance, product.metrics), strict=True):
        # A fixed-length text: HDF5 keeps it beside no heap that damage could lead astray.
        group[name] = np.bytes_(json.dumps(dict(content)))
    if product.run is not None:
        write_run_details(product.run, group)


def read_h5_contents(path: Path) -> ProductContents:
    """Read everything that a product in HDF5 may hold; what cannot be read is among the problems."""
    contents = ProductContents()
    file = open_h5(path)
    if isinstance(file, Problem):
        contents.problems.append(file)
        return contents
    with file:
        _read_own(file, contents)
        _read_arrays(file, contents)
        for name in (*JSON_TEXTS, "metadata"):
            contents.keep_text(f"{OWN}/{name}", read_long_text(file, f"{OWN}/{name}"))
        _read_root(file, contents)
        _read_object_attributes(file, contents)
    return contents


def _read_arrays(file: h5py.File, contents: ProductContents) -> None:
    for name in (*REQUIRED_ARRAYS, *OPTIONAL_ARRAYS, *UNCERTAINTY_ARRAYS, BY_FREQUENCY_ARRAY):
        if name == "object" and not contents.is_object_known():
            continue
        array = read_array(file, name)
        if array is None and name in REQUIRED_ARRAYS:
            array = Problem(path=name, expected="a dataset", found=f"only {', '.join(names_in(file)) or 'nothing'}")
        contents.keep_array(name, array)


def _read_root(file: h5py.File, contents: ProductContents) -> None:
    for name in ROOT_NUMBERS:
        contents.keep_number(name, read_number(file, name))
    for name in ("name", UNITS):
        contents.keep_text(name, read_text(file, name))


def _read_object_attributes(file: h5py.File, contents: ProductContents) -> None:
    node = find_node(file, "object")
    if node is None or isinstance(node, Problem):
        return
    for name in OBJECT_NUMBERS:
        contents.keep_number(f"object.{name}", read_number(node, name))


def _read_own(file: h5py.File, contents: ProductContents) -> None:
    node = find_node(file, OWN)
    if node is None or isinstance(node, Problem):
        return
    for name in ("scale", "wavelength_m", "object_known"):
        contents.keep_number(f"{OWN}.{name}", read_number(node, name))
    contents.keep_text(f"{OWN}.code_version", read_text(node, "code_version"))
    contents.keep_array(f"{OWN}.origin_px", read_numbers(node, "origin_px", length=2))
    try:
        group = find_node(node, GROUP)
        if group is not None and not isinstance(group, Problem):
            contents.run = read_run_details(group)
    except DAMAGE as error:
        contents.problems.append(damaged(f"{OWN}/{GROUP}", error, "a readable HDF5 product"))
