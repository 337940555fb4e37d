"""The training of the shipped weights: what it minimises, that it can be repeated, stopped and taken up."""

from __future__ import annotations

import contextlib
import json
from itertools import count
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from pretraining_sample import narrow_generator, plain_specimen, specimens
from ptycho_adapters.pretraining import __main__ as command
from ptycho_adapters.pretraining import training
from ptycho_adapters.pretraining.checkpoints import Checkpoint, Progress, read_checkpoint, write_checkpoint
from ptycho_adapters.pretraining.operations import OperationCounter
from ptycho_adapters.pretraining.settings import Settings
from ptycho_adapters.pretraining.simulated_groups import expose, relative_errors
from ptycho_adapters.pretraining.training import Pretraining, save_weights
from ptycho_adapters.pretraining.validation import Validation
from ptycho_adapters.torch_backend.generators import run_steps
from ptycho_adapters.torch_backend.generators.unrolled import Unrolled
from ptycho_core.config import DataConfig, TorchModelConfig
from ptycho_core.errors import ConfigError, DependencyError

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.pretraining.material import Material
    from ptycho_adapters.pretraining.resident import ResidentMaterial
    from ptycho_adapters.pretraining.simulated_groups import SimulatedGroups
    from ptycho_adapters.torch_backend.generators.base import Generator

_CPU = torch.device("cpu")
_SHORT = Settings(steps=3, validation_groups=1, precision="32-true")


@pytest.fixture(scope="module")
def one_size(material: Material) -> Material:
    """The same for frames of 32 px alone: a new size costs a convolution as much as a step."""
    return attrs.evolve(material, size_shares={32: 1.0})


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of two narrow steps wherever the default one is built."""
    monkeypatch.setattr(training, "build_generator", narrow_generator)


def _pretraining(settings: Settings, material: Material) -> Pretraining:
    return Pretraining(settings, material, Validation(settings, material, _CPU), _CPU)


def _weights(generator: Generator) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in generator.parameters()])


def _photons() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.usefixtures("narrow")
def test_the_network_is_trained_with_either_number_of_repeats(
    one_size: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One and two, in turn."""
    pretraining = _pretraining(attrs.evolve(_SHORT, steps=4), one_size)
    seen = []
    learn = pretraining._learn

    def watched(groups: SimulatedGroups) -> torch.Tensor:
        assert isinstance(pretraining.generator, Unrolled)
        seen.append(pretraining.generator.repeats)
        return learn(groups)

    monkeypatch.setattr(pretraining, "_learn", watched)

    [*pretraining.run()]

    assert seen == [1, 2, 1, 2]


@pytest.mark.usefixtures("narrow")
def test_a_pretraining_can_be_repeated(one_size: Material) -> None:
    """Equal settings give equal weights; another seed, precision or batch gives others."""
    settings = attrs.evolve(_SHORT, steps=1, seed=5)
    runs = [
        _pretraining(each, one_size)
        for each in (
            settings,
            settings,
            attrs.evolve(settings, seed=6),
            attrs.evolve(settings, precision="bf16-mixed"),
            attrs.evolve(settings, batch_size=2),
        )
    ]

    reports = [[*run.run()] for run in runs]

    one, same, *others = (_weights(run.generator) for run in runs)
    assert torch.equal(one, same)
    assert not any(torch.equal(one, other) for other in others)
    assert reports[4][-1].operations > reports[0][-1].operations


@pytest.mark.usefixtures("narrow")
def test_a_run_in_pieces_is_the_run_in_one(one_size: Material, tmp_path: Path) -> None:
    """To the last bit, in weights and reports, also where it is cut between two reports."""
    settings = attrs.evolve(_SHORT, steps=3, batch_size=2, learning_rate=1e-2)
    whole = _pretraining(settings, one_size)
    reports = [*whole.run(clock=lambda: 0.0)]
    first, ticks = _pretraining(settings, one_size), count()

    pieces = [*first.run(max_seconds=2, clock=ticks.__next__)]
    write_checkpoint(tmp_path / "c.safetensors", first.checkpoint())
    second = _pretraining(settings, one_size)
    second.go_on(read_checkpoint(tmp_path / "c.safetensors"))
    assert (first.finished, second.progress.step) == (False, 1)
    assert torch.equal(torch.cat(second._recent), torch.cat(first._recent))  # a median may be blind to some of them
    pieces += second.run(clock=lambda: 0.0)

    assert second.finished
    assert [attrs.evolve(each, seconds=0.0) for each in pieces] == reports
    assert torch.equal(_weights(whole.generator), _weights(second.generator))


@pytest.mark.usefixtures("narrow")
def test_a_run_goes_on_as_it_began(one_size: Material) -> None:
    """Every setting that was changed is named, with what it was."""
    checkpoint = _pretraining(_SHORT, one_size).checkpoint()
    changed = _pretraining(attrs.evolve(_SHORT, batch_size=4, learning_rate=1e-3), one_size)

    with pytest.raises(ConfigError, match=r"batch_size: expected 1, .* found 4\n.*learning_rate: .*4e-04|0\.0004"):
        changed.go_on(checkpoint)


