"""What detectors write where they have no pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import beamline_samples as samples
from beamline_samples import DETECTOR, changed, replace
from ptycho_adapters.files import read_scan

if TYPE_CHECKING:
    from pathlib import Path

    import h5py


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint32])
def test_junk_under_the_mask_is_cleared(dtype: type[np.generic], tmp_path: Path) -> None:
    """Detectors write -1, NaN or the largest number where they have no pixel; under the mask it is no count."""
    truth = samples.experiment()
    counts = truth.counts.astype(dtype)
    junk = {"i": -1, "f": np.nan, "u": 2**32 - 1}[np.dtype(dtype).kind]
    counts[:, truth.bad] = junk
    path = changed(samples.save_cxi(tmp_path / "a.cxi"), lambda file: replace(file, f"{DETECTOR}/data", counts))

    scan = read_scan(path)

    assert np.array_equal(scan.patterns[:, ~truth.bad], truth.counts[:, ~truth.bad])
    assert not scan.patterns[:, truth.bad].any()
    assert scan.metadata.extra["cleared_bad_pixels"].startswith("6 values under the mask")


def test_pixels_at_the_end_of_their_type_in_every_frame_are_bad(tmp_path: Path) -> None:
    """A gap that a detector marks with its largest number is found without a mask."""
    counts = samples.experiment().counts.astype(np.uint32)
    counts[:, 5, :] = 2**32 - 1

    def unmask(file: h5py.File) -> None:
        replace(file, f"{DETECTOR}/data", counts)
        del file[f"{DETECTOR}/mask"]

    scan = read_scan(changed(samples.save_cxi(tmp_path / "a.cxi"), unmask))

    assert scan.bad_pixels is not None
    assert np.flatnonzero(scan.bad_pixels.all(axis=1)).tolist() == [5]
    assert scan.metadata.extra["mask_evidence"] == "16 pixels hold 4294967295 in every frame"


def test_a_stack_at_the_end_of_its_type_everywhere_is_no_gap(tmp_path: Path) -> None:
    """Where every pixel holds the largest number, none of them is a gap in a detector."""
    counts = np.full((samples.N_PATTERNS, samples.N, samples.N), 65535, dtype=np.uint16)

    def saturate(file: h5py.File) -> None:
        replace(file, f"{DETECTOR}/data", counts)
        del file[f"{DETECTOR}/mask"]

    scan = read_scan(changed(samples.save_cxi(tmp_path / "a.cxi"), saturate))

    assert scan.bad_pixels is None
    assert np.array_equal(scan.patterns, counts)


def test_a_gap_beside_a_mask_joins_it(tmp_path: Path) -> None:
    """What the file marks and what the numbers mark are both bad."""
    counts = samples.experiment().counts.copy()
    counts[:, 5, 5] = 65535
    path = changed(samples.save_cxi(tmp_path / "a.cxi"), lambda file: replace(file, f"{DETECTOR}/data", counts))

    scan = read_scan(path)

    assert scan.bad_pixels is not None
    assert np.argwhere(scan.bad_pixels).tolist() == [[3, 11], [5, 5]]
    assert not scan.patterns[:, 5, 5].any()
