"""Whole runs on TensorFlow: who imports what, the command line, and measured data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import attrs
import numpy as np
import pytest
import tensorflow as tf

import ptycho_adapters
from cli_samples import tiny_scan as scan_file
from ptycho_adapters import frameworks, legacy, tensorflow_backend, torch_backend
from ptycho_adapters.cli import main
from ptycho_adapters.files import read_product, read_scan
from ptycho_adapters.frameworks import model_with_backend
from ptycho_core.errors import DependencyError
from ptycho_core.results.metrics import compare, evaluation_mask
from tensorflow_sample import as_given, quietly
from tensorflow_training import minute_payload, observed

if TYPE_CHECKING:
    from ptycho_adapters.common.backend import Framework

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


def test_the_command_line_trains_and_reconstructs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model is saved, says who made it, is reconstructed with, looked at and judged, all without torch."""
    monkeypatch.setitem(sys.modules, "ptycho_adapters.torch_backend.framework", None)
    scan, model, out = scan_file(tmp_path), tmp_path / "model", tmp_path / "out"
    train = f"train --train-data-file {scan} --output-dir {model} --n-groups 8 --epochs 1 --batch-size 4 --gridsize 1"
    train += (
        " --unrolled-steps 1 --unrolled-repeats 0 --n-filters-scale 1 --backend tensorflow --accelerator cpu --quiet"
    )
    infer = f"infer --test-data {scan} --output-dir {out} --model-path {model} --backend tensorflow --accelerator cpu"

    with legacy.legacy_scope():
        assert main(train.split()) == 0
        assert main([*infer.split(), "--quiet"]) == 0
        assert main(["inspect", str(model / "wts.h5.zip")]) == 0
        assert "tensorflow" in capsys.readouterr().out
        evaluate = ["evaluate", str(scan), "--model-path", str(model), "--output-dir", str(tmp_path / "halves")]
        tf.config.run_functions_eagerly(run_eagerly=True)
        try:
            assert main([*evaluate, "--quiet"]) == 0
        finally:
            tf.config.run_functions_eagerly(run_eagerly=False)

    assert (tmp_path / "halves" / "evaluation.json").is_file()
    with ZipFile(model / "wts.h5.zip") as archive:
        assert json.loads(archive.read("manifest.json"))["backend"] == "tensorflow"
    product = read_product(out / "object.h5")
    assert np.isfinite(product.object).all()


def test_a_model_is_loaded_with_the_backend_that_trained_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that one is not installed the other one takes it, and that is said."""
    run = observed(minute_payload(tmp_path))
    archive = tensorflow_backend.save_archive(run.model, tmp_path)

    backend, model = model_with_backend(archive)
    found = frameworks.framework

    def missing(name: str) -> Framework:
        if name == "tensorflow":
            raise DependencyError("not installed")
        return found(name)

    monkeypatch.setattr(frameworks, "framework", missing)
    with pytest.warns(UserWarning, match="was trained with backend tensorflow, which is not installed: pytorch takes"):
        other, same = model_with_backend(archive)

    assert (backend.name, other.name) == ("tensorflow", "pytorch")
    assert model.n_weights == same.n_weights == run.model.n_weights


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
