"""Factories: from files and settings to payloads."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from factory_samples import write_scan_file
from ptycho_adapters import legacy
from ptycho_adapters.factory import (
    commit,
    create_inference_payload,
    create_training_payload,
    infer_probe_size,
    plan_inference,
    plan_training,
    populate_legacy_params,
    with_all_patterns,
)
from ptycho_adapters.shipped_weights import weights_path
from ptycho_core import InferencePayload, ModelConfig, PyTorchExecutionConfig, TrainingConfig, TrainingPayload
from ptycho_core.config.overrides import Layer
from ptycho_core.config.payload_json import payload_to_json
from ptycho_core.errors import ArchiveError, ConfigError, ScanFileError

Writer = Callable[..., Path]


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope() as cfg:
        cfg.clear()
        yield


@pytest.fixture
def scan_file(tmp_path: Path) -> Writer:
    """Return a writer of small scan files."""

    def write(name: str = "scan.npz", *, size: int = 64, count: int = 100, **extra: object) -> Path:
        return write_scan_file(tmp_path / name, size=size, count=count, **extra)

    return write


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


def archive(folder: Path, payload: TrainingPayload) -> Path:
    path = folder / "wts.h5.zip"
    with zipfile.ZipFile(path, "w") as stored:
        stored.writestr("config.json", payload_to_json(payload))
    return path


def test_a_training_payload_is_structured(scan_file: Writer, tmp_path: Path) -> None:
    """All records are there, canonical and torch-side, with an execution record."""
    payload = create_training_payload(scan_file(), tmp_path / "out", {"n_groups": 512, "batch_size": 4})

    assert isinstance(payload, TrainingPayload)
    assert isinstance(payload.tf_training_config, TrainingConfig)
    assert payload.pt_training_config.batch_size == payload.tf_training_config.batch_size == 4
    assert payload.pt_data_config.N == 64
    assert payload.pt_model_config.mode == "Unsupervised"
    assert isinstance(payload.execution_config, PyTorchExecutionConfig)


@pytest.mark.parametrize(
    ("overrides", "torch_side", "canonical"),
    [
        ({"gridsize": 2}, ("pt_data_config", "grid_size", (2, 2)), ("model.gridsize", 2)),
        ({"max_epochs": 20}, ("pt_training_config", "epochs", 20), ("nepochs", 20)),
        ({"neighbor_count": 7}, ("pt_data_config", "K", 7), ("neighbor_count", 7)),
        ({"model_type": "Supervised"}, ("pt_model_config", "mode", "Supervised"), ("model.model_type", "supervised")),
        ({"n_groups": 1024}, ("pt_training_config", "n_groups", 1024), ("n_groups", 1024)),
        ({"N": 128}, ("pt_data_config", "N", 128), ("model.N", 128)),
    ],
)
def test_an_override_reaches_both_vocabularies(
    scan_file: Writer,
    tmp_path: Path,
    overrides: dict[str, object],
    torch_side: tuple[str, str, object],
    canonical: tuple[str, object],
) -> None:
    """Grid, epochs, neighbours, mode, groups and size are translated."""
    payload = create_training_payload(scan_file(), tmp_path / "out", {"n_groups": 512, **overrides})

    found: object = payload.tf_training_config
    for name in canonical[0].split("."):
        found = getattr(found, name)
    assert getattr(getattr(payload, torch_side[0]), torch_side[1]) == torch_side[2]
    assert found == canonical[1]


def test_the_probe_gives_the_size(scan_file: Writer, tmp_path: Path) -> None:
    """A larger probe makes a larger model."""
    payload = create_training_payload(scan_file(size=128), tmp_path / "out", {"n_groups": 4})

    assert (payload.pt_data_config.N, payload.tf_training_config.model.N) == (128, 128)


METADATA = json.dumps({"schema_version": "1.0.0", "physics_parameters": {"nphotons": 5e8}})


@pytest.mark.parametrize(
    "stored",
    [
        np.array(METADATA),
        np.array(METADATA.encode()),
        np.frombuffer(METADATA.encode(), np.uint8),
        np.array(METADATA, dtype=object),
    ],
    ids=["text", "bytes", "uint8", "pickled text"],
)
def test_the_dose_comes_from_the_metadata(scan_file: Writer, tmp_path: Path, stored: object) -> None:
    """JSON text is found however it was stored; a pickle is searched, not executed."""
    payload = create_training_payload(scan_file(_metadata=stored), tmp_path / "out", {"n_groups": 4})

    assert payload.tf_training_config.nphotons == 5e8
    assert payload.provenance["nphotons"] is Layer.SCAN


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


def test_a_pickle_is_never_executed(scan_file: Writer, tmp_path: Path) -> None:
    """A hostile metadata array is warned about and does nothing."""
    trap = tmp_path / "sprung"
    path = scan_file(_metadata=np.array(Trap(trap), dtype=object))

    with pytest.warns(UserWarning, match="_metadata"):
        payload = create_training_payload(path, tmp_path / "out", {"n_groups": 4})

    assert payload.tf_training_config.nphotons == 1e9
    assert not trap.exists()
    pickle.loads(pickle.dumps(Trap(trap)))
    assert trap.exists()


@pytest.mark.parametrize("text", ["not json", "[1]", '{"physics_parameters": {"nphotons": "many"}}'])
def test_metadata_without_a_dose_leave_the_default(scan_file: Writer, tmp_path: Path, text: str) -> None:
    """A dose is used only when it is a positive number."""
    path = scan_file(_metadata=np.array(text))
    if text.startswith("{"):
        payload = create_training_payload(path, tmp_path / "out", {"n_groups": 4})
    else:
        with pytest.warns(UserWarning, match="not a JSON object"):
            payload = create_training_payload(path, tmp_path / "out", {"n_groups": 4})

    assert payload.provenance["nphotons"].default


def test_the_legacy_parameters_are_filled(scan_file: Writer, tmp_path: Path) -> None:
    """Legacy consumers see grid, size and groups, and no execution setting."""
    create_training_payload(scan_file(), tmp_path / "out", {"n_groups": 512, "gridsize": 2, "accelerator": "cpu"})

    assert {key: legacy.cfg[key] for key in ("gridsize", "N", "n_groups")} == {"gridsize": 2, "N": 64, "n_groups": 512}
    assert legacy.cfg["output_prefix"] == str(tmp_path / "out")
    assert "accelerator" not in legacy.cfg
    assert "learning_rate" not in legacy.cfg


def test_a_record_alone_fills_the_legacy_parameters() -> None:
    """An empty dict is filled without a warning; other records are refused."""
    populate_legacy_params(TrainingConfig(model=ModelConfig(N=64, gridsize=2), n_groups=512))

    assert legacy.cfg["gridsize"] == 2
    with pytest.raises(TypeError, match="canonical"):
        populate_legacy_params(ModelConfig())  # type: ignore[arg-type]


def test_overwriting_another_record_warns_unless_forced() -> None:
    """The same record again is fine, another one is announced."""
    first, second = (TrainingConfig(model=ModelConfig(gridsize=gridsize)) for gridsize in (2, 3))
    populate_legacy_params(first)
    populate_legacy_params(first)

    with pytest.warns(UserWarning, match="already populated"):
        populate_legacy_params(second)
    populate_legacy_params(first, force=True)

    assert legacy.cfg["gridsize"] == 2


def test_missing_groups_are_an_error(scan_file: Writer, tmp_path: Path) -> None:
    """Nothing is written when a training cannot be resolved."""
    with pytest.raises(ValueError, match="n_groups is required"):
        create_training_payload(scan_file(), tmp_path / "out", {})

    assert not (tmp_path / "out").exists()
    assert legacy.cfg == {}


def test_a_missing_scan_is_an_error(tmp_path: Path, model_dir: Path) -> None:
    """The message names the file."""
    (model_dir / "wts.h5.zip").touch()

    with pytest.raises(FileNotFoundError, match=r"Training data file not found: .*gone\.npz"):
        create_training_payload(tmp_path / "gone.npz", tmp_path, {"n_groups": 1})
    with pytest.raises(FileNotFoundError, match=r"Test data file not found: .*gone\.npz"):
        create_inference_payload(model_dir, tmp_path / "gone.npz", tmp_path, {"n_groups": 1})


def test_a_run_that_cannot_start_leaves_no_parameters(scan_file: Writer, tmp_path: Path) -> None:
    """Where the output folder cannot be made, the legacy parameters stay as they were."""
    (tmp_path / "taken").touch()
    legacy.cfg["gridsize"] = 7

    with pytest.raises(OSError, match="taken"):
        create_training_payload(scan_file(), tmp_path / "taken" / "out", {"n_groups": 1})

    assert legacy.cfg == {"gridsize": 7}


def test_a_plan_writes_nothing_and_a_commitment_does(scan_file: Writer, tmp_path: Path) -> None:
    """Folder and legacy parameters wait for the commitment; both steps together are the factory."""
    path, out = scan_file(), tmp_path / "out"

    payload = plan_training(path, out, {"n_groups": 4, "gridsize": 1})

    assert not out.exists()
    assert legacy.cfg == {}
    commit(payload)
    assert out.is_dir()
    assert legacy.cfg == _projected(payload)
    assert create_training_payload(path, out, {"n_groups": 4, "gridsize": 1}) == payload


def test_a_plan_of_a_reconstruction_writes_nothing(scan_file: Writer, tmp_path: Path, model_dir: Path) -> None:
    """As with a training; the settings are those that the factory gives."""
    path, out = scan_file(), tmp_path / "out"
    archive(model_dir, plan_training(path, out, {"n_groups": 4}))

    payload = plan_inference(model_dir, path, out, {"n_groups": 4})

    assert not out.exists()
    assert legacy.cfg == {}
    assert create_inference_payload(model_dir, path, out, {"n_groups": 4}) == payload
    assert out.is_dir()
    assert legacy.cfg["model_path"] == str(model_dir)


def test_a_reconstruction_without_a_model_is_planned_with_the_shipped_weights(
    scan_file: Writer, tmp_path: Path
) -> None:
    """They take patterns of the scan's size, and stand for the model in the payload."""
    payload = plan_inference(None, scan_file(size=128), tmp_path / "out", all_patterns="as stored")

    assert payload.tf_inference_config.model_path == weights_path()
    assert payload.tf_inference_config.model.N == 128
    assert (payload.tf_inference_config.n_groups, payload.provenance["n_groups"]) == (100, Layer.SCAN)


