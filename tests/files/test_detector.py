"""The check of the detector in every format: what is masked, replaced and left out, said, and switched off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import h5py
import numpy as np
import numpy.typing as npt
import pytest

from ptycho_adapters.files import DetectorCheck, read_scan, write_scan
from ptycho_adapters.files.evidence.domain import Verdict, find_domain
from ptycho_core.errors import ConfigError, ScanFileError
from ptycho_core.measurement.findings import Suspicion
from ptycho_core.measurement.scan import MeasurementDomain, Scan
from ptycho_core.measurement.suspicions import frames_left_out, screened_findings
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = ("scan.npz", "scan.cxi", "diffraction.h5")
OVERFLOW = 2**32 - 1


def clean() -> Scan:
    """A few frames of 32 px with all that may belong to frames."""
    config = SimulationConfig(N=32, object_size_px=60, step_px=4.0, jitter_px=1.0, photons=1e5, seed=1)
    scan = simulate(config)
    n = scan.n_patterns
    metadata = attrs.evolve(scan.metadata, pixel_size_m=5e-9, wavelength_m=1e-10, distance_m=2.0)
    return attrs.evolve(
        scan,
        patterns=np.asarray(scan.patterns).astype(np.uint32),
        scan_index=np.arange(n),
        commanded_positions_px=np.asarray(scan.positions_px) + 0.25,
        metadata=metadata,
    )


def faulty(scan: Scan) -> Scan:
    """A hot pixel, a spike, an overflow and a frame full of light, in counts that a scan can hold."""
    counts = np.asarray(scan.patterns).copy()
    counts[:, 2, 29] = 30000
    counts[4, 20, 3] = 40000
    counts[11, 9, 9] = OVERFLOW
    counts[9] = 60000
    return attrs.evolve(scan, patterns=counts)


@pytest.fixture(scope="module", params=NAMES)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The faulty scan in each format."""
    folder: Path = tmp_path_factory.mktemp("detector")
    if request.param == "diffraction.h5":
        write_scan(faulty(clean()), folder / "ptychodus", format="ptychodus")
        return folder / "ptychodus"
    write_scan(faulty(clean()), folder / str(request.param))
    return folder / str(request.param)


@pytest.mark.parametrize("mapped", [False, True])
def test_faults_are_taken_out_in_every_format(path: Path, tmp_path: Path, mapped: bool) -> None:
    """Masked, replaced and left out with all that belongs to the frame; everything else is as it was, mapped or not."""
    truth = clean()

    scan = read_scan(path, memory_map=tmp_path if mapped else None)

    kept = np.delete(np.arange(truth.n_patterns), 9)
    assert scan.memory_mapped is mapped
    assert scan.bad_pixels is not None
    assert np.argwhere(scan.bad_pixels).tolist() == [[2, 29]]
    np.testing.assert_allclose(scan.positions_px, truth.positions_px[kept], atol=1e-9)
    assert scan.scan_index.tolist() == kept.tolist()
    assert scan.commanded_positions_px is not None
    assert truth.commanded_positions_px is not None
    np.testing.assert_allclose(scan.commanded_positions_px, truth.commanded_positions_px[kept], atol=1e-9)
    changed = np.argwhere((scan.patterns != truth.patterns[kept]) & ~scan.bad_pixels)
    # The frame behind the one that is left out has moved up.
    assert {tuple(place) for place in changed.tolist()} <= {(4, 20, 3), (10, 9, 9)}
    assert int(scan.patterns[4, 20, 3]) <= int(truth.patterns.max())
    assert int(scan.patterns[10, 9, 9]) <= int(truth.patterns.max())


def test_what_was_done_is_noted_with_the_numbers_of_the_file(path: Path) -> None:
    """Each kind has its note: places, frames as the file counts them, and the remedy."""
    extra = read_scan(path).metadata.extra

    assert extra["detector_stuck_pixels"].endswith("(2, 29) with one value in all frames, stuck: masked")
    assert "frame 4 (20, 3): replaced" in extra["detector_spikes"]
    assert "frame 11 (9, 9): replaced" in extra["detector_overflow"]
    assert extra["detector_glitched_frames"].startswith("frame 9 full of light")
    assert extra["detector_glitched_frames"].endswith("left out, with the positions")
    assert frames_left_out(read_scan(path)) == 1
    assert frames_left_out(read_scan(path, detector_check="warn")) == 0


