"""Memory of the torch backend: measured on one group, and refused before it is taken."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np
import pytest
import torch

from cli_samples import tiny_scan as scan_file
from ptycho_adapters import legacy
from ptycho_adapters.cli import main
from ptycho_adapters.common.groups import training_set
from ptycho_adapters.common.patterns import mean_flux
from ptycho_adapters.torch_backend import generalist_for, reconstruct, save_archive, train
from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_adapters.torch_backend.generators import build_generator
from ptycho_adapters.torch_backend.inference.memory import check_reconstruction, check_residency, kept_per_pixel
from ptycho_adapters.torch_backend.memory import residence
from ptycho_adapters.torch_backend.training.memory import check_patterns, check_training, kept_for_gradient
from ptycho_adapters.torch_backend.training.trainer import build_module
from ptycho_core.config import DataConfig, TorchInferenceConfig, TorchModelConfig
from ptycho_core.errors import Problem
from ptycho_core.memory import MemoryDemand, MemoryShortageError, training_demand
from torch_sample import payload_for, quick_training, tiny_scan

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.torch_backend.training.module import PtychoModule
    from ptycho_core.measurement.scan import Scan

FREE = "ptycho_adapters.torch_backend.memory.available_memory"
TRAINING = "ptycho_adapters.torch_backend.training.memory"
RECONSTRUCTION = "ptycho_adapters.torch_backend.inference.memory"
# 36 patterns of 64 px, measured as uint16: three copies while they are prepared.
PREPARED = 3 * 36 * 64 * 64 * 2


def module_and_groups(folder: Path, **overrides: object) -> tuple[PtychoModule, torch.Tensor]:
    payload = payload_for(folder, {"probe_autofocus": False, **overrides})
    data = training_set(payload, [tiny_scan()])
    return build_module(payload, data), torch.tensor(data.groups[0].train, dtype=torch.int64)


@pytest.mark.parametrize("architecture", ["unet", "unrolled"])
def test_what_is_kept_grows_with_the_groups(tmp_path: Path, architecture: str) -> None:
    """Four groups keep nearly four times as much as one for the gradient, and far more than their patterns."""
    module, groups = module_and_groups(tmp_path, architecture=architecture)

    one, four = kept_for_gradient(module, groups[:1]), kept_for_gradient(module, groups[:4])

    assert 3.5 * one < four < 4.05 * one
    assert one > 4 * 64 * 64 * 8 * 4


def test_measuring_changes_nothing(tmp_path: Path) -> None:
    """Neither weights nor the random state are touched, and no gradient is left."""
    module, groups = module_and_groups(tmp_path)
    before, state = [p.detach().clone() for p in module.parameters()], torch.get_rng_state()

    kept_for_gradient(module, groups[:1])

    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))
    assert all(parameter.grad is None for parameter in module.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_small_piece_says_what_a_pixel_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network on canvases is asked on 32 px, which says within a tenth what all 64 px of a pattern would."""
    generator = build_generator(TorchModelConfig(), DataConfig(N=64))
    small = kept_per_pixel(generator, tiny_scan())
    monkeypatch.setattr("ptycho_adapters.torch_backend.inference.memory._PIECE_PX", 64)

    assert small == pytest.approx(kept_per_pixel(generator, tiny_scan()), rel=0.1)


def test_what_a_pixel_costs_is_measured_in_two_steps() -> None:
    """All steps from the second on cost alike, so a network of many is asked about no more; one of one about that."""
    many, two, one = (
        build_generator(TorchModelConfig(unrolled_steps=steps, unrolled_repeats=0), DataConfig(N=64)).eval()
        for steps in (9, 2, 1)
    )
    run = []
    for step in many.steps():
        step.network.register_forward_hook(lambda *_: run.append(1))  # type: ignore[attr-defined]

    assert kept_per_pixel(many, tiny_scan()) == kept_per_pixel(two, tiny_scan())
    assert len(run) == 2
    assert 0.8 < kept_per_pixel(one, tiny_scan()) / kept_per_pixel(two, tiny_scan()) < 1.0


