"""Models of the legacy software: what they computed comes back, stage by stage, and as models of this library."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
import torch

from legacy_archive_sample import (
    SAMPLES,
    keras,
    parameters,
    saved_model,
    structure,
    torch_bundle,
    unzipped,
    zipped,
)
from ptycho_adapters.legacy_archives import Generation, read_legacy_archive
from ptycho_adapters.torch_backend import load_archive, reconstruct, save_archive
from ptycho_adapters.torch_backend.generators.cnn import LegacyCnn
from ptycho_adapters.torch_backend.legacy_groups import GroupStages, LegacyGroups, stitched
from ptycho_adapters.torch_backend.legacy_models import read_legacy_model
from ptycho_adapters.torch_backend.physics.legacy_canvas import merge, translate
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.errors import ArchiveError, ScanError
from torch_sample import tiny_scan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from legacy_archive_sample import Made

Stored = dict[str, Any]

CASES = json.loads((SAMPLES / "index.json").read_text())["cases"] if SAMPLES.exists() else {}
NAMES = ("tf_k3polar_gs1", "tf_k3cart_gs2", "tf_savedmodel_gs2", "torch_gs2")
needs_samples = pytest.mark.skipif(not SAMPLES.exists(), reason="the legacy archives are not on this machine")
TF_STAGES = {"obj": "patches", "padded_obj_2": "canvas", "trimmed_obj": "image", "pred_amp_scaled": "amplitudes"}
TORCH_STAGES = {"forward_predict": "patches", "merged": "canvas", "pred_diffraction": "amplitudes"}
SMALL = structure(64, 1, 1)


def _stored(case: str) -> Stored:
    with np.load(SAMPLES / case / "io.npz") as file:
        return dict(file)


def _inputs(stored: Stored) -> tuple[Tensor, Tensor, Tensor | None]:
    """Patterns, offsets (y, x) and probe as the chain takes them."""
    if "X" in stored:
        offsets = stored["coords_relative"][:, :, 0, ::-1]
        return (
            torch.tensor(stored["X"] * stored["input_scale"]),
            torch.tensor(offsets.copy()),
            torch.tensor(stored["probe"]),
        )
    patterns = stored["X_norm"].transpose(0, 3, 1, 2)
    offsets = stored["coords_relative"][:, 0, ::-1].transpose(0, 2, 1)
    return torch.tensor(patterns.copy()), torch.tensor(offsets.copy()), None


def _outputs(stages: GroupStages, stored: Stored) -> Stored:
    """Stages under the names, in the order of axes and in the scale that they are stored in."""
    assert stages.amplitudes is not None
    if "X" in stored:
        found = {name: getattr(stages, stage).numpy() for name, stage in TORCH_STAGES.items()}
        found["pred_diffraction"] = found["pred_diffraction"] / stored["output_scale"]
        return found
    found = {name: getattr(stages, stage).numpy() for name, stage in TF_STAGES.items()}
    found["pred_amp_scaled"] = found["pred_amp_scaled"] * float(stored["intensity_scale"])
    return {name: np.moveaxis(value, 1, -1) if value.ndim == 4 else value[..., None] for name, value in found.items()}


@needs_samples
@pytest.mark.parametrize("case", NAMES)
def test_a_real_archive_gives_what_its_own_software_gave(case: str) -> None:
    """Every stage that was stored is met to the tolerance stated beside it."""
    stored, limits = _stored(case), CASES[case]["atol"]
    patterns, offsets, probe = _inputs(stored)
    chain = LegacyGroups(SAMPLES / case / "wts.h5.zip")

    found = _outputs(chain.stages(patterns, offsets, probe), stored)

    assert chain.canvas_px == CASES[case]["padded_size"]
    for name, value in found.items():
        np.testing.assert_allclose(value, stored[name], rtol=0.0, atol=limits[name], err_msg=name)
    if case == "torch_gs2":
        amplitude, phase = chain.generator.heads(patterns)
        np.testing.assert_allclose(amplitude.detach(), stored["amp"], rtol=0.0, atol=limits["amp"])
        np.testing.assert_allclose(phase.detach(), stored["phase"], rtol=0.0, atol=limits["phase"])


@needs_samples
@pytest.mark.parametrize("case", ["tf_k3cart_gs2", "torch_gs2"])
def test_a_group_gives_the_same_beside_any_others(case: str) -> None:
    """A batch of more than 64 groups gives each what it gets alone."""
    stored, limits = _stored(case), CASES[case]["atol"]
    patterns, offsets, probe = _inputs(stored)
    chain = LegacyGroups(SAMPLES / case / "wts.h5.zip")
    alone = chain.stages(patterns[:1], offsets[:1], probe)

    order = [0, *(1 + n % (len(patterns) - 1) for n in range(64))]
    many = chain.stages(patterns[order], offsets[order], probe)

    assert many.image.shape[0] == 65
    for name, stage in (TORCH_STAGES if "X" in stored else TF_STAGES).items():
        one, other = getattr(many, stage)[:1], getattr(alone, stage)
        torch.testing.assert_close(one, other, rtol=0.0, atol=limits[name])


@needs_samples
def test_a_whole_scan_is_stitched_as_its_software_did() -> None:
    """From the raw patterns to the picture."""
    stored = _stored("tf_k3polar_gs1")
    with np.load(SAMPLES / "synth64.npz") as raw:
        patterns = raw["diffraction"][stored["e2e_nn_indices"][:, 0]].astype(np.float64)
    patterns *= 32.0 / np.sqrt(np.square(patterns).sum(axis=(1, 2)).mean())
    chain = LegacyGroups(SAMPLES / "tf_k3polar_gs1" / "wts.h5.zip")

    stages = chain.stages(torch.tensor(patterns[:, None], dtype=torch.float32), torch.zeros(64, 1, 2))
    picture = stitched(stages.image, torch.tensor(stored["e2e_global_offsets"][:, 0, ::-1, 0].copy()))

    np.testing.assert_allclose(picture, stored["e2e_stitched"][..., 0], rtol=0.0, atol=1e-5)


MADE: Mapping[str, tuple[Callable[[], Made], Generation]] = {
    "keras, polar, 128 px": (lambda: keras(structure(128, 1, 1)), Generation.KERAS_POLAR),
    "keras, cartesian, groups of 9": (
        lambda: keras(structure(64, 3, 2, combination="cartesian", amplitude_channels=1)),
        Generation.KERAS_CARTESIAN,
    ),
    "saved model, 128 px, groups of 4": (
        lambda: saved_model(structure(128, 2, 1, amplitude_channels=1)),
        Generation.SAVED_MODEL,
    ),
    "keras, swish, without a ring, 3 times the channels": (
        lambda: keras(structure(64, 1, 3, activation="silu", ring=False, outer_width=1)),
        Generation.KERAS_POLAR,
    ),
    "keras, softplus, 256 px": (lambda: keras(structure(256, 1, 1, activation="softplus")), Generation.KERAS_POLAR),
    "saved model, relu, 128 px, without a ring, groups of 4": (
        lambda: saved_model(structure(128, 2, 1, amplitude_channels=1, activation="relu", ring=False, outer_width=1)),
        Generation.SAVED_MODEL,
    ),
    "keras, single patterns that are not merged": (
        lambda: keras(structure(64, 1, 1), **{"object.big": False}),
        Generation.KERAS_POLAR,
    ),
    "torch, silu, groups of 4 of which each is seen alone, without a ring": (
        lambda: torch_bundle(
            structure(64, 1, 1, outer_channels=1, activation="silu", block_attention=True, ring=False, outer_width=1),
            notes={"object_big": False, "probe_big": False, "amp_activation": "silu"},
            **{"object.big": False, "gridsize": 2},
        ),
        Generation.TORCH,
    ),
    "torch, single patterns": (
        lambda: torch_bundle(structure(64, 1, 1, outer_channels=1, outer_width=32, block_attention=True)),
        Generation.TORCH,
    ),
    "torch, 128 px, groups of 4, with notes": (
        lambda: torch_bundle(structure(128, 2, 1, outer_width=32), notes={"cbam_encoder": False}),
        Generation.TORCH,
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_an_archive_of_any_size_is_read(name: str, tmp_path: Path) -> None:
    """Other sizes, groups and widths than those of the samples give the network that was stored, weight for weight."""
    make, generation = MADE[name]
    made = make()

    model = read_legacy_model(made.write(tmp_path / "wts.h5.zip"))

    assert read_legacy_archive(tmp_path / "wts.h5.zip").generation is generation
    assert isinstance(model.generator, LegacyCnn)
    found = model.generator.structure
    assert attrs.evolve(found, object_scale=1.0) == made.generator.structure
    for key, value in made.generator.state_dict().items():
        assert torch.equal(model.generator.state_dict()[key], value), key
    assert bool(model.probes) == (generation is not Generation.TORCH)
    assert "secret" not in str(model.payload)


def test_the_object_is_one_where_nothing_is(tmp_path: Path) -> None:
    """Patterns of the probe alone, whose patch is even, give that value in the scale of its own probe as 1."""
    made = keras(SMALL)
    with torch.no_grad():
        for parameter in made.generator.parameters():
            parameter.zero_()
    archive = read_legacy_archive(made.write(tmp_path / "a.zip"))
    probe = archive.parameters.probe
    assert probe is not None
    model = read_legacy_model(tmp_path / "a.zip")
    assert isinstance(model.generator, LegacyCnn)

    # In the legacy scale the probe gives normalised patterns through an object of this value.
    legacy_one = 32.0 / np.linalg.norm(probe)

    assert model.generator.structure.object_scale == pytest.approx(1.0 / legacy_one)
    assert model.flux == pytest.approx(np.square(np.abs(probe)).sum())


def test_a_network_without_a_probe_passes_on_the_light_of_each_pattern(tmp_path: Path) -> None:
    """Under any probe, its patches let as much light through as there are counts."""
    model = read_legacy_model(torch_bundle(structure(64, 2, 1, outer_width=32)).write(tmp_path / "a.zip"))
    generator = torch.Generator().manual_seed(0)
    amplitude = torch.rand(2, 4, 64, 64, generator=generator) * 9.0
    probes = torch.randn(2, 4, 1, 64, 64, generator=generator, dtype=torch.complex64)

    with torch.no_grad():
        patches = model.generator(amplitude, probes)

    light = (patches[:, :, None] * probes).abs().square().sum(dim=(-3, -2, -1))
    torch.testing.assert_close(light, amplitude.square().sum(dim=(-2, -1)))


def test_a_masked_probe_is_that_of_the_training(tmp_path: Path) -> None:
    """A disc of half the pattern's width is left of it, and a transparent object is 1 under that."""
    whole, masked = (
        read_legacy_model(keras(SMALL, **{"probe.mask": mask}).write(tmp_path / f"{mask}.zip"))
        for mask in (False, True)
    )

    y, x = np.mgrid[:64, :64] - 31.5
    disc = np.hypot(y, x) < 16
    np.testing.assert_array_equal(masked.probe[0], np.where(disc, whole.probe[0], 0))
    assert masked.flux < whole.flux
    assert isinstance(masked.generator, LegacyCnn)
    assert masked.generator.structure.object_scale == pytest.approx(2 * np.sqrt(masked.flux) / 64, rel=1e-6)


