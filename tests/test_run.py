"""One run on either backend: what is projected, picked and given back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from ptycho_adapters import legacy
from ptycho_adapters import run as dispatch
from ptycho_adapters.common.model import ModelRecord
from ptycho_adapters.common.shipped import generalist_record
from ptycho_adapters.shipped_weights import generalist_payload, weights_path
from ptycho_core.config.payload import (
    ArchiveFacts,
    InferenceFacts,
    InferencePayload,
    ScanFacts,
    TrainingPayload,
    resolve_inference,
    resolve_training,
)
from ptycho_core.config.shared import Backend
from ptycho_core.errors import DependencyError
from ptycho_core.results.reconstruction import Reconstruction
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_adapters.common.groups import TrainingSet
    from ptycho_core.config import PyTorchExecutionConfig
    from ptycho_core.measurement.scan import Scan

SCAN = simulate(SimulationConfig(object_size_px=80, step_px=8.0))
FACTS = ScanFacts(path=Path("scan.npz"), N=64)


@attrs.define
class Echo:
    """A backend that writes down what it is asked for."""

    name: Backend = "tensorflow"
    calls: list[str] = attrs.field(factory=list)

    def check(self, execution: PyTorchExecutionConfig) -> None:
        self.calls.append(f"check {execution.accelerator}")

    def train_on(self, payload: TrainingPayload, data: TrainingSet) -> ModelRecord:
        self.calls.append(f"train {len(data.scans)}, folder {payload.pt_training_config.output_dir.is_dir()}")
        return generalist_record(data.scans[0])

    def reconstruct(self, model: ModelRecord, scan: Scan, payload: InferencePayload | None = None) -> Reconstruction:
        assert payload is not None
        self.calls.append(f"reconstruct {model.payload.pt_data_config.N} {payload.pt_inference_config.backend}")
        shape = (70, 72)
        return Reconstruction(
            object=np.full(shape, 2j, np.complex64),
            coverage=np.ones(shape, np.float32),
            origin_px=(0, 0),
            probe=scan.probe,
            probe_source="scan",
            positions_px=scan.positions_px,
            pattern_indices=np.arange(scan.n_patterns),
            scale=1.0,
        )

    def generalist_for(self, scan: Scan) -> ModelRecord:
        self.calls.append("shipped")
        return generalist_record(scan)

    def load_archive(self, path: Path) -> ModelRecord:
        self.calls.append(f"load {path}")
        return generalist_record(SCAN)

    def save_archive(self, model: ModelRecord, path: Path) -> Path:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope():
        yield


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    """Stands in for the TensorFlow backend."""
    made, real = Echo(), dispatch.framework
    monkeypatch.setattr(dispatch, "framework", lambda name: made if name == "tensorflow" else real(name))
    return made


def training(folder: Path, **settings: object) -> TrainingPayload:
    said = {"n_groups": 2, "backend": "tensorflow", "gridsize": 1, **settings}
    return resolve_training(FACTS, said, output_dir=folder)


def inference(folder: Path, model: Path, *, shipped: bool) -> InferencePayload:
    archive = ArchiveFacts(path=model, training=generalist_payload(64), shipped=shipped)
    facts = InferenceFacts(scan=FACTS, archive=archive)
    return resolve_inference(facts, {"n_groups": 2, "backend": "tensorflow"}, output_dir=folder)


def test_a_training_gives_its_model(tmp_path: Path, echo: Echo) -> None:
    """On the backend that the payload names, with the folder made and the legacy parameters filled."""
    amplitude, phase, results = dispatch.run(training(tmp_path / "out"), SCAN)

    assert (amplitude, phase, results["backend"]) == (None, None, "tensorflow")
    assert isinstance(results["model"], ModelRecord)
    assert echo.calls == ["check auto", "train 1, folder True"]
    assert legacy.cfg["gridsize"] == 1


@pytest.mark.parametrize("shipped", [True, False])
def test_a_reconstruction_gives_amplitude_and_phase(tmp_path: Path, echo: Echo, shipped: bool) -> None:
    """With the archive that the payload names, or the package's own weights."""
    model = weights_path() if shipped else tmp_path / "model"

    amplitude, phase, results = dispatch.run(inference(tmp_path, model, shipped=shipped), SCAN)

    assert amplitude is not None
    assert phase is not None
    assert amplitude.shape == phase.shape == (70, 72)
    np.testing.assert_allclose((amplitude[0, 0], phase[0, 0]), (2.0, np.pi / 2), rtol=1e-6)
    assert results["backend"] == "tensorflow"
    assert isinstance(results["reconstruction"], Reconstruction)
    assert echo.calls[0] == ("shipped" if shipped else f"load {model}")
    assert echo.calls[-1] == "reconstruct 64 tensorflow"


def test_a_bad_name_is_an_error() -> None:
    """It says which names there are."""
    with pytest.raises(ValueError, match="backend: expected 'pytorch' or 'tensorflow', found 'jax'"):
        dispatch.framework("jax")


def test_a_missing_tensorflow_is_named_after_the_projection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it; nothing has been written, and the legacy parameters are those of the run."""
    for name in [name for name in sys.modules if name.startswith("ptycho_adapters.tensorflow_backend")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorflow", None)

    with pytest.raises(DependencyError, match=r"TensorFlow backend selected, .*pip install 'tensorflow>="):
        dispatch.run(training(tmp_path / "out", seed=7), SCAN)

    assert not (tmp_path / "out").exists()
    assert legacy.cfg["n_groups"] == 2


def test_a_model_of_the_other_backend_is_not_taken(tmp_path: Path) -> None:
    """The error says whose it has to be."""
    with pytest.raises(TypeError, match="expected a model of backend pytorch"):
        dispatch.framework("pytorch").save_archive(generalist_record(SCAN), tmp_path)
