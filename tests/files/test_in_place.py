"""Arrays changed where they lie: what is copied, what is sealed, and how much memory a scan takes on its way."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import h5py
import numpy as np
import numpy.typing as npt
import pytest

import beamline_samples as samples
from ptycho_adapters.files import ProbeSetting, read_scan
from ptycho_adapters.files.in_place import as_unsigned, sealed, unsealed

if TYPE_CHECKING:
    from pathlib import Path


def test_own_memory_is_not_copied() -> None:
    """An array and its view open up and close again over the same memory."""
    array = sealed(np.arange(6, dtype=np.int16))
    view = as_unsigned(array)

    opened = unsealed(view)
    opened[0] = 9

    assert np.shares_memory(opened, array)
    assert array[0] == 9
    assert not sealed(opened).flags.writeable
    assert not array.flags.writeable


def test_memory_of_others_is_copied() -> None:
    """Bytes stay as they are."""
    content = bytes(8)

    opened = unsealed(np.frombuffer(content, dtype=np.uint16))
    opened[0] = 1

    assert content == bytes(8)


@pytest.mark.parametrize(
    ("before", "after"), [("<i2", "<u2"), (">i4", ">u4"), ("<i8", "<i8"), ("<u2", "<u2"), ("<f4", "<f4"), ("i1", "i1")]
)
def test_signed_integers_are_seen_as_unsigned(before: str, after: str) -> None:
    """Two and four bytes in either order; others are wider than detectors need, or narrower."""
    array = np.array([0, 1, 100], dtype=before)

    assert as_unsigned(array).dtype == np.dtype(after)
    assert as_unsigned(array).tolist() == [0, 1, 100]


def even_probe(setting: ProbeSetting) -> npt.NDArray[np.complex64]:
    """A probe of any size."""
    return np.ones((setting.size_px, setting.size_px), dtype=np.complex64)


@pytest.mark.parametrize(("dtype", "junk"), [("i4", -1), ("f4", np.nan), ("i2", -1), ("u2", 65535)])
def test_reading_takes_no_more_than_twice_the_file(dtype: str, junk: float, tmp_path: Path) -> None:
    """A stack that is cleared under its mask, and moved from the corner, is held once, with flags and some frames."""
    path = samples.save_cxi(tmp_path / "scan.cxi", probe=False)
    size, n_patterns = 64, 200
    y, x = np.mgrid[-size // 2 : size // 2, -size // 2 : size // 2]
    frame = np.fft.ifftshift(np.rint(100.0 * np.exp(-(x**2 + y**2) / 50.0))).astype(dtype)
    mask = np.zeros((size, size), dtype=np.uint32)
    mask[30] = 1
    frame[mask > 0] = junk
    with h5py.File(path, "r+") as file:
        detector = file["entry_1/instrument_1/detector_1"]
        del detector["data"], detector["mask"], file["entry_1/sample_1/geometry_1/translation"]
        detector["data"], detector["mask"] = np.broadcast_to(frame, (n_patterns, size, size)), mask
        file["entry_1/sample_1/geometry_1/translation"] = np.arange(3 * n_patterns).reshape(-1, 3) * 1e-7

    read_scan(path, probe=even_probe)  # what is imported on the way is no array
    tracemalloc.start()
    scan = read_scan(path, probe=even_probe)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert "moved from the corner" in scan.metadata.extra["centre_evidence"]
    assert float(scan.patterns[0, size // 2, size // 2]) == 100.0
    looked_at = 16 * size**2 * np.dtype(dtype).itemsize  # frames that are looked at together
    assert peak < 2 * path.stat().st_size + looked_at