def test_single_patterns_are_not_merged_where_the_object_is_small(tmp_path: Path) -> None:
    """The canvas holds the patch in zeros; merging divides it by the number of centres instead."""
    small = LegacyGroups(keras(SMALL, **{"object.big": False}).write(tmp_path / "small.zip"))
    patterns, nowhere = torch.rand(2, 1, 64, 64), torch.zeros(2, 1, 2)

    stages = small.stages(patterns, nowhere)

    assert stages.canvas.shape == (2, 74, 74)
    assert torch.equal(stages.image, stages.patches[:, 0])
    assert torch.equal(stages.canvas[:, 5:-5, 5:-5], stages.patches[:, 0])
    assert not stages.canvas[:, :5].any()


def test_translation_is_bilinear_and_takes_zeros_from_outside() -> None:
    """Whole pixels shift, halves average, and two shifts by halves are no shift by one."""
    image = torch.arange(16.0).reshape(1, 4, 4)

    torch.testing.assert_close(translate(image, torch.tensor([[1.0, 0.0]]))[0, 1:], image[0, :-1])
    half = translate(image, torch.tensor([[0.0, 0.5]]))[0]
    torch.testing.assert_close(half[:, 1:], (image[0, :, 1:] + image[0, :, :-1]) / 2)
    torch.testing.assert_close(half[:, 0], image[0, :, 0] / 2)
    assert not translate(image, torch.tensor([[9.0, 0.0]])).any()