def test_a_batch_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what is needed and which batch size would fit; that one trains."""
    module, groups = module_and_groups(tmp_path, n_groups=16, batch_size=16, neighbor_count=6)
    kept = kept_for_gradient(module, groups[:1])
    weights = sum(parameter.numel() for parameter in module.parameters()) * 20
    monkeypatch.setattr(FREE, lambda: max(PREPARED, round(1.35 * 4.5 * kept) + weights))

    with pytest.raises(MemoryShortageError, match="a batch kept for its gradient") as caught:
        train(payload_for(tmp_path, {"n_groups": 16, "batch_size": 16, "probe_autofocus": False}), tiny_scan())

    assert caught.value.problems[0].fix.startswith("--batch-size 4 ")
    assert train(
        payload_for(tmp_path, {"n_groups": 16, "batch_size": 4, "probe_autofocus": False}), tiny_scan()
    ).history


def test_patterns_that_do_not_fit_are_refused_before_they_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training and reconstruction both look at the patterns first."""
    model = quick_training(tmp_path)
    monkeypatch.setattr(FREE, lambda: PREPARED - 1)

    with pytest.raises(MemoryShortageError, match="training does not fit"):
        train(payload_for(tmp_path, {"n_groups": 36, "gridsize": 1, "probe_autofocus": False}), tiny_scan())
    with pytest.raises(MemoryShortageError, match="reconstruction does not fit"):
        reconstruct(model, tiny_scan())


def test_a_reconstruction_that_does_not_fit_names_a_smaller_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fields of all patterns are too much; with the number of patterns that is proposed it works."""
    model = quick_training(tmp_path)
    scan = tiny_scan()
    monkeypatch.setattr(FREE, lambda: 5_000_000)

    with pytest.raises(MemoryShortageError, match="fields of the patterns") as caught:
        reconstruct(model, scan)

    flag, number = caught.value.problems[0].fix.split(" ")[:2]
    assert flag == "--n-subsample"
    result = reconstruct(model, scan, inference_config=TorchInferenceConfig(n_subsample=int(number)))
    assert len(result.pattern_indices) == int(number)


@pytest.mark.parametrize("n_subsample", [None, 16])
def test_a_training_keeps_no_pattern_that_it_does_not_use(tmp_path: Path, n_subsample: int | None) -> None:
    """Only what a group uses is resident, and is found by its scan index; the flux is that of the whole scan."""
    scan = tiny_scan()
    payload = payload_for(tmp_path, {"n_subsample": n_subsample, "n_groups": 8, "probe_autofocus": False})
    data = training_set(payload, [scan])
    (groups,) = data.groups

    resident = build_module(payload, data).arms.training[0].patterns

    used = np.union1d(groups.train, groups.validation)
    assert len(resident.counts) == len(used) == groups.n_patterns <= (n_subsample or 36) + 1
    assert resident.flux == mean_flux(scan)
    whole = ResidentScan(scan)
    for indices in (torch.tensor(each, dtype=torch.int64) for each in (groups.train, groups.validation)):
        found, expected = resident.gather(indices), whole.gather(indices)
        assert torch.equal(found.counts, expected.counts)
        assert torch.equal(found.starts, expected.starts)
        assert torch.equal(found.fractions_px, expected.fractions_px)


@pytest.mark.parametrize("masked", [False, True])
def test_counts_of_two_bytes_stay_so_and_are_gathered_as_they_were(masked: bool) -> None:
    """The largest count survives, bad pixels are 0, and what is gathered equals that of the same scan in float32."""
    bad = np.zeros((64, 64), bool)
    bad[3, 5] = masked
    patterns = tiny_scan().patterns.copy()
    patterns[0, 32, 32] = 65535
    short = attrs.evolve(tiny_scan(), patterns=patterns, bad_pixels=bad if masked else None)
    wide = attrs.evolve(short, patterns=patterns.astype(np.float32))
    indices = torch.tensor([[0, 7, 35]])

    found, expected = ResidentScan(short), ResidentScan(wide)

    assert (found.counts.dtype, expected.counts.dtype) == (torch.uint16, torch.float32)
    assert found.gather(indices).counts.dtype == torch.float32
    assert torch.equal(found.gather(indices).counts, expected.gather(indices).counts)
    assert float(found.gather(indices).counts.max()) == 65535.0
    assert found.flux == expected.flux


def test_a_pattern_that_is_not_kept_cannot_be_taken() -> None:
    """Asking for it is an error, never another pattern."""
    resident = ResidentScan(tiny_scan(), patterns=np.array([3, 5]))

    assert torch.equal(resident.gather(torch.tensor([[5]])).counts, ResidentScan(tiny_scan()).counts[5][None, None])
    with pytest.raises(IndexError):
        resident.gather(torch.tensor([[4]]))


def test_another_scan_to_validate_on_keeps_what_is_used_of_it(tmp_path: Path) -> None:
    """Each of two scans keeps its own patterns, and both count for the memory."""
    payload = payload_for(tmp_path, {"n_groups": 5, "gridsize": 1, "n_subsample": 7, "probe_autofocus": False})
    data = training_set(payload, [tiny_scan()], tiny_scan())

    arms = build_module(payload, data).arms

    assert len(arms.training[0].patterns.counts) == len(arms.validation[0].patterns.counts) == 5
    assert data.groups[0].n_patterns == 10


def test_a_reconstruction_keeps_the_patterns_that_take_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer patterns it fits where all of them do not, and the message says so."""
    model = quick_training(tmp_path)
    free = residence([tiny_scan()]).demand([9]).total
    monkeypatch.setattr(FREE, lambda: free)

    with pytest.raises(MemoryShortageError, match="patterns as counts") as caught:
        check_residency(tiny_scan(), 36, model.payload.execution_config)

    assert caught.value.problems[0].fix.startswith("--n-subsample 8 ")
    check_residency(tiny_scan(), 8, model.payload.execution_config)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("overrides", "flags"),
    [
        ({"n_groups": 9, "neighbor_count": 6}, {"n_subsample"}),
        ({"n_groups": 36, "gridsize": 1}, {"n_groups", "n_subsample"}),
        ({"n_groups": 70, "neighbor_count": 6, "enable_oversampling": True}, {"n_subsample"}),
    ],
)
def test_a_training_on_too_many_patterns_names_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: dict[str, object], flags: set[str], *, apart: bool
) -> None:
    """The message proposes a subsample, with fewer groups where it cannot give as many; with that it fits."""
    scan, held_out = tiny_scan(), tiny_scan() if apart else None
    payload = payload_for(tmp_path, overrides)
    free = residence([scan]).demand([40 if apart else 22]).total
    monkeypatch.setattr(FREE, lambda: free)

    with pytest.raises(MemoryShortageError, match="training does not fit") as caught:
        check_patterns(payload, training_set(payload, [scan], held_out))

    words = caught.value.problems[0].fix.split(" (needs")[0].split(" ")
    proposed = {flag[2:].replace("-", "_"): int(number) for flag, number in zip(words[::2], words[1::2], strict=True)}
    assert proposed.keys() == flags
    fewer = payload_for(tmp_path, {**overrides, **proposed})
    check_patterns(fewer, training_set(fewer, [scan], held_out))


