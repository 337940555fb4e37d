"""Whole runs on TensorFlow: who imports what, the command line, and measured data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import attrs
import numpy as np
import pytest

import ptycho_adapters
from cli_samples import tiny_scan as scan_file
from ptycho_adapters import legacy, tensorflow_backend, torch_backend
from ptycho_adapters.cli import main
from ptycho_adapters.files import read_product, read_scan
from ptycho_core.results.metrics import compare, evaluation_mask
from tensorflow_sample import as_given, quietly

SOURCE = Path(ptycho_adapters.__file__).parents[1]
DATA = Path(__file__).parents[3] / "shared" / "data"
ROAD = """
import sys
from ptycho_adapters.run import framework, run
from ptycho_adapters.factory import plan_inference
from ptycho_adapters.files import read_scan
scan = read_scan({scan!r})
payload = plan_inference(None, {scan!r}, {folder!r}, {{"n_groups": 4, "backend": {name!r}, "probe_rounds": 0,
    "accelerator": "cpu", "enable_progress_bar": False}})
print(run(payload, scan)[2]["backend"])
import json
print(json.dumps(sorted({{"torch", "lightning", "tensorflow", "keras"}} & {{*sys.modules}})))
"""


@pytest.mark.parametrize(
    ("name", "others"), [("tensorflow", {"torch", "lightning"}), ("pytorch", {"tensorflow", "keras"})]
)
def test_neither_road_imports_the_other_framework(tmp_path: Path, name: str, others: set[str]) -> None:
    """A whole reconstruction, in a process of its own."""
    code = ROAD.format(scan=str(scan_file(tmp_path)), folder=str(tmp_path / "out"), name=name)

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
    )

    assert done.returncode == 0, done.stderr
    backend, loaded = done.stdout.splitlines()
    assert backend == name
    assert not others & {*json.loads(loaded)}


def test_the_command_line_trains_and_reconstructs(tmp_path: Path) -> None:
    """A model is saved, says who made it, and is reconstructed with."""
    scan, model, out = scan_file(tmp_path), tmp_path / "model", tmp_path / "out"
    train = f"train --train-data-file {scan} --output-dir {model} --n-groups 8 --epochs 1 --batch-size 4 --gridsize 1"
    train += " --architecture cnn --n-filters-scale 1 --backend tensorflow --accelerator cpu --quiet"
    infer = f"infer --test-data {scan} --output-dir {out} --model-path {model} --backend tensorflow --accelerator cpu"

    with legacy.legacy_scope():
        assert main(train.split()) == 0
        assert main([*infer.split(), "--quiet"]) == 0

    with ZipFile(model / "wts.h5.zip") as archive:
        assert json.loads(archive.read("manifest.json"))["backend"] == "tensorflow"
    product = read_product(out / "object.h5")
    assert np.isfinite(product.object).all()


def test_the_measured_star_is_the_same_on_both_and_as_the_solver_has_it() -> None:
    """The shipped weights, zero-shot, under the solver's probe: to 1e-4, and a phase correlation of 0.985."""
    if not (DATA / "siemens_top.npz").is_file():
        pytest.skip(f"the measured scan is not in {DATA}")
    reference = np.load(DATA / "siemens_top_reference.npz")
    probe = np.atleast_3d(reference["probe"]).reshape(-1, 128, 128).astype(np.complex64)
    scan = attrs.evolve(read_scan(DATA / "siemens_top.npz"), probe=probe)

    ours, theirs = (
        backend.reconstruct(backend.generalist_for(scan), scan, execution_config=quietly(), inference_config=as_given())
        for backend in (tensorflow_backend, torch_backend)
    )

    assert np.abs(ours.object - theirs.object).max() < 1e-4 * np.abs(theirs.object).max()
    assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-5)
    mask = evaluation_mask(ours.coverage)
    found = compare(ours.object, reference["object"], mask=mask, origin_px=ours.origin_px)
    assert found.phase_correlation >= 0.985
