"""The result of a reconstruction as an immutable value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem, ScanError, raise_if_any
from ptycho_core.frozen import FrozenMapping, read_only
from ptycho_core.measurement.arrays import as_complex, as_float64, as_optional_float64, as_probe
from ptycho_core.measurement.geometry import energy_from_wavelength
from ptycho_core.results.run_details import RunDetails
from ptycho_core.results.uncertainty import PriorByFrequency, Uncertainty


def _as_real32(value: npt.ArrayLike | None) -> npt.NDArray[np.float32] | None:
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind in "fiub":
        # What does not fit becomes infinite here and is refused by validation.
        with np.errstate(over="ignore", invalid="ignore"):
            array = array.astype(np.float32, copy=False)
    return read_only(array)


def _as_integers(value: npt.ArrayLike) -> npt.NDArray[np.int64]:
    array = np.asarray(value)
    # An empty list comes as float64.
    is_integral = array.dtype.kind in "iu" or (array.dtype.kind == "f" and not array.size)
    return read_only(array.astype(np.int64, copy=False) if is_integral else array)


def _as_pair(value: tuple[float, float]) -> tuple[float, float]:
    y, x = value
    return float(y), float(x)


@attrs.frozen(kw_only=True, eq=False)
class Product:
    """A reconstruction with everything needed to place, scale and trust it. Arrays are read-only, in (y, x) order.

    Attributes:
        object: (H, W) complex64 transmission.
        origin_px: (y, x) of the centre of pixel [0, 0] of the object, in the frame of the positions.
        probe: (modes, N, N) complex64; the sum of its squared modulus is photons per frame.
        positions_px: (n, 2) float64, (y, x) of the patch centres in object pixels.
        given_positions_px: (n, 2) float64, where the scan has them; None when unknown.
        position_indexes: (n,) int64, number of each position in its scan.
        relative_flux: (n,) float64, flux of each frame over their mean; None where all are taken to be alike.
        coverage: (H, W) float32, summed weight of the patches on each pixel, 0 where nothing was measured; None when
            unknown.
        pixel_size_m: object pixel in metres, None when unknown.
        wavelength_m: wavelength in metres, None when unknown.
        distance_m: distance from object to detector in metres, None when unknown.
        loss_epochs: (E,) int64.
        loss_values: (E,) float64, one per entry of `loss_epochs`.
        scale: factor between the network's units and photons that was undone.
        gauge: what was fixed of the free global phase, scale and ramp, by name.
        provenance: where each setting came from.
        metrics: figures of merit by name.
        code_version: version of the code that made it.
        name: a name for people.
        run: how it came about; None when unknown.
        uncertainty: how far the object may be off; None when unknown.

    Raises:
        ScanError: with every problem there is.
    """

    object: npt.NDArray[np.complex64] = attrs.field(converter=as_complex)
    origin_px: tuple[float, float] = attrs.field(converter=_as_pair)
    probe: npt.NDArray[np.complex64] = attrs.field(converter=as_probe)
    positions_px: npt.NDArray[np.float64] = attrs.field(converter=as_float64)
    position_indexes: npt.NDArray[np.int64] = attrs.field(converter=_as_integers)
    given_positions_px: npt.NDArray[np.float64] | None = attrs.field(default=None, converter=as_optional_float64)
    relative_flux: npt.NDArray[np.float64] | None = attrs.field(default=None, converter=as_optional_float64)
    coverage: npt.NDArray[np.float32] | None = attrs.field(default=None, converter=_as_real32)
    pixel_size_m: float | None = None
    wavelength_m: float | None = None
    distance_m: float | None = None
    loss_epochs: npt.NDArray[np.int64] = attrs.field(factory=list, converter=_as_integers)
    loss_values: npt.NDArray[np.float64] = attrs.field(factory=list, converter=as_float64)
    scale: float = 1.0
    gauge: Mapping[str, str] = attrs.field(factory=dict, converter=FrozenMapping[str])
    provenance: Mapping[str, str] = attrs.field(factory=dict, converter=FrozenMapping[str])
    metrics: Mapping[str, float] = attrs.field(factory=dict, converter=FrozenMapping[float])
    code_version: str = ""
    name: str = ""
    run: RunDetails | None = None
    uncertainty: Uncertainty | None = None

    def __attrs_post_init__(self) -> None:
        problems = [*_array_problems(self), *_number_problems(self), *_text_problems(self)]
        if self.uncertainty is not None:
            problems += _uncertainty_problems(self.uncertainty, self.object.shape)
        if self.run is not None:
            lengths = {"n_positions": _length(self.positions_px), "n_losses": _length(self.loss_values)}
            problems += self.run.problems(shape=self.object.shape, **lengths)
        raise_if_any(ScanError, "product", problems)

    @property
    def photon_energy_ev(self) -> float | None:
        """Photon energy in eV, None when the wavelength is unknown."""
        return None if self.wavelength_m is None else energy_from_wavelength(wavelength_m=self.wavelength_m)

    @property
    def photons_per_frame(self) -> float:
        """Flux of the probe: the photons that a transparent object lets through to one frame."""
        return float(np.sum(np.square(np.abs(self.probe.astype(np.complex128)))))


def _array_problems(product: Product) -> Iterator[Problem]:
    n_positions, n_losses, shape = _length(product.positions_px), _length(product.loss_values), product.object.shape
    rules: tuple[tuple[str, AnyArray, str, str, bool], ...] = (
        ("object", product.object, "c", "(H, W) complex", len(shape) == 2 and product.object.size > 0),
        ("probe", product.probe, "c", "(modes, N, N) complex", _is_square_stack(product.probe)),
        ("positions_px", product.positions_px, "f", "(n, 2)", product.positions_px.shape == (n_positions, 2)),
        (
            "position_indexes",
            product.position_indexes,
            "i",
            f"({n_positions},)",
            product.position_indexes.shape == (n_positions,),
        ),
        ("loss_values", product.loss_values, "f", "(E,)", product.loss_values.ndim == 1),
        ("loss_epochs", product.loss_epochs, "i", f"({n_losses},)", product.loss_epochs.shape == (n_losses,)),
    )
    if product.coverage is not None:
        matches = product.coverage.shape == shape
        rules += (("coverage", product.coverage, "f", f"the object's shape {shape}", matches),)
    if product.given_positions_px is not None:
        matches = product.given_positions_px.shape == (n_positions, 2)
        rules += (("given_positions_px", product.given_positions_px, "f", f"({n_positions}, 2)", matches),)
    if product.relative_flux is not None:
        matches = product.relative_flux.shape == (n_positions,)
        rules += (("relative_flux", product.relative_flux, "f", f"({n_positions},)", matches),)
    for path, array, kind, expected, holds in rules:
        if not holds or array.dtype.kind != kind:
            yield Problem(path=path, expected=expected, found=describe(array))
        # A training that diverged has a loss curve that says so.
        elif path != "loss_values" and not _is_finite(array):
            yield Problem(path=path, expected="finite values", found="NaN or infinite ones")


def _uncertainty_problems(uncertainty: Uncertainty, shape: tuple[int, ...]) -> Iterator[Problem]:
    if uncertainty.by_frequency is not None:
        yield from _ring_problems(uncertainty.by_frequency)
    for name, array in attrs.asdict(uncertainty, recurse=False, filter=_by_pixel).items():
        path = f"uncertainty.{name}"
        if array.dtype != np.float32 or array.shape != shape:
            yield Problem(path=path, expected=f"float32 of the object's shape {shape}", found=describe(array))
        elif not (array >= 0.0).all():
            yield Problem(path=path, expected="values that are not negative", found="negative ones or NaN")


def _ring_problems(rings: PriorByFrequency) -> Iterator[Problem]:
    for name, array in attrs.asdict(rings).items():
        path = f"uncertainty.by_frequency.{name}"
        if array.dtype != np.float32 or array.shape != rings.frequency_per_px.shape or array.ndim != 1:
            yield Problem(path=path, expected="(rings,) float32, as many as the others", found=describe(array))
        elif not ((array >= 0.0) & (array <= 1.0)).all():
            yield Problem(path=path, expected="values from 0 to 1", found="others, or NaN")


def _by_pixel(_: object, value: object) -> bool:
    return isinstance(value, np.ndarray)


def _is_finite(array: AnyArray) -> bool:
    # Damaged files hold signalling NaN, which warn when they are cast.
    with np.errstate(invalid="ignore"):
        return bool(np.isfinite(array.astype(np.complex128)).all())


def _length(array: AnyArray) -> int:
    return len(array) if array.ndim else 0


def _is_square_stack(array: AnyArray) -> bool:
    return array.ndim == 3 and array.size > 0 and array.shape[1] == array.shape[2]


def _number_problems(product: Product) -> Iterator[Problem]:
    lengths = {
        "pixel_size_m": product.pixel_size_m,
        "wavelength_m": product.wavelength_m,
        "distance_m": product.distance_m,
        "scale": product.scale,
    }
    for path, value in lengths.items():
        if value is not None and not (np.isfinite(value) and value > 0.0):
            yield Problem(path=path, expected="a finite number > 0", found=repr(value))
    if not np.isfinite(product.origin_px).all():
        yield Problem(path="origin_px", expected="finite (y, x)", found=repr(product.origin_px))


def _text_problems(product: Product) -> Iterator[Problem]:
    for path, text in (("name", product.name), ("code_version", product.code_version)):
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            yield Problem(path=path, expected="text without NUL and lone surrogates", found=repr(text))
