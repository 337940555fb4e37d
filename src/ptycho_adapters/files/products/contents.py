"""The vocabulary of Ptychodus products, whatever the container, and what it means.

Lengths are metres. The client finds column `(x_m - center_x_m) / pixel_width_m + (W - 1) / 2` under a position, so the
object's centre is written in the frame of the positions. Where the pixel size is unknown it is written as 1 and
`position_units` says "px": one "metre" is then one pixel. Energy, distance and exposure that are unknown are 0, as the
client writes them.

Names changed with client 1.7: `probe_energy_eV` became `photon_energy_eV`, `mass_attenuation_m2_kg` became
`mass_attenuation_m2_per_kg`; before that, `costs` became `loss_values`. All are understood, and both are written.
"""

from __future__ import annotations

import json

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem, ScanError, ScanFileError
from ptycho_core.measurement.geometry import wavelength_from_energy
from ptycho_core.results.product import Product
from ptycho_core.results.run_details import RunDetails
from ptycho_core.results.uncertainty import PriorByFrequency, Uncertainty

OWN = "ptycho_core"
UNITS = "position_units"
JSON_TEXTS = ("gauge", "provenance", "metrics")
REQUIRED_ARRAYS = ("object", "probe", "probe_position_indexes", "probe_position_x_m", "probe_position_y_m")
OPTIONAL_ARRAYS = (
    "loss_values",
    "costs",
    "loss_epochs",
    f"{OWN}/coverage",
    f"{OWN}/positions_px",
    f"{OWN}/given_positions_px",
    f"{OWN}/relative_flux",
    f"{OWN}/scan_index",
    f"{OWN}/commanded_positions_px",
)
UNCERTAINTY_UNITS = {"phase_std_rad": "rad", "amplitude_std": "1", "prior_share": "1"}
UNCERTAINTY_ARRAYS = tuple(f"{OWN}/uncertainty/{name}" for name in UNCERTAINTY_UNITS)
BY_FREQUENCY = "prior_share_by_frequency"
BY_FREQUENCY_ROWS = ("frequency_per_px", "phase", "amplitude")
BY_FREQUENCY_ARRAY = f"{OWN}/uncertainty/{BY_FREQUENCY}"
ROOT_NUMBERS = (
    "detector_object_distance_m",
    "focus_object_distance_m",
    "photon_energy_eV",
    "probe_energy_eV",
    "far_field",
)
OBJECT_NUMBERS = ("pixel_width_m", "pixel_height_m", "center_x_m", "center_y_m")


@attrs.define(eq=False)
class ProductContents:
    """Everything read from one product file, and what could not be.

    Attributes:
        arrays: by name: the client's, and ours as "ptycho_core/coverage" and so on.
        numbers: by name; the object's attributes as "object.pixel_width_m", ours as "ptycho_core.scale".
        texts: by name, in the same way.
        problems: what is missing or damaged.
        run: how it came about, where the file tells.
    """

    arrays: dict[str, AnyArray] = attrs.field(factory=dict)
    texts: dict[str, str] = attrs.field(factory=dict)
    numbers: dict[str, float] = attrs.field(factory=dict)
    problems: list[Problem] = attrs.field(factory=list)
    run: RunDetails | None = None

    def keep_array(self, name: str, value: AnyArray | Problem | None) -> None:
        """Keep an array, or the problem with it."""
        if isinstance(value, Problem):
            self.problems.append(value)
        elif value is not None:
            self.arrays[name] = value

    def keep_text(self, name: str, value: str | Problem | None) -> None:
        """Keep a text, or the problem with it."""
        if isinstance(value, Problem):
            self.problems.append(value)
        elif value is not None:
            self.texts[name] = value

    def keep_number(self, name: str, value: float | Problem | None) -> None:
        """Keep a number, or the problem with it."""
        if isinstance(value, Problem):
            self.problems.append(value)
        elif value is not None:
            self.numbers[name] = value

    def positive(self, *names: str) -> float | None:
        """Give the first of these numbers that is known; 0 stands for unknown."""
        return next((self.numbers[name] for name in names if self.numbers.get(name, 0.0) > 0.0), None)

    def pixel_m(self) -> float | None:
        """Give the object's pixel size; where there is no one size, that becomes a problem."""
        pixel_m = self.positive("object.pixel_width_m")
        if pixel_m is None:
            found = str(self.numbers.get("object.pixel_width_m"))
            self.problems.append(Problem(path="object.pixel_width_m", expected="a number > 0", found=found))
        elif self.numbers.get("object.pixel_height_m", pixel_m) != pixel_m:
            found = f"{self.numbers['object.pixel_height_m']} by {pixel_m}"
            self.problems.append(Problem(path="object.pixel_height_m", expected="square pixels", found=found))
        return pixel_m

    def wavelength_m(self) -> float | None:
        """Give the wavelength, ours to the last bit or the one of the photon energy; None when unknown.

        Raises:
            ScanError: for an energy that has no wavelength in the range of numbers.
        """
        wavelength = self.positive(f"{OWN}.wavelength_m")
        energy = self.positive("photon_energy_eV", "probe_energy_eV")
        if wavelength is None and energy is not None:
            wavelength = wavelength_from_energy(energy_ev=energy)
        return wavelength

    def positions_px(self, pixel_m: float) -> npt.NDArray[np.generic]:
        """Give the positions, (n, 2) in object pixels about the origin of the file's metres."""
        exact = self.arrays.get(f"{OWN}/positions_px")
        if exact is not None:
            return exact
        y, x = (self.arrays[f"probe_position_{axis}_m"] for axis in "yx")
        if y.shape != x.shape or x.dtype.kind not in "iuf" or y.dtype.kind not in "iuf":
            # Passed on for validation to refuse.
            return x
        return np.stack([y, x], axis=-1).astype(np.float64) / pixel_m

    def origin_px(self, pixel_m: float) -> tuple[float, float]:
        """Give (y, x) of the object's pixel [0, 0] in the frame of `positions_px`."""
        exact = self.arrays.get(f"{OWN}.origin_px")
        if exact is not None:
            y, x = exact.astype(np.float64)
            return float(y), float(x)
        height, width = self.arrays["object"].shape[-2:]
        centre_y, centre_x = (self.numbers.get(f"object.center_{axis}_m", 0.0) for axis in "yx")
        return centre_y / pixel_m - (height - 1) / 2.0, centre_x / pixel_m - (width - 1) / 2.0

    def uncertainty(self) -> Uncertainty | None:
        """Give the standard deviations; None where there are none, and some of them are a problem."""
        found = [self.arrays.get(name) for name in UNCERTAINTY_ARRAYS]
        known = [
            array.astype(np.float32, copy=False) for array in found if array is not None and array.dtype.kind == "f"
        ]
        if len(known) == len(UNCERTAINTY_ARRAYS):
            phase, amplitude, share = known
            rings = self._by_frequency()
            return Uncertainty(phase_std_rad=phase, amplitude_std=amplitude, prior_share=share, by_frequency=rings)
        if any(array is not None for array in found):
            expected = f"real {', '.join(UNCERTAINTY_UNITS)}"
            shown = ", ".join("nothing" if array is None else describe(array) for array in found)
            self.problems.append(Problem(path=f"{OWN}/uncertainty", expected=expected, found=shown))
        return None

    def _by_frequency(self) -> PriorByFrequency | None:
        """Give the prior's share by frequency; None where a file holds none, as older ones do."""
        table = self.arrays.get(BY_FREQUENCY_ARRAY)
        if table is None:
            return None
        if table.dtype.kind != "f" or table.ndim != 2 or len(table) != len(BY_FREQUENCY_ROWS):
            expected = f"({len(BY_FREQUENCY_ROWS)}, rings) real: {', '.join(BY_FREQUENCY_ROWS)}"
            self.problems.append(Problem(path=BY_FREQUENCY_ARRAY, expected=expected, found=describe(table)))
            return None
        frequency, phase, amplitude = table.astype(np.float32, copy=False)
        return PriorByFrequency(frequency_per_px=frequency, phase=phase, amplitude=amplitude)

    def is_object_known(self) -> bool:
        """Tell whether the object is one, and not the transparent one that stands for none."""
        return self.numbers.get(f"{OWN}.object_known", 1.0) != 0.0

    def is_in_pixels(self) -> bool:
        """Tell whether the file's metres are pixels, because the pixel size is unknown."""
        return self.texts.get(UNITS) == "px"


