"""Laws of screening: a clean scan is left alone, a fault is found wherever it is, and what is mended stays so."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt
from hypothesis import assume, given
from hypothesis import strategies as st

from ptycho_core.measurement.scan import MeasurementDomain
from ptycho_core.measurement.screening import Screening, screen_patterns

Counts = npt.NDArray[np.float64]
_KINDS = ("spot", "ring", "plain")


def light(kind: str, size: int, centre: tuple[float, float]) -> Counts:
    """Where photons fall, (N, N), 1 at the brightest: a spot, a ring with sharp edges, or a plain field."""
    y, x = np.mgrid[:size, :size]
    radius = np.hypot(y - centre[0] * size, x - centre[1] * size)
    shapes: dict[str, Counts] = {
        "spot": np.exp(-(radius**2) / (size / 4)),
        "ring": 1e-3 + (radius < size / 3) * (radius > size / 8),
        "plain": np.ones((size, size)),
    }
    return shapes[kind]


@attrs.frozen
class Scene:
    """A clean stack of counts, with the generator that goes on from it."""

    counts: Counts
    rng: np.random.Generator

    @property
    def pixel(self) -> tuple[int, int]:
        """Any pixel."""
        y, x = self.rng.integers(self.counts.shape[1], size=2)
        return int(y), int(x)

    @property
    def frame(self) -> int:
        """Any frame."""
        return int(self.rng.integers(len(self.counts)))


@st.composite
def scenes(draw: st.DrawFn, *, kinds: tuple[str, ...] = _KINDS, faintest: float = 1.0) -> Scene:
    """Clean scans of shot noise at any dose, under a source that comes and goes a little."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size, n_frames = draw(st.sampled_from([16, 24, 33])), draw(st.integers(12, 40))
    shape = light(draw(st.sampled_from(kinds)), size, (draw(st.floats(0.3, 0.7)), draw(st.floats(0.3, 0.7))))
    photons = 10.0 ** draw(st.floats(np.log10(faintest), 7.0))  # on each row, on average
    flux = rng.uniform(0.6, 1.4, (n_frames, 1, 1))
    return Scene(rng.poisson(photons * size * flux * shape / shape.sum()).astype(np.float64), rng)


def screened(counts: Counts, mask: npt.NDArray[np.bool_] | None = None) -> Screening:
    found = screen_patterns(counts, mask)
    assert found is not None
    return found


def bright(counts: Counts) -> float:
    """More than any pixel may hold beside what these hold."""
    return 1e3 + 400.0 * float(counts.max())


@given(scenes(), st.sampled_from(list(MeasurementDomain)))
def test_a_clean_scan_is_left_alone(scene: Scene, domain: MeasurementDomain) -> None:
    """Shot noise is no fault at any dose, as counts or amplitudes; a frame that caught no photon is a dark one."""
    values = scene.counts if domain is MeasurementDomain.COUNTS else np.sqrt(scene.counts)

    found = screen_patterns(values, None, domain=domain)

    assert found is not None
    assert not found.mask.any()
    assert not len(found.values)
    assert found.left_out.tolist() == np.flatnonzero(~scene.counts.any(axis=(1, 2))).tolist()


@given(scenes(), st.booleans())
def test_a_hot_pixel_is_found_wherever_it_is(scene: Scene, flickers: bool) -> None:
    """A pixel far brighter than its neighbours is masked, alone, whether it flickers or not."""
    y, x = scene.pixel
    level = bright(scene.counts)
    scene.counts[:, y, x] = scene.rng.poisson(level, len(scene.counts)) if flickers else np.rint(level)

    assert np.argwhere(screened(scene.counts).mask).tolist() == [[y, x]]


@given(scenes(), st.integers(50, 5000))
def test_a_stuck_pixel_is_found_wherever_it_is(scene: Scene, value: int) -> None:
    """A pixel that shows one number in every frame is masked, alone, however bright those around are."""
    y, x = scene.pixel
    scene.counts[:, y, x] = value

    assert np.argwhere(screened(scene.counts).mask).tolist() == [[y, x]]


