"""Products in the HDF5 layout of Ptychodus, with our own extras in the group `ptycho_core`.

Lengths are metres. The client finds column `(x_m - center_x_m) / pixel_width_m + (W - 1) / 2` under a position, so the
object's centre is written in the frame of the positions. Where the pixel size is unknown it is written as 1 and the
attribute `position_units` says "px": one "metre" is then one pixel. Energy, distance and exposure that are unknown are
0, as the client writes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.atomic import atomic_path
from ptycho_core.errors import Problem, ScanError, ScanFileError
from ptycho_core.product import EV_M, Product
from ptycho_core.scan_checks import AnyArray, describe

if TYPE_CHECKING:
    from collections.abc import Mapping

    import h5py

_OWN_GROUP = "ptycho_core"
_UNITS = "position_units"
_TEXTS = ("gauge", "provenance", "metrics")
_REQUIRED = ("object", "probe", "probe_position_indexes", "probe_position_x_m", "probe_position_y_m")
_OPTIONAL = (
    "loss_values",
    "costs",
    "loss_epochs",
    "object_layer_spacing_m",
    f"{_OWN_GROUP}/coverage",
    f"{_OWN_GROUP}/positions_px",
    *(f"{_OWN_GROUP}/{name}" for name in _TEXTS),
)
_DAMAGE = (AttributeError, KeyError, MemoryError, OSError, OverflowError, RuntimeError, TypeError, ValueError)

_Attributes: TypeAlias = "dict[str, str | float]"


def write_product(product: Product, path: str | Path) -> None:
    """Write a product so that `read_product` gives back an equal one and the Ptychodus client opens it; atomic.

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
    import h5py  # noqa: PLC0415 - only who writes a product needs it

    pixel_m = 1.0 if product.pixel_size_m is None else product.pixel_size_m
    with h5py.File(path, "w") as file:
        file.attrs.update(_root_attributes(product))
        positions_m = product.positions_px * pixel_m
        file["probe_position_indexes"] = product.position_indexes
        file["probe_position_x_m"] = positions_m[:, 1]
        file["probe_position_y_m"] = positions_m[:, 0]
        file["probe"] = product.probe[np.newaxis]
        file["object"] = product.object[np.newaxis]
        for name in ("probe", "object"):
            file[name].attrs.update({"pixel_width_m": pixel_m, "pixel_height_m": pixel_m})
        file["object"].attrs.update(_centre_attributes(product, pixel_m))
        file["object_layer_spacing_m"] = np.zeros(0)
        file["loss_epochs"] = product.loss_epochs
        file["loss_values"] = product.loss_values
        _write_own(product, file.create_group(_OWN_GROUP))


def _root_attributes(product: Product) -> _Attributes:
    energy = product.photon_energy_ev or 0.0
    return {
        "name": product.name,
        "comments": "",
        "detector_object_distance_m": product.distance_m or 0.0,
        "focus_object_distance_m": 0.0,
        # The client renamed the energy and the attenuation; writing both names serves old and new ones.
        "photon_energy_eV": energy,
        "probe_energy_eV": energy,
        "probe_photon_count": product.photons_per_frame,
        "exposure_time_s": 0.0,
        "mass_attenuation_m2_per_kg": 0.0,
        "mass_attenuation_m2_kg": 0.0,
        "tomography_angle_deg": 0.0,
        "tilt_angle_deg": 0.0,
        "far_field": True,
        _UNITS: "px" if product.pixel_size_m is None else "m",
    }


def _centre_attributes(product: Product, pixel_m: float) -> _Attributes:
    (y, x), (height, width) = product.origin_px, product.object.shape
    return {
        "center_y_m": (y + (height - 1) / 2.0) * pixel_m,
        "center_x_m": (x + (width - 1) / 2.0) * pixel_m,
    }


