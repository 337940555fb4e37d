"""The calls of the client's PtychoPINN library, in its order, through the modules that it imports."""

from __future__ import annotations

import logging
import pickle
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import client_sample
from client_sample import KnownBackend, known_object, saved_model, scan_of_64_px, unpacked
from ptycho_adapters import legacy
from ptycho_adapters.ptychodus import tensorflow_library, work
from ptycho_adapters.ptychodus.backend import Backend
from ptycho_adapters.ptychodus.models import write_shipped_model
from ptycho_adapters.ptychodus.settings import tensorflow_settings
from ptycho_adapters.ptychodus.work import training_payload
from ptycho_core.errors import ConfigError, PtychoError, ScanError
from ptychodus_sample import sample_scan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_core.measurement.scan import Scan

known_backend = client_sample.known_backend


@pytest.fixture(autouse=True)
def _own_parameters() -> Iterator[None]:
    with legacy.legacy_scope():
        yield


def _imported(name: str) -> Any:
    return import_module(name)


def _inference_config(size: int, **model: object) -> Any:
    config = _imported("ptycho.config.config")
    return config.InferenceConfig(model=config.ModelConfig(N=size, **model), debug=False)


def _reconstructed(scan: Scan, bundle: Path, shape: tuple[int, int], **grouping: object) -> np.ndarray:
    """Do what the client's child process does, call by call."""
    params, config = _imported("ptycho.params"), _inference_config(scan.N)
    _imported("ptycho.config.config").update_legacy_dict(params.cfg, config)
    model, _ = _imported("ptycho.workflows.components").load_inference_bundle(bundle)
    raw = _imported("ptycho.raw_data").RawData.from_coords_without_pc(
        xcoords=scan.positions_px[:, 1],
        ycoords=scan.positions_px[:, 0],
        diff3d=scan.patterns,
        probeGuess=scan.probe.astype(complex),
        scan_index=np.zeros(scan.n_patterns, dtype=int),
        objectGuess=np.ones(shape, dtype=complex),
    )
    _imported("ptycho.probe").set_probe_guess(None, raw.probeGuess)
    grouped = raw.generate_grouped_data(config.model.N, **grouping)
    data = _imported("ptycho.loader").load(lambda: grouped, raw.probeGuess, which=None, create_split=False)
    patches = model.predict([data.X * params.get("intensity_scale"), data.local_offsets])
    answer: np.ndarray = np.squeeze(
        _imported("ptycho.tf_helper").reassemble_position(patches, data.global_offsets, M=20)
    )
    return answer


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with what the client unpacked of a file that stands for the weights in the package."""
    write_shipped_model(tmp_path / "model.zip")
    return unpacked(tmp_path / "model.zip", tmp_path / "bundle")


@pytest.mark.parametrize("shape", [(130, 121), (90, 150)])
def test_the_answer_lies_on_the_clients_own_canvas(
    shape: tuple[int, int], bundle: Path, known_backend: KnownBackend
) -> None:
    """It has the shape of the object that the client gave, and each pixel the value of its coordinate."""
    scan = scan_of_64_px()

    answer = _reconstructed(scan, bundle, shape, K=7, nsamples=1, gridsize=1)

    truth = known_object((0, 0), shape)
    y, x = scan.positions_px.mean(axis=0).astype(int)
    assert answer.shape == shape
    assert answer.dtype == np.complex64
    np.testing.assert_array_equal(answer[y - 8 : y + 8, x - 8 : x + 8], truth[y - 8 : y + 8, x - 8 : x + 8])
    assert np.isfinite(answer).all()
    assert answer[-1, -1] == 1.0


@pytest.mark.parametrize(
    "grouping", [{"K": 7, "nsamples": 1, "gridsize": 1}, {"K": 4, "nsamples": 3, "gridsize": 3}, {}]
)
def test_every_position_is_reconstructed(grouping: dict[str, int], bundle: Path, known_backend: KnownBackend) -> None:
    """Whatever number of samples, neighbours and grid the client asks for, and without a grid."""
    scan = scan_of_64_px()

    _reconstructed(scan, bundle, (120, 120), **grouping)

    assert known_backend.scans[0].n_patterns == scan.n_patterns


def test_order_and_part_of_the_scan_do_not_move_anything(bundle: Path, known_backend: KnownBackend) -> None:
    """Shuffled positions give the same canvas, and half of them the same values where they reach."""
    scan = scan_of_64_px()
    shuffled = np.random.default_rng(1).permutation(scan.n_patterns)
    whole = _reconstructed(scan, bundle, (120, 120))

    again = _reconstructed(scan.subset(shuffled), bundle, (120, 120))
    half = _reconstructed(scan.subset(shuffled[::2]), bundle, (120, 120))

    np.testing.assert_array_equal(again, whole)
    reached = half != 1.0
    np.testing.assert_array_equal(half[reached], whole[reached])


def test_the_clients_probe_and_positions_are_left_alone(bundle: Path, known_backend: KnownBackend) -> None:
    """The client keeps them, so nothing is refined that its product would not show."""
    _reconstructed(scan_of_64_px(), bundle, (120, 120))

    settings = known_backend.settings[0]
    assert settings is not None
    assert (settings.probe_source, settings.probe_rounds, settings.position_refinement) == ("scan", 0, "none")
    assert (settings.orientation_search, settings.probe_search) == ("never", "never")


def test_a_probe_is_refined_for_the_object_where_that_was_asked_for(
    tmp_path: Path, known_backend: KnownBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """Positions stay, and the log says that the product keeps its probe."""
    write_shipped_model(tmp_path / "model.zip", refine_probe=True)

    with caplog.at_level(logging.INFO, logger="ptychopinn"):
        _reconstructed(scan_of_64_px(), unpacked(tmp_path / "model.zip", tmp_path / "bundle"), (120, 120))

    settings = known_backend.settings[0]
    assert settings is not None
    assert (settings.probe_rounds, settings.position_refinement) == (None, "none")
    assert "the product keeps the one that it has" in caplog.text


@pytest.mark.parametrize("layout", ["the archive", "its contents"])
def test_both_layouts_of_a_model_are_loaded(layout: str, tmp_path: Path) -> None:
    """A folder with `wts.h5.zip`, as a training leaves it, and one with its contents, as the client unpacks it."""
    scan = scan_of_64_px()
    payload = training_payload(Path("a.npz"), scan, {"gridsize": 1}, Backend.PYTORCH)
    archive = saved_model(tmp_path / "trained", payload)
    folder = archive.parent if layout == "the archive" else unpacked(archive, tmp_path / "bundle")

    model, _ = tensorflow_library.load_inference_bundle(folder)

    assert model.model.payload is not None
    assert model.model.payload.pt_data_config.N == 64


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Its path is in the message."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tensorflow_library.load_inference_bundle(tmp_path / "nowhere")


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    """It says what was looked for."""
    with pytest.raises(PtychoError, match=r"wts\.h5\.zip"):
        tensorflow_library.load_inference_bundle(tmp_path)


def test_the_log_says_what_runs_where_the_client_reads_it(
    bundle: Path, known_backend: KnownBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """In the library's own logger: that no model of the user's is at work, which backend, and the figures."""
    with caplog.at_level(logging.INFO):
        _reconstructed(scan_of_64_px(), bundle, (120, 120))

    said = [record.getMessage() for record in caplog.records if record.name == "ptychopinn"]
    assert any("weights in the package" in text for text in said)
    assert any("pytorch backend" in text for text in said)
    assert any("r_factor 0.125" in text for text in said)


def test_tensorflow_runs_the_weights_in_the_package_where_it_is(
    bundle: Path, known_backend: KnownBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a training here does, and the log says so."""
    monkeypatch.setattr(tensorflow_library, "tensorflow_or_torch", lambda: Backend.TENSORFLOW)

    with caplog.at_level(logging.INFO, logger="ptychopinn"):
        _reconstructed(scan_of_64_px(), bundle, (120, 120))

    assert "the weights in the package, tensorflow backend" in caplog.text