def test_a_scan_that_holds_another_number_of_patterns_corrects_the_plan(scan_file: Writer, tmp_path: Path) -> None:
    """All records follow, unless somebody asked for a number of groups."""
    planned = plan_inference(None, scan_file(), tmp_path, all_patterns="as stored")
    asked = plan_inference(None, scan_file(), tmp_path, {"n_groups": 7}, all_patterns="as stored")

    corrected = with_all_patterns(planned, 90)

    assert corrected.tf_inference_config.n_groups == corrected.pt_inference_config.n_groups == 90
    assert corrected.provenance == planned.provenance
    assert with_all_patterns(asked, 90) is asked


def test_concurrent_factories_do_not_mix(scan_file: Writer, tmp_path: Path) -> None:
    """Each call gets its own settings, and the legacy parameters are those of one call as a whole."""
    path = scan_file()

    def create(n_groups: int) -> TrainingPayload:
        settings = {"n_groups": n_groups, "batch_size": 2 ** (n_groups % 8), "seed": n_groups}
        return create_training_payload(path, tmp_path / "out", settings)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(create, range(1, 17)))

    assert legacy.cfg in [_projected(payload) for payload in together]
    assert together == [create(n_groups) for n_groups in range(1, 17)]


def _projected(payload: TrainingPayload) -> dict[str, object]:
    parameters: dict[str, object] = {}
    legacy.update_legacy_dict(parameters, payload.tf_training_config)
    return parameters


