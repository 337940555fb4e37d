"""Networks, trainings and archives of TensorFlow beside those of torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
import torch

from ptycho_adapters import tensorflow_backend, torch_backend
from ptycho_adapters.common.cnn_structure import CnnStructure
from ptycho_adapters.common.groups import training_set_for
from ptycho_adapters.common.model import ModelRecord
from ptycho_adapters.common.shipped import shipped_weights
from ptycho_adapters.tensorflow_backend.generators.build import build_generator, weights_for
from ptycho_adapters.tensorflow_backend.generators.layers import from_torch, started, to_torch
from ptycho_adapters.tensorflow_backend.training import trainer as tensorflow_trainer
from ptycho_adapters.tensorflow_backend.training.start import arms_of
from ptycho_adapters.tensorflow_backend.training.step import Learner
from ptycho_adapters.torch_backend import generators as torch_generators
from ptycho_adapters.torch_backend.generators.cnn import LegacyCnn
from ptycho_adapters.torch_backend.training import starting_point
from ptycho_adapters.torch_backend.training.trainer import build_module
from ptycho_core.config import DataConfig, TorchModelConfig
from ptycho_core.errors import ArchiveError, ScanError
from tensorflow_sample import as_given, payload_for, quietly, tiny_scan
from tensorflow_training import noisy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.results.reconstruction import Reconstruction

    Weights = dict[str, NDArray[Any]]
    Pair = tuple[tensorflow_backend.TrainedModel, torch_backend.TrainedModel]

SMALL_NETWORKS: dict[str, dict[str, Any]] = {
    "unrolled": {"architecture": "unrolled", "unrolled_steps": 2, "unrolled_repeats": 1},
    "cnn": {"architecture": "cnn"},
}


def first_weights(payload: TrainingPayload) -> Weights:
    """Weights that do something in every layer."""
    return noisy(started(weights_for(payload.pt_model_config, payload.pt_data_config), 3))


def torch_generator(payload: TrainingPayload, weights: Weights) -> torch_generators.Generator:
    """The same network in torch."""
    made = torch_generators.build_generator(payload.pt_model_config, payload.pt_data_config)
    made.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return made


def starting_both_at(weights: Weights, patch: pytest.MonkeyPatch) -> None:
    """Let the trainings of both backends start from the same weights."""
    patch.setattr(
        starting_point,
        "starting_network",
        lambda payload: starting_point.StartingNetwork(generator=torch_generator(payload, weights), pretrained=False),
    )
    patch.setattr("ptycho_adapters.torch_backend.training.trainer.starting_network", starting_point.starting_network)
    patch.setattr(
        tensorflow_trainer,
        "starting_generator",
        lambda payload: build_generator(payload.pt_model_config, payload.pt_data_config, weights),
    )


def reconstructed(backend: Any, model: Any) -> Reconstruction:
    result: Reconstruction = backend.reconstruct(
        model, tiny_scan(), execution_config=quietly(), inference_config=as_given()
    )
    return result


def difference(one: Reconstruction, other: Reconstruction) -> float:
    """Largest difference of two objects."""
    return float(np.abs(one.object - other.object).max())


@pytest.mark.parametrize("architecture", ["unrolled", "cnn"])
@pytest.mark.parametrize(
    "settings", [{}, {"cbam_encoder": False, "cnn_output_mode": "real_imag"}, {"N": 128, "n_filters_scale": 1}]
)
def test_a_network_has_the_weights_of_its_twin(architecture: str, settings: dict[str, Any]) -> None:
    """The same names and shapes."""
    size = settings.get("N", 64)
    model = TorchModelConfig(architecture=architecture, **{k: v for k, v in settings.items() if k != "N"})  # type: ignore[arg-type]
    data = DataConfig(N=size)
    wanted = {
        name: tuple(value.shape) for name, value in torch_generators.build_generator(model, data).state_dict().items()
    }

    assert {name: weight.shape for name, weight in weights_for(model, data).items()} == wanted


def test_the_shipped_weights_fit() -> None:
    """All of them, and no other."""
    wanted = {name: weight.shape for name, weight in weights_for(TorchModelConfig(), DataConfig()).items()}

    assert {name: value.shape for name, value in shipped_weights().items()} == wanted


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (6, 5, 3, 3)])
def test_layouts_are_mapped_both_ways(shape: tuple[int, ...]) -> None:
    """There and back again is the same, bit for bit."""
    value = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    back = to_torch(np.asarray(from_torch(value)))

    assert back.shape == shape
    np.testing.assert_array_equal(back, value)


@pytest.mark.parametrize("architecture", ["unrolled", "cnn"])
def test_one_gradient_and_one_step_of_the_optimiser(architecture: str, tmp_path: Path) -> None:
    """From the same weights, on the same groups."""
    settings = SMALL_NETWORKS[architecture] | {"gradient_clip_val": None, "draft_weight": 0.0}
    ours, theirs = payload_for("tensorflow", tmp_path, **settings), payload_for("pytorch", tmp_path, **settings)
    weights = first_weights(ours)
    data = training_set_for(ours, tiny_scan())
    learner = Learner(build_generator(ours.pt_model_config, ours.pt_data_config, weights), ours.pt_training_config)
    arm, groups = arms_of(ours, data).training, data.groups[0].train[:2]
    module = build_module(theirs, data)
    module.generator.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})

    gradient = learner.gradient(arm, groups)
    main = learner.learn(arm, groups, 1e-3)
    optimizer = module.configure_optimizers()
    loss, wanted = module.objective.total(
        module.predict_groups(torch.tensor(groups, dtype=torch.int64), module.arms.training[0])
    )
    loss.backward()
    optimizer.step()

    assert main == pytest.approx(wanted.item(), rel=1e-5)
    scale = max(float(p.grad.abs().max()) for p in module.generator.parameters() if p.grad is not None)
    for name, parameter in module.generator.named_parameters():
        assert parameter.grad is not None
        assert np.abs(gradient[name] - parameter.grad.numpy()).max() < 1e-4 * scale, name
    # Adam's first step has the length of the rate whatever the gradient; where that is rounding, so is its sign.
    changed = learner.weights()
    for name, parameter in module.generator.named_parameters():
        clear = np.abs(gradient[name]) > 1e-3 * scale
        np.testing.assert_allclose(changed[name][clear], parameter.detach().numpy()[clear], atol=1e-5)


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> Pair:
    """The same training on both backends: seed, order of the data, first weights."""
    folder = tmp_path_factory.mktemp("trained")
    settings = SMALL_NETWORKS["unrolled"] | {"scheduler": "WarmupCosine", "lr_warmup_epochs": 1, "draft_weight": 0.1}
    settings["n_groups"] = 24
    ours, theirs = payload_for("tensorflow", folder, **settings), payload_for("pytorch", folder, **settings)
    with pytest.MonkeyPatch.context() as patch:
        starting_both_at(first_weights(ours), patch)
        return tensorflow_backend.train(ours, tiny_scan()), torch_backend.train(theirs, tiny_scan())


def test_the_same_training_follows_the_same_curve(
    trained: Pair,
) -> None:
    """To a thousandth, over all steps; and keeps the same state."""
    ours, theirs = trained
    curve, beside = ([row.train for row in model.step_losses] for model in trained)

    assert len(curve) >= 20
    np.testing.assert_allclose(curve, beside, rtol=1e-3)
    assert [row.steps for row in ours.history] == [row.steps for row in theirs.history]
    for one, other in zip(ours.history, theirs.history, strict=True):
        assert one.train == pytest.approx(other.train, rel=1e-3)
        assert one.validation == pytest.approx(other.validation, rel=1e-3)
    assert ours.selection is not None
    assert theirs.selection is not None
    assert ours.selection.epoch == theirs.selection.epoch


def test_a_model_of_tensorflow_is_one_of_torch_too(trained: Pair, tmp_path: Path) -> None:
    """Saved here, loaded there: the same object; and loaded here again, the same weights bit for bit."""
    ours, _ = trained
    archive = tensorflow_backend.save_archive(ours, tmp_path)

    there, here = torch_backend.load_archive(archive), tensorflow_backend.load_archive(archive)

    assert difference(reconstructed(torch_backend, there), reconstructed(tensorflow_backend, ours)) < 1e-5
    assert here.payload == ours.payload
    assert here.history == ours.history
    assert {*here.generator.weights} == {*ours.generator.weights}
    for name, value in ours.generator.weights.items():
        np.testing.assert_array_equal(here.generator.weights[name], value)


def test_a_model_of_torch_is_one_of_tensorflow_too(trained: Pair, tmp_path: Path) -> None:
    """And back."""
    _, theirs = trained
    archive = torch_backend.save_archive(theirs, tmp_path)

    here = tensorflow_backend.load_archive(archive)

    assert difference(reconstructed(tensorflow_backend, here), reconstructed(torch_backend, theirs)) < 1e-5


@pytest.mark.parametrize(
    ("structure", "mask"),
    [
        (CnnStructure(size=64, filters_scale=1, outer_width=32), False),
        (
            CnnStructure(
                size=64,
                filters_scale=1,
                outer_width=32,
                combination="cartesian",
                object_scale=None,
                activation="sigmoid",
            ),
            True,
        ),
    ],
)
def test_a_cnn_of_any_structure_gives_the_patches_of_its_twin(structure: CnnStructure, mask: bool) -> None:
    """Through a whole pass, with bad pixels and without."""

    payload = payload_for("tensorflow", Path(), architecture="cnn", amp_activation=structure.activation)
    wanted = weights_for(payload.pt_model_config, payload.pt_data_config, structure)
    weights = noisy(started(wanted, 5))
    twin = LegacyCnn(structure)
    twin.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    scan = tiny_scan()
    if mask:
        bad = np.zeros((64, 64), bool)
        bad[3:9, 30:40] = True
        scan = attrs.evolve(scan, bad_pixels=bad)
    shipped = torch_backend.generalist_for(scan)
    known = ModelRecord(payload=payload, probes=shipped.probes, history=(), code_version="", probe_refined=False)
    network = build_generator(payload.pt_model_config, payload.pt_data_config, weights, structure)
    ours, theirs = tensorflow_backend.TrainedModel.of(known, network), torch_backend.TrainedModel.of(known, twin.eval())

    objects = [
        backend.reconstruct(model, scan, execution_config=quietly(), inference_config=as_given())
        for backend, model in ((tensorflow_backend, ours), (torch_backend, theirs))
    ]

    assert difference(*objects) < 1e-5
    assert objects[0].metrics == pytest.approx(objects[1].metrics, rel=1e-5)


def test_a_network_that_is_not_built_here_is_named_with_both_backends(tmp_path: Path) -> None:
    """An archive of torch's unet is not TensorFlow's to take."""
    payload = payload_for("pytorch", tmp_path, architecture="unet")
    shipped = torch_backend.generalist_for(tiny_scan())
    generator = torch_generators.build_generator(payload.pt_model_config, payload.pt_data_config)
    model = torch_backend.TrainedModel(
        payload=payload, generator=generator, probes=shipped.probes, history=(), code_version=""
    )
    archive = torch_backend.save_archive(model, tmp_path)

    with pytest.raises(
        ArchiveError, match="which backend tensorflow has built, found 'unet', trained with backend pytorch"
    ):
        tensorflow_backend.load_archive(archive)


def test_several_scans_are_refused_by_name(tmp_path: Path) -> None:
    """Rather than the first one trained on."""
    with pytest.raises(Exception, match="scans: expected one, with backend tensorflow, found 2") as caught:
        training_set_for(payload_for("tensorflow", tmp_path), [tiny_scan(), tiny_scan()])
    assert not isinstance(caught.value, ScanError)