def test_the_parent_makes_its_settings_before_it_knows_a_size() -> None:
    """N = 0 constructs, is filled in later, and both survive a process."""
    config = _imported("ptycho.config.config")
    training = config.TrainingConfig(model=config.ModelConfig(N=0))

    training.model.N = 64

    assert pickle.loads(pickle.dumps(training)).model.N == 64


def test_the_legacy_parameters_follow_the_clients_settings() -> None:
    """They are ours, projected as from any record, and a setting that is not valid is named."""
    params, config = _imported("ptycho.params"), _imported("ptycho.config.config")

    config.update_legacy_dict(params.cfg, _inference_config(64, gridsize=2, probe_big=False))

    assert params.cfg is legacy.cfg
    assert (params.get("N"), params.get("gridsize"), params.get("probe.big")) == (64, 2, False)
    with pytest.raises(ConfigError, match="N"):
        config.update_legacy_dict(params.cfg, _inference_config(15))


def test_the_intensity_scale_is_there_once_a_model_is_loaded(bundle: Path) -> None:
    """It is missing before, which the client reports."""
    params = _imported("ptycho.params")
    params.cfg.pop("intensity_scale", None)
    with pytest.raises(KeyError):
        params.get("intensity_scale")

    tensorflow_library.load_inference_bundle(bundle)

    assert params.get("intensity_scale") == 1.0


