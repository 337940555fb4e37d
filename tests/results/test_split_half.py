"""Resolution without a truth: halves of a scan, and how far their reconstructions agree."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.spatial import cKDTree

from ptycho_adapters.cli import main
from ptycho_adapters.common.consistency import split_half_agreement
from ptycho_adapters.files import write_scan
from ptycho_adapters.torch_backend import load_archive, reconstruct, save_archive
from ptycho_core.errors import ScanError
from ptycho_core.measurement.splitting import split_halves
from ptycho_core.results.reconstruction import Reconstruction
from ptycho_core.results.split_half import split_half
from torch_sample import quick_training, tiny_scan

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


def _raster(rows: int, columns: int) -> npt.NDArray[np.float64]:
    positions: npt.NDArray[np.float64] = np.indices((rows, columns)).reshape(2, -1).T.astype(np.float64)
    return positions


@pytest.mark.parametrize("n", [2, 3, 17, 100])
def test_halves_share_the_scan(n: int) -> None:
    """Every pattern is in one half, and no half has more than one pattern more."""
    first, second = split_halves(np.random.default_rng(n).uniform(0, 50, (n, 2)))

    assert sorted([*first, *second]) == list(range(n))
    assert abs(len(first) - len(second)) <= 1


def test_halves_cover_the_same_area() -> None:
    """On a raster, in whatever order it was scanned, no place is farther than two steps from either half."""
    positions = np.random.default_rng(1).permutation(_raster(12, 17))

    for half in split_halves(positions):
        distance, _ = cKDTree(positions[half]).query(positions)
        assert np.max(distance) <= 2.0


def test_halves_follow_the_seed() -> None:
    """The same seed gives the same halves, another one others."""
    positions = _raster(8, 8)

    assert np.array_equal(split_halves(positions, 3)[0], split_halves(positions, 3)[0])
    assert not np.array_equal(split_halves(positions, 3)[0], split_halves(positions, 4)[0])


def test_one_position_has_no_halves() -> None:
    """The message says how many there are."""
    with pytest.raises(ScanError, match="positions_px: expected two or more, found 1"):
        split_halves(_raster(1, 1))


def _reconstruction(
    object_: npt.NDArray[np.complex128], origin_px: tuple[int, int] = (0, 0), rim: int = 0
) -> Reconstruction:
    coverage = np.zeros(object_.shape, np.float32)
    coverage[rim : object_.shape[0] - rim, rim : object_.shape[1] - rim] = 5.0
    return Reconstruction(
        object=object_.astype(np.complex64),
        coverage=coverage,
        origin_px=origin_px,
        probe=np.ones((1, 8, 8), np.complex64),
        probe_source="model",
        positions_px=np.zeros((1, 2)),
        pattern_indices=np.zeros(1, np.int64),
        scale=1.0,
    )


def _sharing_below(cut_per_px: float) -> list[npt.NDArray[np.complex128]]:
    """Two weak objects with the same frequencies below a cut-off and others of their own above."""
    rng = np.random.default_rng(2)
    q = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    shared, *own = (np.fft.fft2(rng.normal(size=(128, 128))) for _ in range(3))
    phases = [np.fft.ifft2(np.where(q < cut_per_px, shared, each)).real for each in own]
    return [np.exp(0.1j * phase) for phase in phases]


@pytest.mark.parametrize("cut_per_px", [0.12, 0.25])
def test_agreement_ends_where_the_shared_detail_ends(cut_per_px: float) -> None:
    """Halves that share what lies below a frequency, and nothing above, resolve just that."""
    first, second = (_reconstruction(object_) for object_ in _sharing_below(cut_per_px))

    result = split_half(first, second)

    for found in (result.phase_ring.frc50_per_px, result.ring.frc50_per_px, result.ring.half_bit_per_px):
        assert found == pytest.approx(cut_per_px, abs=0.03)


def test_only_what_both_halves_cover_is_judged() -> None:
    """Canvases with different origins and rims are compared on their common covered area."""
    object_ = _sharing_below(0.5)[0]
    first = _reconstruction(object_[:100, :110], (7, -3), rim=4)
    second = _reconstruction(object_[10:, 20:], (17, 17), rim=2)

    result = split_half(first, second)

    rows, columns = 96 - 12, 106 - 22
    assert result.n_pixels == rows * columns
    assert result.shift_px == (0.0, 0.0)
    assert result.phase_correlation == pytest.approx(1.0, abs=1e-5)


def test_flat_halves_resolve_nothing() -> None:
    """Two objects without structure agree on nothing, rather than on everything."""
    flat = np.full((64, 64), 0.8 + 0.1j)

    result = split_half(_reconstruction(flat), _reconstruction(flat))

    assert result.ring.frc50_per_px == result.phase_ring.frc50_per_px == 0.0


def test_halves_that_do_not_meet_are_refused() -> None:
    """There is nothing to compare on."""
    object_ = _sharing_below(0.3)[0]

    with pytest.raises(ValueError, match="no pixel of the mask"):
        split_half(_reconstruction(object_), _reconstruction(object_, (500, 0)))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, hardly trained."""
    folder = tmp_path_factory.mktemp("model")
    return save_archive(quick_training(folder, {"architecture": "unrolled", "unrolled_steps": 2}), folder)


def test_a_model_s_halves_agree_in_part(archive: Path) -> None:
    """Each half of a scan is reconstructed from its own patterns; a hardly trained network's halves differ."""
    result = split_half_agreement(partial(reconstruct, load_archive(archive)), tiny_scan(), margin_px=4)

    assert 0.2 < result.phase_correlation < 0.999
    assert np.abs(result.reconstruction - result.reference).max() > 1e-3


def test_the_command_line_compares_halves(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a model in place of a reference, `evaluate` takes a scan and writes what it writes for a reference."""
    scan, out = tmp_path / "scan.npz", tmp_path / "out"
    write_scan(tiny_scan(), scan)

    status = main(["evaluate", str(scan), "--model-path", str(archive), "--output-dir", str(out), "--margin-px", "4"])

    assert status == 0
    assert "two halves" in capsys.readouterr().out
    assert {"evaluation.json", "comparison.png"} <= {file.name for file in out.iterdir()}
    figures = json.loads((out / "evaluation.json").read_text())["figures"]
    expected = split_half_agreement(partial(reconstruct, load_archive(archive)), tiny_scan(), margin_px=4).figures()
    assert figures["phase_frc50_per_px"] == pytest.approx(expected["phase_frc50_per_px"], abs=1e-6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--reference", "a.npz"], "--reference: expected none beside --halves"),
        (["--region", "0:5,0:5"], "--region: expected none beside --halves"),
        (["--margin-px", "90"], "halves: expected a common area with structure"),
    ],
)
def test_halves_that_cannot_be_compared_are_refused(
    flags: list[str], message: str, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What contradicts the model, or leaves nothing to judge, is the user's mistake and said so."""
    scan = tmp_path / "scan.npz"
    write_scan(tiny_scan(), scan)

    status = main(["evaluate", str(scan), "--model-path", str(archive), "--output-dir", str(tmp_path / "o"), *flags])

    assert status == 2
    assert message in capsys.readouterr().err
