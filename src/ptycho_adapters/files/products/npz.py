"""Products in the NPZ layout of Ptychodus: the words of the HDF5 layout in one flat list, with our extras beside them.

What HDF5 keeps as attributes of the probe and the object has the array's name in front: `object_pixel_width_m`. Our
extras are named `ptycho_core/...`; the client does not look at them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from ptycho_adapters.atomic import atomic_path
from ptycho_adapters.files.npz.members import member_keys, open_archive, read_member, read_text
from ptycho_adapters.files.products.contents import (
    BY_FREQUENCY_ARRAY,
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
from ptycho_adapters.files.products.hdf5 import experiment_of
from ptycho_adapters.files.products.run_details import (
    GROUP,
    RUN_ARRAYS,
    RUN_TEXTS,
    run_arrays,
    run_details_from,
    run_text,
)
from ptycho_core.any_array import describe
from ptycho_core.errors import Problem

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Mapping
    from pathlib import Path

    from ptycho_core.results.product import Product

Arrays: TypeAlias = "dict[str, npt.NDArray[np.generic]]"

_RUN = f"{OWN}/{GROUP}"


def write_product_npz(product: Product, path: str | Path) -> None:
    """Write a product so that it is read back equal and the Ptychodus client opens it; atomic.

    Args:
        product: what to write.
        path: where to; an existing file is replaced.

    Raises:
        OSError: from the file system; an existing file is then as it was.
    """
    experiment = experiment_of(product)
    height, width = product.object.shape
    pixels = experiment.pixel_attributes()
    positions_m = product.positions_px * experiment.unit_m
    placed = pixels | experiment.centre_attributes(product.origin_px, (height, width))
    arrays: Arrays = {
        **{key: np.asarray(value) for key, value in experiment.root_attributes().items()},
        **{f"probe_{key}": np.asarray(value) for key, value in pixels.items()},
        **{f"object_{key}": np.asarray(value) for key, value in placed.items()},
        "probe_position_indexes": product.position_indexes,
        "probe_position_x_m": positions_m[:, 1],
        "probe_position_y_m": positions_m[:, 0],
        "probe": product.probe[np.newaxis],
        "object": product.object[np.newaxis],
        "object_layer_spacing_m": np.zeros(0),
        "loss_epochs": product.loss_epochs,
        "loss_values": product.loss_values,
        **_own_arrays(product),
    }
    with atomic_path(path) as partial, partial.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def _own_arrays(product: Product) -> Arrays:
    arrays: Arrays = {
        f"{OWN}/positions_px": product.positions_px,
        f"{OWN}.origin_px": np.asarray(product.origin_px),
        f"{OWN}.scale": np.asarray(product.scale),
        f"{OWN}.code_version": np.asarray(product.code_version),
    }
    if product.given_positions_px is not None:
        arrays[f"{OWN}/given_positions_px"] = product.given_positions_px
    if product.relative_flux is not None:
        arrays[f"{OWN}/relative_flux"] = product.relative_flux
    if product.coverage is not None:
        arrays[f"{OWN}/coverage"] = product.coverage
    if product.uncertainty is not None:
        values = [getattr(product.uncertainty, name) for name in UNCERTAINTY_UNITS]
        arrays |= dict(zip(UNCERTAINTY_ARRAYS, values, strict=True))
        if product.uncertainty.by_frequency is not None:
            arrays[BY_FREQUENCY_ARRAY] = by_frequency_table(product.uncertainty.by_frequency)
    if product.wavelength_m is not None:
        arrays[f"{OWN}.wavelength_m"] = np.asarray(product.wavelength_m)
    for name, content in zip(JSON_TEXTS, (product.gauge, product.provenance, product.metrics), strict=True):
        arrays[f"{OWN}/{name}"] = np.asarray(json.dumps(dict(content)))
    if product.run is not None:
        arrays |= {f"{_RUN}/{name}": array for name, array in run_arrays(product.run).items()}
        arrays[f"{_RUN}/{RUN_TEXTS}"] = np.asarray(run_text(product.run))
    return arrays


def read_npz_contents(path: Path) -> ProductContents:
    """Read everything that a product in NPZ may hold; what cannot be read is among the problems."""
    contents = ProductContents()
    archive = open_archive(path)
    if isinstance(archive, Problem):
        contents.problems.append(archive)
        return contents
    with archive:
        infos = member_keys(archive)
        if isinstance(infos, Problem):
            contents.problems.append(infos)
            return contents
        _read_arrays(archive, infos, contents)
        _read_numbers(archive, infos, contents)
        for name in (*(f"{OWN}/{name}" for name in JSON_TEXTS), f"{OWN}.code_version", "name", UNITS):
            if name in infos:
                contents.keep_text(name, read_text(archive, infos[name]))
        _read_run(archive, infos, contents)
    return contents


def _read_arrays(archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo], contents: ProductContents) -> None:
    origin = f"{OWN}.origin_px"
    for name in (*REQUIRED_ARRAYS, *OPTIONAL_ARRAYS, *UNCERTAINTY_ARRAYS, BY_FREQUENCY_ARRAY, origin):
        if name in infos:
            array = read_member(archive, infos[name])
            if name == origin and not isinstance(array, Problem) and (array.shape != (2,) or array.dtype.kind != "f"):
                array = Problem(path=name, expected="2 numbers", found=describe(array))
            contents.keep_array(name, array)
        elif name in REQUIRED_ARRAYS:
            present = ", ".join(sorted(infos)) or "nothing"
            contents.problems.append(Problem(path=name, expected="an array", found=f"only {present}"))


def _read_numbers(archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo], contents: ProductContents) -> None:
    names = {name: name for name in (*ROOT_NUMBERS, f"{OWN}.scale", f"{OWN}.wavelength_m")}
    names |= {f"object_{name}": f"object.{name}" for name in OBJECT_NUMBERS}
    for key, name in names.items():
        if key not in infos:
            continue
        array = read_member(archive, infos[key])
        if not isinstance(array, Problem) and (array.size != 1 or array.dtype.kind not in "biuf"):
            array = Problem(path=key, expected="one number", found=f"shape {array.shape} of {array.dtype}")
        contents.keep_number(name, array if isinstance(array, Problem) else float(array.ravel()[0]))


def _read_run(archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo], contents: ProductContents) -> None:
    key = f"{_RUN}/{RUN_TEXTS}"
    if key not in infos:
        return
    arrays = {name: read_member(archive, infos[f"{_RUN}/{name}"]) for name in RUN_ARRAYS if f"{_RUN}/{name}" in infos}
    try:
        contents.run = run_details_from(read_text(archive, infos[key]), arrays)
    except (ValueError, TypeError, RecursionError) as error:
        contents.problems.append(Problem(path=_RUN, expected="details of a run", found=str(error)))