def test_paths_may_be_text_and_folders_are_made(scan_file: Writer, tmp_path: Path) -> None:
    """Text is as good as a path, and the output folder exists afterwards."""
    payload = create_training_payload(str(scan_file()), str(tmp_path / "a" / "b"), {"n_groups": 1})

    assert payload.tf_training_config.output_dir == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


def test_an_execution_record_reaches_the_payload(scan_file: Writer, tmp_path: Path) -> None:
    """What was set on it is kept and recorded."""
    execution = PyTorchExecutionConfig(
        accelerator="gpu",
        deterministic=False,
        num_workers=4,
        enable_checkpointing=False,
        checkpoint_mode="max",
        logger_backend=None,
    )

    payload = create_training_payload(scan_file(), tmp_path, {"n_groups": 1}, execution)

    assert payload.execution_config == execution
    assert payload.overrides_applied["accelerator"] == "gpu"
    assert payload.overrides_applied["num_workers"] == 4
    assert payload.overrides_applied["logger_backend"] is None


def test_an_inference_payload_is_structured(scan_file: Writer, tmp_path: Path, model_dir: Path) -> None:
    """An empty placeholder archive warns, and the scan's facts are used."""
    (model_dir / "wts.h5.zip").touch()

    with pytest.warns(UserWarning, match=r"wts\.h5\.zip is empty"):
        payload = create_inference_payload(model_dir, scan_file(), tmp_path / "out", {"n_groups": 128})

    assert isinstance(payload, InferencePayload)
    assert payload.tf_inference_config.n_groups == payload.pt_inference_config.n_groups == 128
    assert payload.tf_inference_config.model_path == model_dir
    assert payload.pt_data_config.N == 64
    assert (tmp_path / "out").is_dir()
    assert legacy.cfg["model_path"] == str(model_dir)


def test_an_archive_outranks_the_scan(scan_file: Writer, tmp_path: Path, model_dir: Path) -> None:
    """A model keeps its size and grid on a scan of another size; the archive may be named itself."""
    training = create_training_payload(scan_file(size=128), tmp_path, {"n_groups": 4, "gridsize": 1})
    path = archive(model_dir, training)

    for model in (model_dir, path):
        payload = create_inference_payload(model, scan_file("b.npz"), tmp_path, {"n_groups": 4})

        assert (payload.pt_data_config.N, payload.tf_inference_config.model.gridsize) == (128, 1)
        assert payload.provenance["N"] is Layer.ARCHIVE