def test_only_checkpoints_of_this_version_are_taken_up(tmp_path: Path) -> None:
    """Missing files, other files and other versions are named with what is wrong."""
    weights, older = tmp_path / "weights.safetensors", tmp_path / "older.safetensors"
    save_file({"a": torch.ones(1)}, weights)
    progress = json.dumps({"settings": {}, "version": "0.0.0"})
    save_file({"a": torch.ones(1)}, older, metadata={"pretraining": progress})

    for path, wrong in ((tmp_path / "none", "none"), (weights, "weights"), (older, "of version 0.0.0")):
        with pytest.raises(ConfigError, match=f"resume: expected a checkpoint.*{wrong}"):
            read_checkpoint(path)


def test_settings_out_of_range_are_named_together() -> None:
    """Whatever cannot be."""
    with pytest.raises(ConfigError) as caught:
        Settings(steps=0, batch_size=0, learning_rate=0.0, precision="64")  # type: ignore[arg-type]

    assert [each.path for each in caught.value.problems] == ["steps", "batch_size", "learning_rate", "precision"]


@pytest.mark.usefixtures("narrow")
def test_a_pretraining_learns(one_size: Material, resident: ResidentMaterial, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps on one specimen lower the error of its object by a fifth and more."""
    specimen = plain_specimen(one_size)
    group = expose([specimen], resident, _photons())
    monkeypatch.setattr(training, "draw_batches", lambda *_, **__: [[specimen]])
    trained = _pretraining(attrs.evolve(_SHORT, steps=10, learning_rate=5e-3, warm_up_steps=2), one_size)
    before = _error(trained.generator, group)

    [*trained.run()]

    assert _error(trained.generator, group) < 0.8 * before


def _error(generator: Generator, group: SimulatedGroups) -> float:
    with torch.no_grad():
        return float(relative_errors([*run_steps(generator, lambda: (group.view,), group.light)][-1][0].object, group))


@pytest.mark.usefixtures("narrow")
def test_a_gradient_that_is_not_finite_changes_nothing(one_size: Material) -> None:
    """At the first step there is no past either."""
    pretraining = _pretraining(_SHORT, one_size)
    before = _weights(pretraining.generator)
    for parameter in pretraining.generator.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)

    pretraining._optimizers.step(1e-2)

    assert torch.equal(_weights(pretraining.generator), before)


def test_fresh_groups_differ_in_their_faults_alone(one_size: Material) -> None:
    """The same groups at every call, and worse with faults."""
    validation = Validation(attrs.evolve(_SHORT, validation_groups=8), one_size, _CPU)
    generator = narrow_generator(TorchModelConfig(), DataConfig())

    sound, faulty = validation.errors(generator)

    assert validation.errors(generator) == (sound, faulty)
    assert 0 < sound < faulty


@pytest.mark.parametrize("steps", [2, 3])
def test_operations_are_those_that_torch_counts(material: Material, resident: ResidentMaterial, steps: int) -> None:
    """Looked at on one canvas, told for another, beside the transforms, of which nobody else counts any."""
    small, large = (
        expose([each], resident, _photons())
        for each in sorted(specimens(material, 20), key=lambda each: int(each.starts.max()))[::19]
    )
    generator = narrow_generator(TorchModelConfig(), DataConfig())
    assert isinstance(generator, Unrolled)
    generator.repeats = steps - 2

    def learn(groups: SimulatedGroups) -> None:
        *_, (draft, _) = run_steps(generator, lambda: (groups.view,), groups.light)
        relative_errors(draft.object, groups).mean().backward()

    counter = OperationCounter()
    counter.count(steps, small, learn)
    _, told = counter.count(steps, large, learn)

    with FlopCounterMode(display=False) as whole:
        learn(large)
    patterns, size = large.view.probes[0, :, :, 0, 0].numel(), large.view.probes.shape[-1]
    transforms = (2 * steps + 2 * (steps - 1)) * patterns * 5 * size**2 * 2 * np.log2(size)
    assert large.target.shape != small.target.shape
    assert told == pytest.approx(whole.get_total_flops() + transforms, rel=0.02)


@pytest.mark.usefixtures("narrow")
def test_a_step_stays_on_the_device_and_waits_for_nothing(one_size: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device without values, a tensor of another device or a look at a number would be an error."""

    class NoPhotons:
        def __init__(self, device: torch.device) -> None:
            assert device.type == "meta"

        def manual_seed(self, seed: int) -> NoPhotons:
            return self

    monkeypatch.setattr(torch, "Generator", NoPhotons)
    monkeypatch.setattr(torch, "poisson", lambda rate, generator: torch.empty_like(rate))
    monkeypatch.setattr(torch, "autocast", lambda kind, *_, **__: contextlib.nullcontext(kind))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)
    device = torch.device("meta")
    validation = Validation(_SHORT, one_size, device)
    pretraining = Pretraining(attrs.evolve(_SHORT, batch_size=5), one_size, validation, device)

    operations = [pretraining._step(step) for step in range(2)]

    assert all(operations)
    assert {each.device.type for each in pretraining._recent} == {"meta"}