def _write_own(product: Product, group: h5py.Group) -> None:
    # The positions in pixels are kept as well: dividing metres by the pixel size would lose their last bit.
    group["positions_px"] = product.positions_px
    if product.coverage is not None:
        group["coverage"] = product.coverage
    group.attrs["origin_px"] = product.origin_px
    group.attrs["scale"] = product.scale
    group.attrs["code_version"] = product.code_version
    if product.wavelength_m is not None:
        group.attrs["wavelength_m"] = product.wavelength_m
    for name, content in zip(_TEXTS, (product.gauge, product.provenance, product.metrics), strict=True):
        # A fixed-length text: HDF5 keeps it beside no heap that damage could lead astray.
        group[name] = np.bytes_(json.dumps(dict(content)))


@attrs.define(eq=False)
class _Contents:
    """Everything read from one file, and what could not be."""

    arrays: dict[str, AnyArray] = attrs.field(factory=dict)
    texts: dict[str, str] = attrs.field(factory=dict)
    numbers: dict[str, float] = attrs.field(factory=dict)
    problems: list[Problem] = attrs.field(factory=list)

    def positive(self, *names: str) -> float | None:
        """Give the first of these numbers that is known; 0 stands for unknown."""
        return next((self.numbers[name] for name in names if self.numbers.get(name, 0.0) > 0.0), None)


def read_product(path: str | Path) -> Product:
    """Read a product, ours or the client's (old names included).

    Args:
        path: an HDF5 product file.

    Returns:
        The product; coverage, gauge, metrics and provenance are unknown for files that are not ours.

    Raises:
        FileNotFoundError: when there is no such file.
        ScanFileError: when it is no product of one object layer and one probe, with every problem there is.
    """
    path = Path(path)
    if not path.exists():
        msg = f"Product file not found: {path}"
        raise FileNotFoundError(msg)
    contents = _read_contents(path)
    object_ = _only(contents, "object", rank=2)
    probe = _only(contents, "probe", rank=3)
    pixel_m = contents.positive("object.pixel_width_m")
    if pixel_m is None:
        found = str(contents.numbers.get("object.pixel_width_m"))
        contents.problems.append(Problem(path="object.pixel_width_m", expected="a number > 0", found=found))
    elif contents.numbers.get("object.pixel_height_m", pixel_m) != pixel_m:
        found = f"{contents.numbers['object.pixel_height_m']} by {pixel_m}"
        contents.problems.append(Problem(path="object.pixel_height_m", expected="square pixels", found=found))
    if contents.problems or object_ is None or probe is None or pixel_m is None:
        raise ScanFileError(str(path), contents.problems)
    try:
        return _product(contents, object_, probe, pixel_m)
    except ScanError as error:
        raise ScanFileError(str(path), error.problems) from None
    except _DAMAGE as error:
        raise ScanFileError(str(path), [_damaged("file", error)]) from None


def _read_contents(path: Path) -> _Contents:
    import h5py  # noqa: PLC0415 - only who reads a product needs it

    contents = _Contents()
    try:
        with h5py.File(path, "r") as file:
            for key in (*_REQUIRED, *_OPTIONAL):
                if key in file:
                    _read_dataset(file, key, contents)
                elif key in _REQUIRED:
                    present = ", ".join(file) or "nothing"
                    contents.problems.append(Problem(path=key, expected="a dataset", found=f"only {present}"))
            _read_attributes(file, "", contents)
            for key in ("object", "probe", _OWN_GROUP):
                if key in file:
                    _read_attributes(file[key], f"{key}.", contents)
    except _DAMAGE as error:
        raise ScanFileError(str(path), [_damaged("file", error)]) from None
    return contents


def _read_dataset(file: h5py.File, key: str, contents: _Contents) -> None:
    try:
        array = np.asarray(file[key][()])
        if key.removeprefix(f"{_OWN_GROUP}/") in _TEXTS:
            contents.texts[key] = bytes(array).rstrip(b"\0").decode("ascii")
        else:
            contents.arrays[key] = array
    except _DAMAGE as error:
        contents.problems.append(_damaged(key, error))


