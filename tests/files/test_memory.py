"""What does not fit into memory is refused before it is allocated, with figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ptycho_adapters.files import memory, read_scan, write_scan
from ptycho_core.errors import ScanFileError
from ptychodus_sample import sample_scan

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".cxi", ""])
def test_patterns_that_do_not_fit_are_refused(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the array, what it needs, what is free and the way out, in every format."""
    write_scan(sample_scan(), tmp_path / f"scan{suffix}")
    monkeypatch.setattr(memory, "_SMALL_BYTES", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: 2000)

    with pytest.raises(ScanFileError, match=r"expected room for about .* GiB .*, found 0\.0 GiB free; read it on"):
        read_scan(tmp_path / f"scan{suffix}")


def test_small_arrays_are_read_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody runs out of memory over costs no look at the machine."""
    write_scan(sample_scan(), tmp_path / "scan.h5")
    monkeypatch.setattr(memory, "available_memory", lambda: pytest.fail("asked"))

    assert read_scan(tmp_path / "scan.h5").n_patterns == 7


def test_what_fits_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own answer is what counts, and it has room for a small scan."""
    write_scan(sample_scan(), tmp_path / "scan.h5")
    monkeypatch.setattr(memory, "_SMALL_BYTES", 0)

    assert read_scan(tmp_path / "scan.h5").n_patterns == 7
