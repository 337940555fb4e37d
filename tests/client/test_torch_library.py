"""The calls of the client's PtychoPINN-Torch library, in its order, through the modules that it imports."""

from __future__ import annotations

import pickle
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import client_sample
from client_sample import KnownBackend, known_object, scan_of_64_px
from ptycho_adapters.ptychodus import torch_library
from ptycho_adapters.ptychodus.models import write_shipped_model
from ptycho_core.errors import ArchiveError, ScanError

if TYPE_CHECKING:
    from ptycho_core.measurement.scan import Scan

known_backend = client_sample.known_backend


def _imported(name: str) -> Any:
    return import_module(name)


def _loaded(checkpoint: Path) -> tuple[Any, Any]:
    """Load a model as the client's child process does."""
    api = _imported("ptycho_torch.api.base_api")
    data, model, training, inference = api.PtychoModel._extract_configs_from_checkpoint(str(checkpoint))
    configs = {
        "model_config": model,
        "data_config": data,
        "training_config": training,
        "inference_config": inference,
    }
    assert all(each is not None for each in configs.values())
    loaded = api.PtychoModel(**configs)
    loaded.model = _imported("ptycho_torch.model").PtychoPINN_Lightning.load_from_checkpoint(checkpoint, **configs)
    manager = api.ConfigManager.from_loaded_model(loaded)
    manager.validate_arch_compatibility(loaded)
    return loaded, manager


def _reconstructed(checkpoint: Path, scan: Scan, **changes: Any) -> np.ndarray:
    api = _imported("ptycho_torch.api.base_api")
    model, manager = _loaded(checkpoint)
    engine = api.InferenceEngine(config_manager=manager, ptycho_model=model)
    given = {"diff_patterns": scan.patterns, "probe": scan.probe.astype(complex), "positions": scan.positions_px}
    loader = api.PtychoDataLoader.from_np(**{**given, **changes}, config_manager=manager)
    return np.asarray(engine.predict_and_stitch(loader))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file that the client loads and that stands for the weights in the package."""
    write_shipped_model(tmp_path / "model.ckpt")
    return tmp_path / "model.ckpt"


def test_the_answer_has_the_shape_that_the_client_gives_a_whole_scan(
    checkpoint: Path, known_backend: KnownBackend
) -> None:
    """The scan lies in its middle, and each pixel has the value of its coordinate."""
    scan = scan_of_64_px()
    middle = (scan.positions_px.min(axis=0) + scan.positions_px.max(axis=0)) / 2
    centred = scan.positions_px - middle + (np.array([130, 121]) - 1) / 2

    answer = _reconstructed(checkpoint, scan, positions=centred)

    assert answer.shape == (130, 121)
    assert answer.dtype == np.complex64
    np.testing.assert_array_equal(answer[60:70, 55:65], known_object((0, 0), (130, 121))[60:70, 55:65])


def test_rectangular_patterns_are_refused_with_both_shapes(checkpoint: Path, known_backend: KnownBackend) -> None:
    """The client does not look, so we do."""
    scan = scan_of_64_px()

    with pytest.raises(ScanError, match=r"\(36, 64, 60\).*\(1, 64, 60\)"):
        _reconstructed(checkpoint, scan, diff_patterns=scan.patterns[:, :, :60], probe=scan.probe[:, :, :60])


def test_the_mode_of_a_model_is_known_to_the_client(checkpoint: Path) -> None:
    """It compares it with that of the reconstructor."""
    assert _loaded(checkpoint)[1].model_config.mode == "Unsupervised"


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    """Such as a checkpoint of Lightning."""
    (tmp_path / "model.ckpt").write_bytes(b"not a zip")

    with pytest.raises(ArchiveError, match=r"model\.ckpt"):
        _loaded(tmp_path / "model.ckpt")


def _trainer(data_dir: Path, out: Path, size: int = 64) -> tuple[Any, Any]:
    """Make a training as the client's child process does."""
    api, configs = _imported("ptycho_torch.api.base_api"), _imported("ptycho_torch.config_params")
    training = configs.TrainingConfig(epochs=1, batch_size=1)
    training.n_devices = 1
    manager = api.ConfigManager(
        data_config=configs.DataConfig(N=size),
        model_config=configs.ModelConfig(),
        training_config=training,
        inference_config=configs.InferenceConfig(),
        datagen_config=configs.DatagenConfig(),
    )
    loader = api.PtychoDataLoader(
        data_dir=data_dir,
        config_manager=manager,
        data_format=api.DataloaderFormats("lightning_only_module"),
        output_dir=out,
    )
    model = api.PtychoModel._new_model(
        model=_imported("ptycho_torch.model").PtychoPINN_Lightning, config_manager=manager
    )
    trainer = api.Trainer._from_lightning(
        model=model, dataloader=loader, orchestration="lightning", config_manager=manager
    )
    assert (model.model.loss_name, model.model.val_loss_name) == ("poisson_train_loss", "poisson_val_loss")
    return trainer, loader