def test_patterns_are_not_to_be_scaled() -> None:
    """The probe carries the flux: any other factor than 1 would change it."""
    with pytest.raises(ConfigError, match="intensity_scale"):
        tensorflow_library.Intensities(scan=sample_scan()) * 2.0


def test_patterns_of_another_size_are_refused() -> None:
    """Both sizes are named."""
    raw = tensorflow_library.RawData(scan=sample_scan(), canvas_shape=(40, 40))

    with pytest.raises(ScanError, match=r"16 x 16.*64"):
        raw.generate_grouped_data(64)


def test_training_data_come_from_the_clients_export(tmp_path: Path) -> None:
    """Counts, positions, mask and object are those of the file; the object's shape is the canvas."""
    scan = sample_scan()
    assert scan.object is not None
    assert scan.bad_pixels is not None
    np.savez(
        tmp_path / "train_data.npz",
        xcoords=scan.positions_px[:, 1],
        ycoords=scan.positions_px[:, 0],
        xcoords_start=scan.positions_px[:, 1],
        ycoords_start=scan.positions_px[:, 0],
        diff3d=scan.patterns.astype(np.float32),
        bad_pixels=scan.bad_pixels,
        probeGuess=scan.probe,
        objectGuess=scan.object,
        scan_index=np.zeros(scan.n_patterns, dtype=int),
    )

    raw = _imported("ptycho.raw_data").RawData.from_file(tmp_path / "train_data.npz")

    assert raw.diff3d.shape == scan.patterns.shape
    assert raw.canvas_shape == scan.object.shape
    assert raw.scan.domain == "counts"
    np.testing.assert_array_equal(raw.scan.positions_px, scan.positions_px)
    np.testing.assert_array_equal(raw.scan.bad_pixels, scan.bad_pixels)


def test_a_training_without_what_it_trains_is_an_error(tmp_path: Path) -> None:
    """Nothing is saved before something was trained."""
    tensorflow_library._SESSION.trained = None

    with pytest.raises(RuntimeError, match="run_cdi_example"):
        _imported("ptycho.model_manager").save(tmp_path)


