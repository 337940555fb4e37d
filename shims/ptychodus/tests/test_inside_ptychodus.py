"""The released client trains and reconstructs with us through its own core and its own command line."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import inside
import pytest

from ptycho_adapters.ptychodus.models import write_shipped_model

if TYPE_CHECKING:
    from ptycho_core.measurement.scan import Scan

SCAN = inside.made_scan()
EPOCHS = 2
EXAMPLE = Path(__file__).parents[1] / "example.py"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's folder for the scan."""
    return inside.staged(SCAN, tmp_path_factory.mktemp("scan") / "in")


def _judge(product: Any, scan: Scan = SCAN) -> None:
    found = inside.quality(product, scan)
    assert found.offset_px <= 0.75, found
    assert found.phase_correlation >= 0.95, found
    assert found.r_factor_ratio <= 0.6, found


def test_all_four_are_listed(folder: Path) -> None:
    """By the unmodified client."""
    with inside.client(folder) as (core, _):
        assert set(inside.ALGORITHMS) <= set(core.workflow_api.available_reconstructors())


@pytest.mark.parametrize("gridsize", [1, 2])
@pytest.mark.parametrize("algorithm", inside.ALGORITHMS)
def test_trained_saved_loaded_reconstructed(
    algorithm: str, gridsize: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Export, train, save; in a fresh process load and reconstruct: registered, resolved, of the right scale."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    if "supervised" in algorithm and "unsupervised" not in algorithm:
        folder = tmp_path / "known"
        inside.write_scan(SCAN, folder)
    with inside.client(folder) as (core, product):
        inside.set_windows(core, gridsize=gridsize, epochs=EPOCHS)
        data = inside.exported(product, algorithm, tmp_path / "data")
        product.train_reconstructor_local(data, tmp_path / "out", algorithm=algorithm, block=True)
        processing = core.processing_core.processing_api
        model = tmp_path / f"model{inside.MODEL_SUFFIX[algorithm.partition('_')[0]]}"
        processing.save_model_to_file(model, algorithm=algorithm)
        processing.load_model_from_file(model, algorithm=algorithm)
        # Each call of the client is a process of its own.
        answer = product.reconstruct_local(algorithm=algorithm, block=True).get_product()

    _judge(answer)
    assert list(here.iterdir()) == []
    assert not {"torch", "tensorflow", "lightning"} & set(sys.modules)


def _settings(folder: Path, algorithm: str) -> None:
    with inside.client(folder) as (core, _):
        inside.set_windows(core, gridsize=2, epochs=EPOCHS)
        core.processing_core.processing_api.set_reconstructor_if_provided(algorithm)
        core.workflow_api.save_settings(folder / "settings.ini")


@pytest.mark.parametrize("algorithm", ["ptychopinn_pinn", "ptychopinn-torch_unsupervised"])
def test_the_command_line_trains_and_reconstructs(algorithm: str, folder: Path, tmp_path: Path) -> None:
    """`ptychodus -b train`, the model copied as its manual says, `ptychodus -b reconstruct`: a product to be read."""
    staged = tmp_path / "in"
    shutil.copytree(folder, staged)
    with inside.client(staged) as (_, product):
        inside.exported(product, algorithm, staged)
    _settings(staged, algorithm)

    trained = inside.batch("train", staged, tmp_path / "out")
    assert trained.returncode == 0, trained.stderr
    models = [*(tmp_path / "out").glob("wts.h5.zip"), *(tmp_path / "out").glob("run_*/checkpoints/*.ckpt")]
    suffix = inside.MODEL_SUFFIX[algorithm.partition("_")[0]]
    shutil.copyfile(models[0], staged / f"model{suffix}")
    done = inside.batch("reconstruct", staged, tmp_path / "out")

    assert done.returncode == 0, done.stderr
    (product_file,) = (tmp_path / "out").glob("product.*.h5")
    _judge(inside.load_product(product_file))


@pytest.mark.parametrize("algorithm", ["ptychopinn_pinn", "ptychopinn-torch_unsupervised"])
def test_the_weights_in_the_package_answer_without_a_training(
    algorithm: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that stands for them is loaded as a model; the log of the library says what runs."""
    library = algorithm.partition("_")[0]
    model = tmp_path / f"model{inside.MODEL_SUFFIX[library]}"
    write_shipped_model(model)
    with caplog.at_level(logging.INFO), inside.client(folder) as (core, product):
        core.processing_core.processing_api.load_model_from_file(model, algorithm=algorithm)
        _judge(product.reconstruct_local(algorithm=algorithm, block=True).get_product())

    assert any("weights in the package" in each.getMessage() for each in caplog.records if each.name == library)


@pytest.mark.skipif(
    find_spec("tensorflow") is None,
    reason="TensorFlow is not beside the client: pip install 'ptycho-core[tensorflow-cpu]'",
)
def test_tensorflow_answers_where_it_is_installed(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The weights in the package, through the client's library of that name, in a process that the client starts."""
    model = tmp_path / "model.zip"
    write_shipped_model(model)
    with caplog.at_level(logging.INFO), inside.client(folder) as (core, product):
        core.processing_core.processing_api.load_model_from_file(model, algorithm="ptychopinn_pinn")
        _judge(product.reconstruct_local(algorithm="ptychopinn_pinn", block=True).get_product())

    said = [each.getMessage() for each in caplog.records if each.name == "ptychopinn"]
    assert any("tensorflow backend" in text for text in said), said


def test_the_example_makes_a_product_of_a_scan_file(tmp_path: Path) -> None:
    """As the manual says it: a scan file, a folder, the client's batch mode, no training."""
    inside.write_scan(inside.without_truth(SCAN), tmp_path / "scan.npz")
    command = [sys.executable, str(EXAMPLE), str(tmp_path / "scan.npz"), str(tmp_path / "work")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    _judge(inside.load_product(tmp_path / "work" / "out" / "product.000000.h5"))


def test_a_training_that_is_stopped_loses_no_finished_model(folder: Path, tmp_path: Path) -> None:
    """The client's stop button ends the child by a signal: what was there before is there after, whole."""
    out = tmp_path / "out"
    out.mkdir()
    write_shipped_model(out / "wts.h5.zip")
    before = (out / "wts.h5.zip").read_bytes()
    with inside.client(folder) as (_, product):
        data = inside.exported(product, "ptychopinn_pinn", tmp_path / "data")
    code = (
        "import logging, sys; from pathlib import Path\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout)\n"
        "from ptycho.config.config import ModelConfig, TrainingConfig\n"
        "from ptycho.raw_data import RawData\n"
        "from ptycho.workflows.components import run_cdi_example\n"
        "import ptycho.model_manager\n"
        "raw = RawData.from_file(Path(sys.argv[1]))\n"
        "run_cdi_example(raw, raw, TrainingConfig(model=ModelConfig(N=64, gridsize=2), nepochs=1000))\n"
        "ptycho.model_manager.save(Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", code, str(data / "train_data.npz"), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ), cwd=tmp_path) as child:
        assert child.stdout is not None
        assert any("epoch 1 of" in line for line in child.stdout)
        child.send_signal(signal.SIGTERM)
        # Lightning ends the process at its next step, long before the client loses patience and kills it.
        rest, _ = child.communicate()

    assert rest.count("epoch ") <= 1
    assert "saved the model" not in rest
    assert (out / "wts.h5.zip").read_bytes() == before
    assert [each.name for each in out.iterdir()] == ["wts.h5.zip"]
