"""Results as labelled arrays: xarray data sets whose coordinates are pixels, and metres where they are known."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import numpy as np

from ptycho_core.errors import DependencyError
from ptycho_core.results.product import Product
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    import xarray
    from numpy.typing import NDArray

    from ptycho_core.results.reconstruction import Reconstruction


def to_xarray(result: Reconstruction | Product) -> xarray.Dataset:
    """Return a result as a data set.

    Args:
        result: a reconstruction or a product.

    Returns:
        `object` and, where it is known, `coverage` over `y` and `x` [px, in the frame of the positions]; `probe` over
        `mode`, `probe_y` and `probe_x` [px from its centre, N // 2]; `position_px` over `pattern` (the number of the
        pattern in its scan) and `axis`; `r_factor` over `pattern` where it is known. Metrics, and lengths in metres
        where they are known, are attributes.

    Raises:
        DependencyError: xarray is not installed.
    """
    if importlib.util.find_spec("xarray") is None:
        message = "labelled arrays need xarray: pip install 'xarray>=2024.7'"
        raise DependencyError(message)
    import xarray as xr  # noqa: PLC0415 - an optional package

    (height, width), (top, left) = result.object.shape, result.origin_px
    side = result.probe.shape[-1]
    from_centre = np.arange(side) - side // 2
    variables: dict[str, object] = {
        "object": (("y", "x"), result.object, {"long_name": "complex transmission"}),
        "probe": (("mode", "probe_y", "probe_x"), result.probe, {"units": "sqrt(photon)"}),
        "position_px": (("pattern", "axis"), result.positions_px, {"units": "px"}),
    }
    if result.coverage is not None:
        variables["coverage"] = (("y", "x"), result.coverage, {"long_name": "summed probe intensity"})
    r_factors = _r_factors(result)
    if r_factors is not None:
        variables["r_factor"] = (("pattern",), r_factors)
    coordinates = {
        "y": ("y", top + np.arange(height), {"units": "px"}),
        "x": ("x", left + np.arange(width), {"units": "px"}),
        "mode": np.arange(len(result.probe)),
        "probe_y": ("probe_y", from_centre, {"units": "px"}),
        "probe_x": ("probe_x", from_centre, {"units": "px"}),
        "pattern": _numbers(result),
        "axis": ["y", "x"],
    }
    return xr.Dataset(variables, coords=coordinates, attrs=_attributes(result))


def _numbers(result: Reconstruction | Product) -> NDArray[np.int64]:
    return result.position_indexes if isinstance(result, Product) else result.pattern_indices


def _r_factors(result: Reconstruction | Product) -> NDArray[np.float64] | None:
    if isinstance(result, Product):
        return None if result.run is None else result.run.r_factors
    return result.r_factors


def _attributes(result: Reconstruction | Product) -> dict[str, object]:
    attributes: dict[str, object] = {**result.metrics, "scale": result.scale, "code_version": VERSION}
    if isinstance(result, Product):
        lengths = {
            "pixel_size_m": result.pixel_size_m,
            "wavelength_m": result.wavelength_m,
            "distance_m": result.distance_m,
        }
        attributes |= {name: value for name, value in lengths.items() if value is not None}
        attributes["code_version"] = result.code_version
    return attributes