@given(scenes(kinds=("plain",), faintest=1e3))
def test_a_dead_pixel_is_found_wherever_it_is(scene: Scene) -> None:
    """A pixel without light among lit ones is masked, alone, at the rim of the frame too; a corner is not judged."""
    y, x = scene.pixel
    last = scene.counts.shape[1] - 1
    assume(not {y, x} <= {0, last})
    scene.counts[:, y, x] = 0

    assert np.argwhere(screened(scene.counts).mask).tolist() == [[y, x]]


@given(scenes(kinds=("ring", "plain"), faintest=1e3), st.data())
def test_a_gap_is_found_wherever_it_is(scene: Scene, data: st.DataObject) -> None:
    """Rows, or columns, without light from end to end between lit ones are masked, and nothing else."""
    size = scene.counts.shape[1]
    width = data.draw(st.integers(1, size // 8))
    first = data.draw(st.integers(size // 3, size - size // 3 - width))
    turned = data.draw(st.booleans())
    view = scene.counts.swapaxes(1, 2) if turned else scene.counts
    view[:, first : first + width] = 0

    mask = screened(scene.counts).mask

    expected = np.zeros_like(mask)
    (expected.T if turned else expected)[first : first + width] = True
    assert np.array_equal(mask, expected)


@given(scenes(), st.integers(1, 6))
def test_single_spikes_are_found_wherever_they_are(scene: Scene, number: int) -> None:
    """Every spike is replaced by what its neighbours hold, no other reading is, and no pixel is masked for it."""
    clean, level = scene.counts.copy(), bright(scene.counts)
    places = {(scene.frame, *scene.pixel) for _ in range(number)}
    for place in places:
        scene.counts[place] = level

    found = screened(scene.counts)

    left = [place for place in places if place[0] not in found.left_out]
    assert sorted(map(tuple, found.replaced.tolist())) == sorted(left)
    assert not found.mask.any()
    assert (found.values <= clean.max()).all()


@given(scenes(faintest=1e3), st.sampled_from(["dark", "glitched", "NaN", "infinite"]))
def test_a_frame_that_is_no_measurement_is_left_out(scene: Scene, what: str) -> None:
    """A frame without light, full of it or without numbers is left out, alone, and costs no pixel."""
    frame = scene.frame
    full = 1e3 * (1.0 + float(scene.counts.max()))
    scene.counts[frame] = {"dark": 0.0, "glitched": full, "NaN": np.nan, "infinite": np.inf}[what]

    found = screened(scene.counts)

    assert found.left_out.tolist() == [frame]
    assert not found.mask.any()
    assert not len(found.values)


def spoil(scene: Scene) -> None:
    """Put one fault of every kind into a scan."""
    counts, level = scene.counts, bright(scene.counts)
    for _ in range(2):
        counts[(slice(None), *scene.pixel)] = scene.rng.poisson(level, len(counts))
        counts[(slice(None), *scene.pixel)] = 77
        counts[(scene.frame, *scene.pixel)] = level
        counts[(scene.frame, *scene.pixel)] = np.nan
        counts[(scene.frame, *scene.pixel)] = 2**32 - 1
    counts[scene.frame] = np.nan
    counts[scene.frame] = 0.0


def mended(counts: Counts, found: Screening) -> Counts:
    """Do what was found to be done."""
    changed = counts.copy()
    changed[tuple(found.replaced.T)] = found.values
    changed = np.maximum(changed, 0.0) if found.clip else changed
    return np.delete(changed, found.left_out, axis=0)


@given(scenes(faintest=1e3))
def test_what_is_mended_stays_so(scene: Scene) -> None:
    """A second look at what the first one has mended finds nothing more, and numbers in every place."""
    spoil(scene)
    found = screened(scene.counts)
    left = mended(scene.counts, found)

    again = screened(left, found.mask)

    assert [fault.text for fault in again.faults] == []
    assert np.isfinite(left[:, ~found.mask]).all()


@given(scenes(faintest=1e3))
def test_looking_changes_nothing(scene: Scene) -> None:
    """The patterns and the mask are as they were, and the same patterns give the same answer."""
    spoil(scene)
    mask = np.zeros(scene.counts.shape[1:], dtype=bool)
    mask[3, 3] = True
    before = scene.counts.copy()

    one, other = (screened(scene.counts, mask) for _ in range(2))

    assert np.array_equal(scene.counts, before, equal_nan=True)
    assert mask.sum() == 1
    assert one.faults == other.faults
    assert not one.mask[3, 3]