def test_a_warning_changes_nothing(path: Path) -> None:
    """With `warn` the scan is as the file has it, and what was found is said as before."""
    scan, changed = read_scan(path, detector_check="warn"), read_scan(path)

    np.testing.assert_array_equal(scan.patterns, faulty(clean()).patterns)
    assert scan.bad_pixels is None
    assert {each.kind for each in screened_findings(scan)} == {each.kind for each in screened_findings(changed)}
    assert all(each.text.endswith(": left as found") for each in screened_findings(scan))


def test_off_does_not_look(path: Path) -> None:
    """With `off` the scan is as the file has it, and nothing is said."""
    scan = read_scan(path, detector_check=DetectorCheck.OFF)

    np.testing.assert_array_equal(scan.patterns, faulty(clean()).patterns)
    assert screened_findings(scan) == ()


def test_another_word_is_refused(path: Path) -> None:
    """The three words are named."""
    with pytest.raises(ConfigError, match=r"detector_check: expected mask or warn or off, found 'on'"):
        read_scan(path, detector_check="on")


def raw(
    folder: Path,
    spoil: Callable[[npt.NDArray[np.float32]], None],
    *,
    mask: npt.NDArray[np.uint8] | None = None,
) -> Path:
    """Write an NPZ scan whose patterns no scan could hold."""
    scan = clean()
    patterns = np.asarray(scan.patterns).astype(np.float32)
    spoil(patterns)
    x, y = scan.positions_px[:, 1], scan.positions_px[:, 0]
    bad_pixels = np.zeros((scan.N, scan.N), dtype=np.uint8) if mask is None else mask
    path = folder / "raw.npz"
    np.savez(path, diff3d=patterns, xcoords=x, ycoords=y, probeGuess=scan.probe, bad_pixels=bad_pixels)
    return path


def lose_frame(patterns: npt.NDArray[np.float32]) -> None:
    patterns[5] = np.nan


def darken_frame(patterns: npt.NDArray[np.float32]) -> None:
    patterns[7] = 0.0


def subtract_dark(patterns: npt.NDArray[np.float32]) -> None:
    patterns += np.random.default_rng(0).normal(0.0, 1.0, patterns.shape).astype(np.float32)


@pytest.mark.parametrize(
    ("spoil", "kind", "n_out"),
    [
        (lose_frame, Suspicion.NOT_FINITE, 1),
        (darken_frame, Suspicion.DARK_FRAMES, 1),
        (subtract_dark, Suspicion.NEGATIVE, 0),
    ],
)
def test_what_no_scan_can_hold_is_mended_or_refused_with_the_fix(
    spoil: Callable[[npt.NDArray[np.float32]], None], kind: Suspicion, n_out: int, tmp_path: Path
) -> None:
    """Frames without numbers or light go, negative noise becomes 0; unchanged, they are refused, and the flag named."""
    path = raw(tmp_path, spoil)

    scan = read_scan(path)

    assert [each.kind for each in screened_findings(scan)] == [kind]
    assert scan.n_patterns == clean().n_patterns - n_out
    for check in ("warn", "off"):
        with pytest.raises(ScanFileError, match=r"--detector-check mask"):
            read_scan(path, detector_check=check)


def test_an_inverted_mask_is_refused(tmp_path: Path) -> None:
    """The error says so, how to mend it, and nothing else; with `off` it is what it is."""
    mask = np.ones((32, 32), dtype=np.uint8)
    mask[3:5] = 0
    path = raw(tmp_path, lambda patterns: patterns.__setitem__((slice(None), slice(3, 5)), 0.0), mask=mask)

    for check in ("mask", "warn"):
        with pytest.raises(ScanFileError, match=r"inverted.*invert it") as caught:
            read_scan(path, detector_check=check)
        assert [problem.path for problem in caught.value.problems] == ["bad_pixels"]
    with pytest.raises(ScanFileError, match="photons in every frame"):
        read_scan(path, detector_check="off")