def test_a_missing_archive_is_an_error(scan_file: Writer, tmp_path: Path, model_dir: Path) -> None:
    """A folder without an archive and a missing folder are told apart."""
    with pytest.raises(ValueError, match="Model archive not found"):
        create_inference_payload(model_dir, scan_file(), tmp_path, {"n_groups": 1})
    with pytest.raises(FileNotFoundError, match="Model directory not found"):
        create_inference_payload(tmp_path / "gone", scan_file(), tmp_path, {"n_groups": 1})


@pytest.mark.parametrize("damage", ["bytes", "truncated", "no config", "config"])
def test_a_corrupt_archive_is_an_error(scan_file: Writer, tmp_path: Path, model_dir: Path, damage: str) -> None:
    """No corrupt archive falls back to anything."""
    training = create_training_payload(scan_file(), tmp_path, {"n_groups": 4})
    path = archive(model_dir, training)
    if damage == "bytes":
        path.write_bytes(b"not a zip")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-30])
    else:
        with zipfile.ZipFile(path, "w") as stored:
            stored.writestr("other" if damage == "no config" else "config.json", "{}")

    with pytest.raises(ArchiveError, match="wts"):
        create_inference_payload(model_dir, scan_file(), tmp_path, {"n_groups": 1})


@pytest.mark.parametrize(("shape", "size"), [((64, 64), 64), ((3, 128, 128), 128), ((64, 64, 1), 64), ((37, 37), 37)])
def test_the_probe_size_is_the_side_of_a_frame(scan_file: Writer, shape: tuple[int, ...], size: int) -> None:
    """Modes come first and do not count."""
    assert infer_probe_size(scan_file(probeGuess=np.ones(shape, np.complex64))) == size


@pytest.mark.parametrize("shape", [(64, 32), (64,), (), (2, 64, 32), (1, 2, 64, 64), (0, 0)])
def test_an_odd_probe_has_no_size(scan_file: Writer, shape: tuple[int, ...]) -> None:
    """The message shows the shape."""
    with pytest.raises(ScanFileError, match="probeGuess"):
        infer_probe_size(scan_file(probeGuess=np.ones(shape, np.complex64)))


@pytest.mark.parametrize("damage", ["no probe", "empty", "text", "truncated", "directory", "header"])
def test_an_unreadable_file_has_no_size(scan_file: Writer, tmp_path: Path, damage: str) -> None:
    """Every kind of damage is one error that names the file."""
    path = scan_file(probeGuess=None) if damage == "no probe" else scan_file()
    if damage == "directory":
        path = tmp_path
    elif damage == "header":
        with zipfile.ZipFile(path, "w") as stored:
            stored.writestr("probeGuess.npy", b"\x93NUMPY\x01\x00\x05\x00spam!")
    elif damage != "no probe":
        content = {"empty": b"", "text": b"hello", "truncated": path.read_bytes()[:-40]}[damage]
        path.write_bytes(content)

    with pytest.raises(ScanFileError, match=str(path)):
        infer_probe_size(path)


def test_a_size_that_is_not_supported_is_an_error(scan_file: Writer, tmp_path: Path) -> None:
    """The file's fact is judged like any other setting."""
    with pytest.raises(ConfigError, match=r"scan\.N.*12"):
        create_training_payload(scan_file(size=12), tmp_path, {"n_groups": 1})


def test_layers_below_the_overrides(scan_file: Writer, tmp_path: Path) -> None:
    """The command line outranks a configuration file, and both count as said."""
    payload = create_training_payload(
        scan_file(), tmp_path, cli={"n_groups": 2, "nepochs": 3}, file={"nepochs": 4, "batch_size": 8}
    )

    assert dict(payload.overrides_applied) == {"n_groups": 2, "nepochs": 3, "batch_size": 8}
    assert payload.provenance["batch_size"] is Layer.FILE


def test_no_framework_is_loaded(scan_file: Writer, tmp_path: Path) -> None:
    """Building a payload in a fresh process imports neither torch, lightning nor tensorflow."""
    code = (
        "import sys; from ptycho_adapters.factory import create_training_payload as create;"
        "create(sys.argv[1], sys.argv[2], {'n_groups': 1});"
        "print(sorted({'torch', 'lightning', 'tensorflow', 'scipy'} & set(sys.modules)))"
    )

    run = subprocess.run(
        [sys.executable, "-c", code, str(scan_file()), str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert run.stdout.strip() == "[]"