def by_frequency_table(known: PriorByFrequency) -> npt.NDArray[np.float32]:
    """Lay out the prior's share by frequency as files hold it, (3, rings)."""
    return np.stack([known.frequency_per_px, known.phase, known.amplitude]).astype(np.float32)


def product_from(contents: ProductContents, path: str) -> Product:
    """Make a product of what was read.

    Raises:
        ScanFileError: when it is no product of one object layer and one probe, with every problem there is.
    """
    if not contents.is_object_known():
        found = "a scan's, whose object is unknown"
        contents.problems.append(Problem(path="object", expected="a reconstruction", found=found))
    object_ = _only(contents, "object", rank=2)
    probe = _only(contents, "probe", rank=3)
    pixel_m = contents.pixel_m()
    uncertainty = contents.uncertainty()
    if contents.problems or object_ is None or probe is None or pixel_m is None:
        raise ScanFileError(path, contents.problems)
    try:
        return attrs.evolve(_product(contents, object_, probe, pixel_m), uncertainty=uncertainty)
    except ScanError as error:
        raise ScanFileError(path, error.problems) from None
    except (AttributeError, KeyError, MemoryError, OverflowError, RecursionError, TypeError, ValueError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        problem = Problem(path="file", expected="a readable product", found=text)
        raise ScanFileError(path, [problem]) from None


def _only(contents: ProductContents, key: str, *, rank: int) -> AnyArray | None:
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


def _product(contents: ProductContents, object_: AnyArray, probe: AnyArray, pixel_m: float) -> Product:
    losses = contents.arrays.get("loss_values", contents.arrays.get("costs", np.zeros(0)))
    gauge, provenance, metrics = (json.loads(contents.texts.get(f"{OWN}/{name}", "{}")) for name in JSON_TEXTS)
    return Product(
        object=object_,
        origin_px=contents.origin_px(pixel_m),
        probe=probe,
        positions_px=contents.positions_px(pixel_m),
        position_indexes=contents.arrays["probe_position_indexes"],
        given_positions_px=contents.arrays.get(f"{OWN}/given_positions_px"),
        relative_flux=contents.arrays.get(f"{OWN}/relative_flux"),
        coverage=contents.arrays.get(f"{OWN}/coverage"),
        pixel_size_m=None if contents.is_in_pixels() else pixel_m,
        wavelength_m=contents.wavelength_m(),
        distance_m=contents.positive("detector_object_distance_m"),
        loss_epochs=contents.arrays.get("loss_epochs", np.arange(len(losses))),
        loss_values=losses,
        scale=contents.numbers.get(f"{OWN}.scale", 1.0),
        gauge=gauge,
        provenance=provenance,
        metrics=metrics,
        code_version=contents.texts.get(f"{OWN}.code_version", ""),
        name=contents.texts.get("name", ""),
        run=contents.run,
    )
