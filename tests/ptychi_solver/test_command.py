"""`ptycho refine`: every flag changes something, and what is written can be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ptycho_adapters.cli import main
from ptycho_adapters.files import read_product, write_product, write_scan
from ptycho_core.results.product import Product

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ptycho_adapters.report.summary import Summary
    from ptycho_core.measurement.scan import Scan

FILES = {"object.h5", "object.tif", "amplitude.png", "phase.png", "report.html", "summary.json"}


@pytest.fixture(scope="session")
def scan_file(clean: Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scan as a file."""
    path = tmp_path_factory.mktemp("refine") / "scan.npz"
    write_scan(clean, path)
    return path


def refined(scan: Path, out: Path, *flags: str) -> Mapping[str, object]:
    """Run two epochs and give the figures of the summary."""
    epochs = () if "--epochs" in flags else ("--epochs", "2")
    assert main(["refine", "--scan", str(scan), "--output-dir", str(out), *epochs, *flags]) == 0
    figures: Mapping[str, object] = json.loads((out / "summary.json").read_text(encoding="utf-8"))["figures"]
    return figures


@pytest.fixture
def _plain_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures out, which take seconds; one run draws them."""

    def write(product: Product, summary: Summary, folder: Path) -> list[Path]:
        write_product(product, folder / "object.h5")
        (folder / "summary.json").write_bytes(summary.to_json())
        return []

    monkeypatch.setattr("ptycho_adapters.report.results.write_reconstruction", write)


@pytest.fixture(scope="session")
def plain(scan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cold start without any flag."""
    out = tmp_path_factory.mktemp("plain")
    refined(scan_file, out)
    return out


def test_it_leaves_what_a_reconstruction_leaves(plain: Path) -> None:
    """The files of `infer`, with the error of each epoch in summary, product and report."""
    summary = json.loads((plain / "summary.json").read_text(encoding="utf-8"))
    product = read_product(plain / "object.h5")

    assert {path.name for path in plain.iterdir()} == FILES
    assert summary["figures"]["error_of_epoch"] == pytest.approx(product.loss_values.tolist())
    assert len(product.loss_values) == 2
    assert product.run is not None
    assert product.run.settings["engine"] == "lsqml"
    assert "Loss curves over the epochs" in (plain / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "flags",
    [("--engine", "epie"), ("--engine", "dm"), ("--engine", "rpie"), ("--engine", "autodiff"), ("--batch-size", "10")],
    ids=" ".join,
)
@pytest.mark.usefixtures("_plain_files")
def test_engine_and_batch_size_give_another_object(
    flags: tuple[str, ...], plain: Path, scan_file: Path, tmp_path: Path
) -> None:
    """Another engine, or other batches, do other steps."""
    refined(scan_file, tmp_path, *flags)

    assert not np.allclose(read_product(tmp_path / "object.h5").object, read_product(plain / "object.h5").object)


@pytest.mark.usefixtures("_plain_files")
def test_epochs_are_run(scan_file: Path, tmp_path: Path) -> None:
    """As many as were asked for, and the error falls."""
    figures = refined(scan_file, tmp_path, "--epochs", "4")

    errors = figures["error_of_epoch"]
    assert isinstance(errors, list)
    assert len(errors) == 4
    assert errors[-1] < errors[0]


@pytest.mark.usefixtures("_plain_files")
def test_probe_modes_are_added(scan_file: Path, tmp_path: Path) -> None:
    """The probe of the result has as many modes as were asked for."""
    refined(scan_file, tmp_path, "--probe-modes", "3")

    assert read_product(tmp_path / "object.h5").probe.shape[0] == 3


@pytest.mark.usefixtures("_plain_files")
def test_it_starts_from_a_result(clean: Scan, scan_file: Path, tmp_path: Path) -> None:
    """From the true object the first error is none; with --position-refinement alone positions move."""
    assert clean.object is not None
    off = clean.positions_px + np.array([[0.3, -0.3]]) * (np.arange(clean.n_patterns) % 2)[:, None]
    for name, positions in (("true", clean.positions_px), ("off", off)):
        product = Product(
            object=clean.object,
            origin_px=(0, 0),
            probe=clean.probe,
            positions_px=positions,
            position_indexes=np.arange(clean.n_patterns),
        )
        write_product(product, tmp_path / f"{name}.h5")

    figures = refined(scan_file, tmp_path / "a", "--result", str(tmp_path / "true.h5"))
    refined(scan_file, tmp_path / "b", "--result", str(tmp_path / "off.h5"))
    refined(scan_file, tmp_path / "c", "--result", str(tmp_path / "off.h5"), "--position-refinement")

    first = figures["first_error"]
    assert isinstance(first, float)
    assert first < 1e-6
    np.testing.assert_array_equal(read_product(tmp_path / "b" / "object.h5").positions_px, off)
    moved = read_product(tmp_path / "c" / "object.h5").positions_px
    assert np.abs(moved - clean.positions_px).mean() < np.abs(off - clean.positions_px).mean()


@pytest.mark.usefixtures("_plain_files")
def test_the_bar_can_be_left_out(scan_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is a bar with the name of the engine, and none with --quiet."""
    refined(scan_file, tmp_path)
    assert "epie" not in capsys.readouterr().err
    refined(scan_file, tmp_path, "--engine", "epie")
    assert "epie" in capsys.readouterr().err
    refined(scan_file, tmp_path, "--engine", "epie", "--quiet")
    assert "epie" not in capsys.readouterr().err


def test_a_result_of_another_scan_is_refused(
    clean: Scan, scan_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What does not fit is named."""
    product = Product(
        object=np.ones((90, 90), dtype=np.complex64),
        origin_px=(0.5, 0),
        probe=np.ones((1, 64, 64), dtype=np.complex64),
        positions_px=np.zeros((1, 2)),
        position_indexes=np.array([clean.n_patterns]),
    )
    write_product(product, tmp_path / "other.h5")

    flags = ["--result", str(tmp_path / "other.h5"), "--output-dir", str(tmp_path / "out")]
    assert main(["refine", "--scan", str(scan_file), *flags]) == 2

    said = capsys.readouterr().err
    for part in ("probe: expected 32 px", "position_indexes: expected patterns 0 to 48", "origin_px: expected whole"):
        assert part in said