@pytest.mark.parametrize("masked", [True, False])
def test_patches_of_one_object_merge_to_it(masked: bool) -> None:
    """Where the centres of patches lie, whatever their number, an even object comes back."""
    offsets = torch.tensor([[[0.0, 0.0], [3.0, -2.5]]])

    canvas = merge(torch.full((1, 2, 16, 16), 2.0 + 1.0j), offsets, 24, masked=masked)

    torch.testing.assert_close(canvas[0, 9:13, 11:15], torch.full((4, 4), 2.0 + 1.0j), rtol=2e-3, atol=0.0)


@pytest.mark.parametrize("masked", [True, False])
def test_each_group_has_a_canvas_of_its_own(masked: bool) -> None:
    """Any number of groups, 65 of 4 here, gives each of them what it gives it alone."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(65, 4, 16, 16, generator=generator, dtype=torch.complex64)
    offsets = torch.randn(65, 4, 2, generator=generator) * 3.0

    together = merge(patches, offsets, 26, masked=masked)

    alone = [merge(patches[n : n + 1], offsets[n : n + 1], 26, masked=masked) for n in range(65)]
    assert torch.equal(together, torch.cat(alone))


QUIET = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False)


def test_a_network_of_groups_reconstructs_a_scan(tmp_path: Path) -> None:
    """Each pattern is seen with neighbours, so the result does not depend on the batches, and groups of 4 need 4."""
    model = read_legacy_model(keras(structure(64, 2, 1, amplitude_channels=1)).write(tmp_path / "a.zip"))
    scan, settings = tiny_scan(), TorchInferenceConfig(probe_source="scan")
    batches = (attrs.evolve(QUIET, inference_batch_size=size) for size in (5, 36))

    few, all_at_once = (
        reconstruct(model, scan, execution_config=batch, inference_config=settings) for batch in batches
    )

    assert len(all_at_once.pattern_indices) == 36
    np.testing.assert_allclose(few.object, all_at_once.object, rtol=0.0, atol=1e-5)
    with pytest.raises(ScanError, match=r"at least 4, which the network sees together"):
        reconstruct(model, scan.subset(np.arange(3)), execution_config=QUIET)


@pytest.mark.parametrize("name", ["keras, cartesian, groups of 9", "torch, single patterns"])
def test_a_migrated_model_is_the_same(name: str, tmp_path: Path) -> None:
    """Written in this library's own form and read again, it has the same structure, weights, settings and probes."""
    model = read_legacy_model(MADE[name][0]().write(tmp_path / "old.zip"))

    found = load_archive(save_archive(model, tmp_path / "new.zip"))

    assert isinstance(found.generator, LegacyCnn)
    assert isinstance(model.generator, LegacyCnn)
    assert found.generator.structure == model.generator.structure
    assert found.payload == model.payload
    assert (found.probe_refined, len(found.probes)) == (model.probe_refined, len(model.probes))
    for key, value in model.generator.state_dict().items():
        assert torch.equal(found.generator.state_dict()[key], value)
    for one, two in zip(found.probes, model.probes, strict=True):
        assert np.array_equal(one.probe, two.probe)
        assert one.flux == two.flux


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"size": 128}, "structure.size: expected 64"),
        ({"channels": 4}, "model.safetensors"),
        ({"channels": 10**9}, "structure.channels"),
        ({"outer_width": True}, "structure.outer_width"),
        ({"object_scale": -1.0}, "structure.object_scale"),
        ({"combination": "sum"}, "structure.combination"),
        ({"more": 1}, "structure: expected size"),
    ],
)
def test_a_structure_that_does_not_fit_is_refused(changes: dict[str, object], named: str, tmp_path: Path) -> None:
    """What stands in the manifest of a migrated model is looked at before a network is built of it."""
    model = read_legacy_model(torch_bundle(structure(64, 1, 1, outer_width=32)).write(tmp_path / "old.zip"))
    path = save_archive(model, tmp_path / "new.zip")
    members = unzipped(path.read_bytes())
    manifest = json.loads(members["manifest.json"])
    manifest["structure"] |= changes
    path.write_bytes(zipped({**members, "manifest.json": json.dumps(manifest).encode()}))

    with pytest.raises(ArchiveError, match=named):
        load_archive(path)


def test_a_model_of_the_legacy_software_is_loaded_with_a_word(tmp_path: Path) -> None:
    """A folder with it is enough, and a warning says what it is; parameters are told as settings."""
    keras(SMALL).write(tmp_path / "wts.h5.zip")

    with pytest.warns(UserWarning, match="is a model of the legacy software"):
        model = load_archive(tmp_path)

    assert model.payload.pt_model_config.architecture == "cnn"
    assert model.payload.tf_training_config.nphotons == parameters(SMALL)["nphotons"]