def test_the_trained_model_goes_where_the_client_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`save` makes the folder and writes `wts.h5.zip`, and nothing goes into the working directory."""
    scan, here = scan_of_64_px(), tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def train(payload: object, *_: object, **__: object) -> object:
        from ptycho_adapters.torch_backend import load_archive  # noqa: PLC0415 - torch takes seconds

        return load_archive(saved_model(tmp_path / "made", payload))  # type: ignore[arg-type]

    monkeypatch.setattr("ptycho_adapters.torch_backend.train", train)
    config = _imported("ptycho.config.config")
    raw = tensorflow_library.RawData(scan=scan, canvas_shape=(120, 120))
    training = config.TrainingConfig(model=config.ModelConfig(N=64, gridsize=2), batch_size=2)

    amplitude, phase, results = _imported("ptycho.workflows.components").run_cdi_example(raw, raw, training)
    _imported("ptycho.model_manager").save(tmp_path / "out" / "deep")
    _imported("ptycho.workflows.components").save_outputs(amplitude, phase, results, str(tmp_path / "out"))

    assert (tmp_path / "out" / "deep" / "wts.h5.zip").is_file()
    assert results["backend"] == "pytorch"
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "training", "chosen"),
    [
        ({}, {}, Backend.TENSORFLOW),
        ({"gridsize": 2}, {"nepochs": 3, "batch_size": 4, "nphotons": 1e5}, Backend.TENSORFLOW),
        ({"model_type": "supervised"}, {}, Backend.PYTORCH),
        ({}, {"probe_trainable": True}, Backend.PYTORCH),
    ],
)
def test_tensorflow_trains_where_it_is_and_can(
    model: dict[str, Any],
    training: dict[str, Any],
    chosen: Backend,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At the client's defaults too; where only PyTorch can do what is asked for it does, and the log says why."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr(tensorflow_library, "tensorflow_or_torch", lambda: Backend.TENSORFLOW)
    monkeypatch.setattr(tensorflow_library, "train_model", lambda payload, _, **given: asked.update(given, p=payload))
    raw = tensorflow_library.RawData(scan=scan_of_64_px(), canvas_shape=(120, 120))
    config = _imported("ptycho.config.config")

    _, _, results = tensorflow_library.run_cdi_example(
        raw, raw, config.TrainingConfig(model=config.ModelConfig(N=64, **model), **training)
    )

    assert results["backend"] == asked["backend"] == chosen
    assert asked["p"].pt_inference_config.backend == chosen
    assert ("PyTorch trains" in caplog.text) == (chosen is Backend.PYTORCH)


def test_the_settings_reach_the_training() -> None:
    """Grid, epochs, batch and photons are those of the client's windows."""
    config = _imported("ptycho.config.config")
    training = config.TrainingConfig(
        model=config.ModelConfig(N=64, gridsize=3), nepochs=7, batch_size=4, nphotons=1e5, probe_trainable=True
    )

    own = training_payload(Path("a"), scan_of_64_px(), tensorflow_settings(training), Backend.PYTORCH)

    assert own.tf_training_config.model.gridsize == 3
    assert (own.tf_training_config.nepochs, own.tf_training_config.batch_size) == (7, 4)
    assert own.tf_training_config.nphotons == 1e5
    assert own.tf_training_config.probe_trainable


def test_a_batch_that_no_run_takes_is_refused_by_name() -> None:
    """The client's window allows 3; the error says what is allowed."""
    config = _imported("ptycho.config.config")
    training = config.TrainingConfig(model=config.ModelConfig(N=64), batch_size=3)

    with pytest.raises(ConfigError, match=r"batch_size.*power of 2"):
        training_payload(Path("a"), scan_of_64_px(), tensorflow_settings(training), Backend.PYTORCH)


def test_a_training_goes_to_the_backend_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its name in the payload, on the one scan, and the answer is kept to be saved by the same backend."""
    asked: list[Any] = []

    class Twin:
        @staticmethod
        def train(payload: Any, scan: Scan, *, validation: Scan | None = None) -> str:
            asked.extend((payload, scan, validation))
            return "trained"

    monkeypatch.setattr(work, "module_of", lambda name: Twin)
    payload = training_payload(Path("a"), scan_of_64_px(), {"gridsize": 1}, Backend.PYTORCH)
    scan = scan_of_64_px()

    model = work.train_model(payload, [scan], validation=None, backend=Backend.TENSORFLOW, log=logging.getLogger("x"))

    assert (model.trained, model.backend) == ("trained", Backend.TENSORFLOW)
    assert asked[1] is scan
    assert asked[0].pt_training_config.output_dir != Path()