def _read_attributes(node: h5py.Group, prefix: str, contents: _Contents) -> None:
    attributes: Mapping[str, object] = dict(node.attrs)
    for name, value in attributes.items():
        array = np.asarray(value)
        if isinstance(value, str):
            contents.texts[prefix + name] = value
        elif array.dtype.kind in "fiu" and array.ndim == 0:
            contents.numbers[prefix + name] = float(array)
        elif array.dtype.kind in "fiu":
            contents.arrays[prefix + name] = array


def _only(contents: _Contents, key: str, *, rank: int) -> AnyArray | None:
    """Drop leading axes of length 1 (layers, coherent modes) down to a rank; more than one of them is a problem."""
    array = contents.arrays.get(key)
    if array is None:
        return None
    while array.ndim > rank and array.shape[0] == 1:
        array = array[0]
    if array.ndim > rank:
        expected = "one object layer" if key == "object" else "one coherent probe"
        contents.problems.append(Problem(path=key, expected=expected, found=describe(array)))
    return array


def _product(contents: _Contents, object_: AnyArray, probe: AnyArray, pixel_m: float) -> Product:
    in_pixels = contents.texts.get(_UNITS) == "px"
    losses = contents.arrays.get("loss_values", contents.arrays.get("costs", np.zeros(0)))
    wavelength = contents.positive(f"{_OWN_GROUP}.wavelength_m")
    energy = contents.positive("photon_energy_eV", "probe_energy_eV")
    if wavelength is None and energy is not None:
        wavelength = EV_M / energy
    gauge, provenance, metrics = (json.loads(contents.texts.get(f"{_OWN_GROUP}/{name}", "{}")) for name in _TEXTS)
    return Product(
        object=object_,
        origin_px=_origin_px(contents, object_, pixel_m),
        probe=probe,
        positions_px=_positions_px(contents, pixel_m),
        position_indexes=contents.arrays["probe_position_indexes"],
        coverage=contents.arrays.get(f"{_OWN_GROUP}/coverage"),
        pixel_size_m=None if in_pixels else pixel_m,
        wavelength_m=wavelength,
        distance_m=contents.positive("detector_object_distance_m"),
        loss_epochs=contents.arrays.get("loss_epochs", np.arange(len(losses))),
        loss_values=losses,
        scale=contents.numbers.get(f"{_OWN_GROUP}.scale", 1.0),
        gauge=gauge,
        provenance=provenance,
        metrics=metrics,
        code_version=contents.texts.get(f"{_OWN_GROUP}.code_version", ""),
        name=contents.texts.get("name", ""),
    )


def _positions_px(contents: _Contents, pixel_m: float) -> npt.NDArray[np.generic]:
    exact = contents.arrays.get(f"{_OWN_GROUP}/positions_px")
    if exact is not None:
        return exact
    y, x = (contents.arrays[f"probe_position_{axis}_m"] for axis in "yx")
    return np.stack([y, x], axis=-1).astype(np.float64) / pixel_m


def _origin_px(contents: _Contents, object_: AnyArray, pixel_m: float) -> tuple[float, float]:
    exact = contents.arrays.get(f"{_OWN_GROUP}.origin_px")
    if exact is not None:
        y, x = exact.astype(np.float64)
        return float(y), float(x)
    height, width = object_.shape
    centre_y, centre_x = (contents.numbers.get(f"object.center_{axis}_m", 0.0) for axis in "yx")
    return centre_y / pixel_m - (height - 1) / 2.0, centre_x / pixel_m - (width - 1) / 2.0


def _damaged(path: str, error: BaseException) -> Problem:
    text = " ".join(str(error).split()) or type(error).__name__
    return Problem(path=path, expected="a readable HDF5 product", found=text)
