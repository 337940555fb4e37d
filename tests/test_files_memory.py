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
    monkeypatch.setattr(memory, "available_bytes", lambda: 2000)

    with pytest.raises(ScanFileError, match=r"expected room for about .* GiB .*, found 0\.0 GiB free; read it on"):
        read_scan(tmp_path / f"scan{suffix}")


def test_a_system_that_does_not_tell_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without figures nothing is refused."""
    write_scan(sample_scan(), tmp_path / "scan.h5")
    monkeypatch.setattr(memory, "_SMALL_BYTES", 0)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "_GROUP", tmp_path / "none")

    assert memory.available_bytes() is None
    assert read_scan(tmp_path / "scan.h5").n_patterns == 7


def test_the_smaller_of_machine_and_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's limit less its use is what is free, unless the machine has less."""
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.available_bytes() == 2_000_000

    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes() == 4_096_000