def test_on_a_device_of_its_own_patterns_and_batch_count_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer patterns or a smaller batch is proposed; in the processor's memory only the batch is still to come."""
    settings = {"n_groups": 9, "neighbor_count": 6, "batch_size": 2, "probe_autofocus": False}
    payload = payload_for(tmp_path, settings)
    data = training_set(payload, [tiny_scan()])
    (groups,), module = data.groups, build_module(payload, data)
    kept = kept_for_gradient(module, torch.tensor(groups.train[:1], dtype=torch.int64))
    weights = sum(parameter.numel() for parameter in module.parameters())
    batch = training_demand(kept_bytes=kept, batch_size=2, n_weights=weights).total
    patterns = residence([tiny_scan()]).demand([groups.n_patterns]).total
    monkeypatch.setattr(f"{TRAINING}.free_bytes", lambda device: batch + patterns - 1)
    check_training(payload, module, data)
    monkeypatch.setattr(f"{TRAINING}.pick_device", lambda accelerator: torch.device("cuda"))

    with pytest.raises(MemoryShortageError, match="a batch kept for its gradient") as caught:
        check_training(payload, module, data)

    smaller, fewer = re.findall(r"(--batch-size|--n-subsample) (\d+)", caught.value.problems[0].fix)[:2]
    assert (smaller[0], fewer[0]) == ("--batch-size", "--n-subsample")
    mended = payload_for(tmp_path, {**settings, "n_subsample": int(fewer[1])})
    fewer_groups = training_set(mended, [tiny_scan()])
    check_training(mended, build_module(mended, fewer_groups), fewer_groups)