@pytest.mark.usefixtures("narrow")
def test_weights_are_written_with_their_notes(one_size: Material, tmp_path: Path) -> None:
    """Float16 safetensors that give the network back to within its precision."""
    generator = _pretraining(_SHORT, one_size).generator
    save_weights(generator, tmp_path / "w.safetensors", {"seed": "5"})

    with safe_open(str(tmp_path / "w.safetensors"), framework="pt") as file:
        assert file.metadata() == {"seed": "5"}
        for name, value in generator.state_dict().items():
            torch.testing.assert_close(file.get_tensor(name).float(), value, rtol=1e-3, atol=1e-6)


@pytest.fixture
def little(narrow: None, one_size: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with a narrow network and a little material."""
    monkeypatch.setattr(command, "make_material", lambda _rng, *, processes: one_size)
    monkeypatch.setattr(command, "validation_material", lambda *, processes: one_size)


_FEW = (
    "--steps",
    "3",
    "--seed",
    "3",
    "--report-every",
    "2",
    "--validation-groups",
    "1",
    "--device",
    "cpu",
    "--precision",
    "32-true",
)


@pytest.mark.usefixtures("little")
def test_the_command_gives_the_same_weights_in_pieces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each piece ends with a checkpoint that the next one takes up, under the settings that it holds."""
    whole, pieces = tmp_path / "whole.safetensors", tmp_path / "pieces.safetensors"
    saved = tmp_path / "pieces.checkpoint.safetensors"

    assert command.main(["--output", str(whole), *_FEW]) == 0
    assert command.main(["--output", str(pieces), *_FEW, "--max-seconds", "0"]) == 0
    assert "stopped after 1 of 3 steps" in capsys.readouterr().err
    for _ in "23":
        assert command.main(["--output", str(pieces), "--resume", str(saved), "--max-seconds", "0"]) == 0

    with safe_open(str(whole), framework="pt") as one, safe_open(str(pieces), framework="pt") as other:
        assert one.metadata() == other.metadata()
        assert all(torch.equal(one.get_tensor(name), other.get_tensor(name)) for name in one.keys())  # noqa: SIM118
    logs = [
        [json.loads(line) | {"seconds": 0} for line in path.with_suffix(".jsonl").read_text().splitlines()]
        for path in (whole, pieces)
    ]
    assert logs[0] == logs[1]
    assert [line["step"] for line in logs[0]] == [2, 3]
    assert read_checkpoint(saved).progress.step == 3


@pytest.mark.usefixtures("little")
def test_the_command_goes_on_from_weights(tmp_path: Path) -> None:
    """And notes their name; what a run in another place wrote after the checkpoint is not kept."""
    target, next_ = tmp_path / "weights.safetensors", tmp_path / "next.safetensors"
    command.main(["--output", str(target), *_FEW])

    command.main(["--output", str(next_), *_FEW, "--first", str(target), "--steps", "1", "--learning-rate", "1e-9"])

    with safe_open(str(next_), framework="pt") as new, safe_open(str(target), framework="pt") as old:
        assert new.metadata()["first"] == target.name
        assert (old.metadata()["first"], old.metadata()["seed"]) == ("None", "3")
        for name in old.keys():  # noqa: SIM118 - the file is no mapping
            torch.testing.assert_close(new.get_tensor(name), old.get_tensor(name), rtol=1e-2, atol=1e-5)


@pytest.mark.usefixtures("little")
def test_the_command_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words that name the flag or the setting, with exit code 2 and nothing written."""
    saved = tmp_path / "saved.safetensors"
    write_checkpoint(saved, Checkpoint(progress=Progress(settings=Settings(steps=7)), tensors={}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    output = ["--output", str(tmp_path / "w.safetensors")]

    for flags, words in (
        (["--device", "cuda"], "--device cuda: no such device is available here"),
        (["--resume", str(saved), "--steps", "8"], "steps: expected 7, as in the checkpoint, found 8"),
        (["--batch-size", "0"], "batch_size: expected at least 1, found 0"),
    ):
        assert command.main([*output, *flags]) == 2
        assert words in capsys.readouterr().err

    assert [*tmp_path.iterdir()] == [saved]


def test_auto_takes_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU where there is one; the CPU where it is asked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [command.training_device(name).type for name in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.training_device("auto").type == "cpu"
    with pytest.raises(DependencyError, match="--device cuda"):
        command.training_device("cuda")
