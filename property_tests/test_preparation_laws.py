"""Laws of the preparation: pieces, counts, orders of steps, frames and positions together."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core.measurement.preparation.frames import (
    Corrections,
    FramePlan,
    oriented,
    plan_frames,
    prepared_frames,
    window,
)
from ptycho_core.measurement.preparation.positions import moved_positions, oriented_positions
from ptycho_core.measurement.preparation.selection import frame_ranges, kept_frames
from ptycho_core.measurement.preparation.settings import Flip, PreparationSettings
from ptycho_core.physics.optics import expected_counts, extract_patches

SEEDS = st.integers(0, 2**32 - 1)
TURNS = st.builds(
    PreparationSettings,
    turn_deg=st.sampled_from([0, 90, 180, 270]),
    flip=st.sampled_from(list(Flip)),
    transpose=st.booleans(),
)


def _frames(seed: int, n_frames: int, height: int, width: int) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 60000, (n_frames, height, width)).astype(np.uint16)


def _plan(frames: npt.NDArray[np.uint16], settings: PreparationSettings, centre: tuple[float, float]) -> FramePlan:
    shape = (frames.shape[1], frames.shape[2])
    return plan_frames(shape, frames.dtype, settings, Corrections(bad=np.zeros(shape, dtype=bool)), centre)


@given(SEEDS, TURNS, st.integers(1, 4), st.integers(16, 24), st.floats(0, 1), st.floats(0, 1))
def test_pieces_do_not_matter(
    seed: int, turned: PreparationSettings, factor: int, size: int, down: float, right: float
) -> None:
    """A stack that goes through in pieces comes out as one that goes through at once."""
    frames = _frames(seed, 5, 40, 53)
    settings = attrs.evolve(turned, bin=factor, size=size)
    plan = _plan(frames, settings, (down * 39, right * 52))

    whole = prepared_frames(frames, plan)
    pieces = [prepared_frames(frames[some], plan) for some in (slice(0, 2), slice(2, 3), slice(3, 5))]

    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert whole.dtype == plan.result_dtype
    assert not whole[:, plan.mask].any()


@given(SEEDS, st.integers(1, 5), st.integers(16, 20))
def test_binning_conserves_counts(seed: int, factor: int, size: int) -> None:
    """The sum over a pattern is that over its window, and each pixel holds those of its block."""
    frames = _frames(seed, 2, size * factor, size * factor)
    middle = size // 2 * factor + (factor - 1) / 2
    made = prepared_frames(frames, _plan(frames, PreparationSettings(bin=factor, size=size), (middle, middle)))

    assert made.sum(dtype=np.int64) == frames.sum(dtype=np.int64)
    corner = frames[:, :factor, :factor].sum(axis=(1, 2), dtype=np.int64)
    np.testing.assert_array_equal(made[:, 0, 0], corner)


@given(st.integers(90, 120), st.integers(90, 120), st.floats(0.3, 0.7), st.floats(0.3, 0.7), st.integers(1, 3))
def test_a_window_without_a_size_is_the_largest_in_the_frame(
    height: int, width: int, down: float, right: float, factor: int
) -> None:
    """It lies inside, and two pixels more would not; a beam in the middle of an even frame keeps all of it."""
    frames = _frames(0, 1, height, width)
    settings = PreparationSettings(bin=factor)
    plan = _plan(frames, settings, (down * (height - 1), right * (width - 1)))

    assert not plan.mask.any()
    larger = _plan(frames, attrs.evolve(settings, size=plan.size + 2), (down * (height - 1), right * (width - 1)))
    assert larger.mask.any()
    whole = _plan(frames, PreparationSettings(), (height // 2, width // 2))
    assert whole.size == min(height, width) // 2 * 2


@given(SEEDS, st.integers(0, 39), st.integers(0, 52), st.integers(16, 33), TURNS)
def test_the_beam_comes_to_the_middle(seed: int, row: int, column: int, size: int, turned: PreparationSettings) -> None:
    """Whatever is turned, flipped, cut or padded: the pixel of the beam is at size // 2, odd sizes too."""
    frames = _frames(seed, 1, 40, 53) // 2
    frames[0, row, column] = 65535
    bright = np.zeros((40, 53), dtype=bool)
    bright[row, column] = True
    plan = _plan(frames, attrs.evolve(turned, size=size), (row, column))

    assert prepared_frames(frames, plan)[0, size // 2, size // 2] == 65535


@given(SEEDS, TURNS, st.integers(1, 3), st.integers(16, 20))
def test_turning_and_binning_commute(seed: int, turned: PreparationSettings, factor: int, size: int) -> None:
    """Frames of whole blocks may be turned before or after their blocks are summed."""
    side = size * factor
    frames = _frames(seed, 2, side, side)
    plain = PreparationSettings(bin=factor, size=size)
    middle = size // 2 * factor + (factor - 1) / 2
    first_summed = oriented(prepared_frames(frames, _plan(frames, plain, (middle, middle))), turned)
    first_turned = np.ascontiguousarray(oriented(frames, turned))

    np.testing.assert_array_equal(
        prepared_frames(first_turned, _plan(first_turned, plain, (middle, middle))), first_summed
    )


@given(SEEDS, st.integers(16, 40), st.integers(-9, 30), st.integers(-9, 30))
def test_masking_and_cutting_commute(seed: int, side: int, top: int, left: int) -> None:
    """Where a mask is cut as the frames are, it may be applied before or after."""
    rng = np.random.default_rng(seed)
    frames, bad = _frames(seed, 2, 30, 41), rng.random((30, 41)) < 0.2
    before = window(np.where(bad, np.uint16(0), frames), top, left, side, fill=0)
    cut = window(bad[np.newaxis], top, left, side, fill=True)[0]

    np.testing.assert_array_equal(np.where(cut, np.uint16(0), window(frames, top, left, side, fill=0)), before)


@given(SEEDS, st.integers(1, 2), st.integers(16, 20), st.integers(-4, 30), st.integers(-4, 40))
def test_corrections_and_cutting_commute(seed: int, factor: int, size: int, row: int, column: int) -> None:
    """Dark frame, flat field, background and mask may be cut with the frames, or applied before that."""
    rng = np.random.default_rng(seed)
    frames, shape, side = _frames(seed, 2, 48, 57), (48, 57), size * factor
    known = Corrections(
        bad=rng.random(shape) < 0.1,
        dark=rng.uniform(0, 90, shape).astype(np.float32),
        flat=rng.uniform(0.5, 2, shape).astype(np.float32),
    )
    settings = PreparationSettings(bin=factor, size=size, background=3.0)
    whole = plan_frames(shape, frames.dtype, settings, known, (max(row, 0.0), max(column, 0.0)))

    def cut(array: npt.NDArray[np.generic], fill: float) -> npt.NDArray[np.generic]:
        cut_out: npt.NDArray[np.generic] = window(array[np.newaxis], whole.top, whole.left, side, fill=fill)[0]
        return cut_out

    assert known.dark is not None
    assert known.flat is not None
    cut_known = Corrections(
        bad=cut(known.bad, 1.0).astype(bool),
        dark=cut(known.dark, 0.0).astype(np.float32),
        flat=cut(known.flat, 1.0).astype(np.float32),
    )
    cut_frames = window(frames, whole.top, whole.left, side, fill=0)
    middle = size // 2 * factor + (factor - 1) / 2
    of_window = plan_frames((side, side), frames.dtype, settings, cut_known, (middle, middle))

    np.testing.assert_array_equal(prepared_frames(cut_frames, of_window), prepared_frames(frames, whole))


@given(SEEDS, st.integers(1, 3), st.integers(1, 3))
def test_summing_blocks_twice_is_summing_larger_ones(seed: int, first: int, second: int) -> None:
    """And no count is lost on the way."""
    side = 16 * first * second
    frames = _frames(seed, 2, side, side)

    def summed(of: npt.NDArray[np.uint16], factor: int) -> npt.NDArray[np.uint16]:
        size = of.shape[1] // factor
        middle = size // 2 * factor + (factor - 1) / 2
        settings = PreparationSettings(bin=factor, size=size)
        return np.asarray(prepared_frames(of, _plan(of, settings, (middle, middle))))

    np.testing.assert_array_equal(summed(summed(frames, first), second), summed(frames, first * second))


@given(SEEDS, TURNS, st.sets(st.integers(0, 5), max_size=5))
def test_dropping_frames_commutes_with_all_else(seed: int, turned: PreparationSettings, dropped: set[int]) -> None:
    """Frames that are kept do not depend on those that are not."""
    frames = _frames(seed, 6, 30, 33)
    plan = _plan(frames, attrs.evolve(turned, size=16), (14.0, 17.0))
    kept = [number for number in range(6) if number not in dropped]

    np.testing.assert_array_equal(prepared_frames(frames[kept], plan), prepared_frames(frames, plan)[kept])


@given(SEEDS, TURNS)
def test_frames_and_positions_turn_together(seed: int, turned: PreparationSettings) -> None:
    """Of frames and positions that are both turned, the turned object and the turned probe are the source."""
    rng = np.random.default_rng(seed)
    side, extent = 9, 21
    object_ = rng.normal(size=(extent, extent)) + 1j * rng.normal(size=(extent, extent))
    probe = rng.normal(size=(1, side, side)) + 1j * rng.normal(size=(1, side, side))
    middle = (extent - 1) / 2
    positions = rng.integers(-6, 7, (4, 2)).astype(np.float64)

    measured = _counts(object_, probe, positions + middle)
    again = _counts(
        oriented(object_[np.newaxis], turned)[0],
        oriented(probe, turned),
        oriented_positions(positions, turned) + middle,
    )

    np.testing.assert_allclose(oriented(measured, turned), again, rtol=1e-9, atol=1e-9)


def _counts(
    object_: npt.NDArray[np.complex128], probe: npt.NDArray[np.complex128], positions: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    patches = extract_patches(object_, positions, probe.shape[-1])
    return np.stack([expected_counts(patch, probe) for patch in patches])


@given(SEEDS, st.floats(-3, 3), st.floats(0.5, 2), st.sampled_from(list(Flip)))
def test_positions_keep_their_distances(seed: int, turn_rad: float, scale: float, flip: Flip) -> None:
    """Turned and mirrored, all distances are the same; scaled, all are so many times as long."""
    positions = np.random.default_rng(seed).normal(size=(6, 2)) * 50
    settings = PreparationSettings(positions_turn_rad=turn_rad, positions_scale=scale, positions_flip=flip)
    moved = moved_positions(positions, settings)

    def distances(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.linalg.norm(points[:, np.newaxis] - points, axis=2))

    np.testing.assert_allclose(distances(moved), scale * distances(positions), rtol=1e-9, atol=1e-9)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=5), st.integers(1, 50))
def test_frames_are_dropped_as_they_are_listed(ranges: list[tuple[int, int]], n_frames: int) -> None:
    """Ranges hold both ends; what is beyond the last frame drops nothing."""
    text = ", ".join(f"{first}-{first + more}" if more else str(first) for first, more in ranges)
    dropped = {frame for first, more in ranges for frame in range(first, first + more + 1)}
    parsed = frame_ranges(text)

    assert parsed is not None
    assert kept_frames(n_frames, parsed).tolist() == [frame for frame in range(n_frames) if frame not in dropped]