def _export(scan: Scan, path: Path) -> None:
    np.savez(
        path,
        xcoords=scan.positions_px[:, 1],
        ycoords=scan.positions_px[:, 0],
        diff3d=scan.patterns,
        bad_pixels=np.zeros((scan.N, scan.N), dtype=bool),
        probeGuess=scan.probe,
        objectGuess=np.ones((120, 120), dtype=complex),
    )


def test_a_folder_without_training_data_says_what_to_do(tmp_path: Path) -> None:
    """It names the folder."""
    trainer, _ = _trainer(tmp_path, tmp_path / "out")

    with pytest.raises(FileNotFoundError, match="export training data"):
        trainer.train(orchestration="lightning", experiment_name="")


def test_a_model_size_that_the_patterns_do_not_have_is_refused(tmp_path: Path) -> None:
    """Both sizes are named, and the setting."""
    _export(scan_of_64_px(), tmp_path / "a.npz")
    trainer, _ = _trainer(tmp_path, tmp_path / "out", size=128)

    with pytest.raises(ScanError, match=r"a\.npz.*128 x 128.*model_size.*64 x 64.*set model_size to 64"):
        trainer.train()


def test_every_file_of_the_folder_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the client's own files, and the client's callbacks reach the trainer."""
    seen: dict[str, Any] = {}

    def train_model(payload: Any, scans: Any, **given: Any) -> None:
        seen.update(given, scans=scans)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch_library, "train_model", train_model)
    for name in ("a.npz", "b.npz"):
        _export(scan_of_64_px(), tmp_path / name)
    (tmp_path / "settings.ini").write_text("")
    trainer, loader = _trainer(tmp_path, tmp_path / "out")
    trainer._trainer.callbacks.append("theirs")

    with pytest.raises(KeyboardInterrupt):
        trainer.train(orchestration="lightning", experiment_name="")

    assert len(seen["scans"]) == 2
    assert seen["callbacks"] == ["theirs"]
    assert _imported("ptycho_torch.lightning_utils").find_best_checkpoint(Path(loader.output_dir)) is None


def test_a_training_that_asks_for_cuda_in_vain_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the library's own logger, and goes on with what there is: the client asks for it by default."""
    import torch  # noqa: PLC0415

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch_library, "train_model", lambda *_, **__: None)
    monkeypatch.setattr(torch_library, "save_model", lambda _, path: path)
    _export(scan_of_64_px(), tmp_path / "a.npz")

    _trainer(tmp_path, tmp_path / "out")[0].train()

    said = [each.getMessage() for each in caplog.records if each.name == "ptychopinn-torch"]
    assert any("no CUDA device" in text for text in said)


def test_a_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """So that no training replaces another's model."""
    first = _trainer(tmp_path, tmp_path)[1].output_dir
    first.mkdir()

    assert _trainer(tmp_path, tmp_path)[1].output_dir != first
    assert first.name.startswith("run_")


def test_settings_travel_to_the_child() -> None:
    """They are pickled by reference, and can be changed on arrival."""
    config = pickle.loads(pickle.dumps(_imported("ptycho_torch.config_params").TrainingConfig(n_devices=4)))

    config.n_devices = 1

    assert config.n_devices == 1