@pytest.mark.parametrize("command", ["train", "infer"])
def test_commands_end_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """A shortage is the user's to mend: code 2, the amounts, and no result."""
    scan, out = scan_file(tmp_path), tmp_path / "out"
    save_archive(quick_training(tmp_path / "m"), tmp_path / "model")
    monkeypatch.setattr(FREE, lambda: 1000)
    line = {
        "train": f"train --train-data-file {scan} --output-dir {out} --n-groups 8 --accelerator cpu "
        "--no-probe-autofocus --gridsize 1",
        "infer": f"infer --model-path {tmp_path / 'model'} --test-data {scan} --output-dir {out} --accelerator cpu",
    }

    with legacy.legacy_scope():
        code = main(line[command].split())

    message = capsys.readouterr().err
    assert code == 2
    assert "at most 1 kB, which is free" in message
    assert "patterns as counts" in message
    assert not list(out.rglob("*.h5*"))


def test_a_canvas_beyond_the_tiles_needs_no_larger_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the canvas asks for four times the images, and for no more of the network than one passage of it."""
    model = quick_training(tmp_path, {"architecture": "unrolled"})
    asked: list[MemoryDemand] = []
    monkeypatch.setattr(f"{RECONSTRUCTION}.check_memory", lambda _what, demand, *_: asked.append(demand))

    for side in (3000.0, 6000.0):
        check_reconstruction(model.generator, _wide(side), np.arange(36), torch.device("cpu"), batch_size=8)

    small, large = asked
    assert large.parts["network"] == small.parts["network"]
    assert large.parts["canvas"] == pytest.approx(4 * small.parts["canvas"], rel=1e-3)


def _wide(side_px: float) -> Scan:
    """The tiny scan's patterns all over a large object."""
    scan = tiny_scan()
    spread = scan.positions_px - scan.positions_px.min(axis=0)
    return attrs.evolve(scan, positions_px=spread / spread.max(axis=0) * (side_px - 65), object=None)


def test_a_finish_that_does_not_fit_is_refused_with_the_flag_that_leaves_it_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it remembers and solves for counts; where the pass alone fits, that is proposed."""
    generator, given = build_generator(TorchModelConfig(), DataConfig()), (np.arange(36), torch.device("cpu"))
    demands: list[MemoryDemand] = []
    with monkeypatch.context() as patch:
        patch.setattr(f"{RECONSTRUCTION}.check_memory", lambda _what, demand, *_: demands.append(demand))
        check_reconstruction(generator, _wide(2000.0), *given, batch_size=8, finished=True)
    alone, finish = (demand.total for demand in demands)
    assert alone < finish
    monkeypatch.setattr(FREE, lambda: finish - 1)

    with pytest.raises(MemoryShortageError, match=r"(?s)finish.*changes that the descent remembers") as caught:
        check_reconstruction(generator, _wide(2000.0), *given, batch_size=8, finished=True)

    assert caught.value.problems[0].fix.startswith("--finish none (needs ")
    check_reconstruction(generator, _wide(2000.0), *given, batch_size=8)
    monkeypatch.setattr(FREE, lambda: finish)
    check_reconstruction(generator, _wide(2000.0), *given, batch_size=8, finished=True)


@pytest.mark.parametrize("finish", ["auto", "none"])
def test_a_reconstruction_says_whether_it_is_to_be_finished(
    monkeypatch: pytest.MonkeyPatch, finish: Literal["auto", "none"]
) -> None:
    """The memory of a finish is asked for before any work, and only where there is to be one."""
    asked: list[bool] = []

    def check(*_given: object, finished: bool, **_named: object) -> None:
        asked.append(finished)
        raise MemoryShortageError("stop", [Problem(path="memory", expected="more", found="little")])

    monkeypatch.setattr("ptycho_adapters.torch_backend.inference.reconstruct.check_reconstruction", check)
    with pytest.raises(MemoryShortageError):
        reconstruct(generalist_for(tiny_scan()), tiny_scan(), inference_config=TorchInferenceConfig(finish=finish))

    assert asked == [finish != "none"]
