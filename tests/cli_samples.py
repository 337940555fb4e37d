"""Small scans and short ways to call the command line, for its tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_adapters.cli import parse
from ptycho_adapters.commands import infer, train
from ptycho_adapters.factory import commit
from ptycho_adapters.files import write_scan
from ptycho_adapters.report import results
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import pytest

    from ptycho_adapters.command_line.inference import ReadScan
    from ptycho_core import InferencePayload, TrainingPayload
    from ptycho_core.results.reconstruction import Reconstruction

N_PATTERNS = 16


def tiny_scan(folder: Path, name: str = "scan.npz", *, seed: int = 0) -> Path:
    """Write a simulated scan of 16 patterns of 64 px."""
    path = folder / name
    write_scan(simulate(SimulationConfig(object_size_px=100, step_px=9, seed=seed, photons=1e5)), path)
    return path


def training_payload(scan: Path, out: Path, *flags: str) -> TrainingPayload:
    """Build the payload that a command line gives, with the real parser and plan."""
    arguments = ["train", "--train-data-file", str(scan), "--output-dir", str(out), "--n-groups", "8", *flags]
    return train.plan(train.read_request(parse(arguments)[1]))


def inference_payload(model: Path, scan: Path, out: Path, *flags: str) -> InferencePayload:
    """Build the payload that a command line gives, with the real parser and plan."""
    arguments = ["infer", "--model-path", str(model), "--test-data", str(scan), "--output-dir", str(out), *flags]
    return infer.plan(infer.read_request(parse(arguments)[1]))


def without_work(
    patch: pytest.MonkeyPatch, command: ModuleType, result: Reconstruction, seen: Callable[[ReadScan], None]
) -> None:
    """Let a command tell what it would have reconstructed, and go on with a result that is known and no pictures."""

    def known(ready: ReadScan) -> Reconstruction:
        seen(ready)
        commit(ready.payload)
        return result

    def nothing(*given: object, **_named: object) -> None:
        next(each for each in given if isinstance(each, Path)).write_bytes(b"-")

    patch.setattr(command, "reconstruct_read", known)
    for name in ("write_amplitude_png", "write_phase_png", "write_complex_tiff", "write_report_file"):
        patch.setattr(results, name, nothing)


def two_scans_and_none(folder: Path, scan: Path) -> Path:
    """Make a folder with two copies of a scan and a file that is none, which comes between them."""
    folder.mkdir()
    for name in ("a.npz", "c.npz"):
        (folder / name).write_bytes(scan.read_bytes())
    (folder / "b.npz").write_bytes(b"no scan")
    return folder