def test_what_is_under_the_mask_of_an_npz_is_cleared(tmp_path: Path) -> None:
    """NaN where the file says that there is no pixel is no fault, and no number that validation could trip over."""
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[3:5] = 1
    path = raw(tmp_path, lambda patterns: patterns.__setitem__((slice(None), slice(3, 5)), np.nan), mask=mask)

    scan = read_scan(path)

    assert screened_findings(scan) == ()
    assert not scan.patterns[:, 3:5].any()
    assert "values under the mask" in scan.metadata.extra["cleared_bad_pixels"]


def test_frames_that_do_not_pair_with_positions_stay(tmp_path: Path) -> None:
    """Leaving one out would hide that there are too few of them."""
    path = raw(tmp_path, darken_frame)
    with np.load(path) as file:
        arrays = {**file, "diff3d": file["diff3d"][:-2]}
    np.savez(path, **arrays)

    n = clean().n_patterns
    with pytest.raises(ScanFileError, match=f"{n} positions for {n - 2} patterns"):
        read_scan(path)


def test_negative_integers_of_a_beamline_are_clipped(tmp_path: Path) -> None:
    """Dark-subtracted integers are noise about 0; the type without a sign is chosen after that."""
    truth = clean()
    write_scan(truth, tmp_path / "scan.cxi")
    counts = np.asarray(truth.patterns).astype(np.int32)
    counts[::3, 1, 1] = -1
    with h5py.File(tmp_path / "scan.cxi", "r+") as file:
        key = next(key for key in ("entry_1/data_1/data", "entry_1/instrument_1/detector_1/data") if key in file)
        del file[key]
        file[key] = counts

    scan = read_scan(tmp_path / "scan.cxi", memory_map=tmp_path / "map")

    np.testing.assert_array_equal(scan.patterns, np.maximum(counts, 0))
    assert "negative values" in scan.metadata.extra["detector_negative"]


def test_a_scan_that_was_mended_keeps_its_notes_in_a_file(path: Path, tmp_path: Path) -> None:
    """Written and read again, it is the same, says what was once done, and nothing new."""
    once = read_scan(path)
    write_scan(once, tmp_path / "again.npz")

    again = read_scan(tmp_path / "again.npz")

    np.testing.assert_array_equal(again.patterns, once.patterns)
    assert screened_findings(again) == screened_findings(once)


def test_one_overflow_does_not_move_the_beam(tmp_path: Path) -> None:
    """Where nothing is looked for, the place of the beam is found all the same."""
    scan = clean()
    counts = np.asarray(scan.patterns).copy()
    counts[3, 1, 1] = OVERFLOW
    path = tmp_path / "scan.cxi"
    write_scan(attrs.evolve(scan, patterns=counts), path)
    with h5py.File(path, "r+") as file:
        del file["entry_1/ptycho_core"]

    for check in DetectorCheck:
        extra = read_scan(path, detector_check=check).metadata.extra
        assert "from the corner" not in extra.get("centre_evidence", "")


def test_one_fault_does_not_hide_the_domain() -> None:
    """The flux that tells counts from amplitudes is that of the usual frames and pixels."""
    scan = clean()
    patterns = np.asarray(scan.patterns).astype(np.float64)
    patterns *= np.square(np.abs(scan.probe)).sum() / patterns.sum(axis=(1, 2)).mean()
    patterns[3] = 5e4
    patterns[:, 1, 1] = 1e5

    verdict = find_domain(patterns, scan.probe, has_bad_pixels=False)

    assert isinstance(verdict, Verdict)
    assert verdict.domain is MeasurementDomain.COUNTS


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
@pytest.mark.parametrize("marker", [-1, -2])
def test_a_gap_of_negative_numbers_does_not_hide_the_domain(dtype: str, marker: int) -> None:
    """Whole numbers are counts; that of what no pixel measured is none of them."""
    scan = clean()
    patterns = np.asarray(scan.patterns).astype(dtype)
    patterns[:, 20:23] = marker

    verdict = find_domain(patterns, scan.probe, has_bad_pixels=False)

    assert isinstance(verdict, Verdict)
    assert verdict.domain is MeasurementDomain.COUNTS
    assert verdict.evidence == "whole numbers"
