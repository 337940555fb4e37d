"""The training step: gather, predict on the canvas, propagate, compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning import LightningModule
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ptycho_adapters.torch_backend.generators import View, run_steps
from ptycho_adapters.torch_backend.physics.canvas import accumulate
from ptycho_adapters.torch_backend.physics.optics import light_of
from ptycho_adapters.torch_backend.training.objective import Objective, Prediction
from ptycho_adapters.torch_backend.training.optimization import build_optimizer, clip_gradients

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.optim import Optimizer

    from ptycho_adapters.torch_backend.data.arms import Arm, Arms
    from ptycho_adapters.torch_backend.data.groups import GroupBatch
    from ptycho_adapters.torch_backend.data.resident import Gathered
    from ptycho_adapters.torch_backend.generators import Generator
    from ptycho_adapters.torch_backend.physics.probe import TrainableProbe
    from ptycho_core.config import TorchTrainingConfig
    from ptycho_core.config.main_term import MainTerm
    from ptycho_core.measurement.findings import Finding

MAIN = "main"
"""What a training step calls the main term of its loss, beside the loss that is minimised."""


class PtychoModule(LightningModule):
    """Learns the inversion from the patterns themselves.

    Args:
        generator: network from patterns to the object, the same for all scans.
        probes: the illumination of each training scan, at its flux.
        arms: the patterns to train on and, if any, to validate on.
        config: optimiser, loss weights and schedule.
        main: main term of the loss.
        scale_trainable: learn one factor on the expected counts of each scan.

    Attributes:
        settled: whether every probe had the rounds before the training that were meant for it, or one of them at least.
        findings: what was put right about each training scan before the first step.
    """

    settled = True
    findings: tuple[tuple[Finding, ...], ...]

    def __init__(
        self,
        generator: Generator,
        probes: Sequence[TrainableProbe],
        arms: Arms,
        config: TorchTrainingConfig,
        *,
        main: MainTerm,
        scale_trainable: bool,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.probes = tuple(probe.requires_grad_(config.probe_trainable) for probe in probes)
        self.arms = arms
        # What is listed here is trained, stored in checkpoints and moved to the device.
        self.illumination = nn.ModuleList(self.probes)
        self.patterns = nn.ModuleList(arm.patterns for arm in (*arms.training, *arms.validation))
        _leave_to_each_process(self, "patterns.")
        self.config = config
        self.objective = Objective.from_config(config, main)
        self.findings = ((),) * len(self.probes)
        self.log_scales = nn.ParameterList(nn.Parameter(torch.zeros(()), requires_grad=scale_trainable) for _ in probes)

    @property
    def loss_name(self) -> str:
        """Start of the metric names: what the main term is."""
        return self.objective.loss_mode

    def predict_groups(self, indices: Tensor, arm: Arm, counts: Tensor | None = None) -> Prediction:
        """Run the generator on groups of scan indices (B, C) of an arm, whose counts may have been read already."""
        scan = arm.patterns
        group = scan.gather(indices, counts)
        with torch.autocast(self.device.type, enabled=False):
            probes = group.probes(self.probes[arm.probe]() * arm.brightness)
        view = _view(group, probes.detach(), arm)
        canvas = arm.canvas
        light = accumulate(view.weight, view.where, canvas.pixels).unflatten(1, (canvas.height, canvas.width))
        drafts, added = zip(*run_steps(self.generator, lambda: (view,), light), strict=True)
        judged = drafts if self.objective.draft_weight else drafts[-1:]
        patches = tuple(draft.patches(view.where, scan.size) for draft in judged)
        tiny = torch.finfo(light.dtype).tiny
        return Prediction(
            single=added[-1] / view.weight.clamp_min(tiny) if self.generator.patchwise else None,
            merged=patches[-1],
            drafts=patches[:-1],
            probes=probes,
            counts=group.counts,
            good_pixels=scan.good_pixels,
            scale=self.log_scales[arm.probe].exp(),
            labels=group.labels,
            background=arm.background,
        )

    def training_step(self, batch: GroupBatch, batch_idx: int) -> dict[str, Tensor]:
        """Loss of one batch of groups, all of one scan, and its main term."""
        del batch_idx
        prediction = self.predict_groups(batch.indices, self.arms.training[batch.scan], batch.counts)
        with torch.autocast(self.device.type, enabled=False):
            loss, main = self.objective.total(prediction)
        return {"loss": batch.weight * loss, MAIN: batch.weight * main.detach()}

    def held_out_loss(self, indices: Tensor, scan: int, counts: Tensor | None = None) -> Tensor:
        """Main term for held-out groups (B, C) of a scan, ()."""
        prediction = self.predict_groups(indices, self.arms.validation[scan], counts)
        with torch.autocast(self.device.type, enabled=False):
            _, main = self.objective.total(prediction)
        return main

    def validation_step(self, batch: GroupBatch, batch_idx: int) -> None:
        """Log the main term on held-out groups."""
        del batch_idx
        main = self.held_out_loss(batch.indices, batch.scan, batch.counts)
        name = f"{self.loss_name}_val_loss"
        # The mean over the groups of an epoch, those of all processes.
        self.log(name, main, on_step=False, on_epoch=True, batch_size=batch.counted, sync_dist=True)

    def configure_optimizers(self) -> Optimizer:
        """Build the optimiser; the `Schedule` callback sets its learning rates before each step."""
        return build_optimizer(self.generator, self.probes, self.log_scales, self.config)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Bound the network's gradient; the probe keeps its own pace."""
        del optimizer, gradient_clip_val, gradient_clip_algorithm
        clip_gradients(self.generator.parameters(), self.config)


def _leave_to_each_process(module: nn.Module, start: str) -> None:
    """Keep what was measured from being sent between processes: each reads the same, in types that gloo cannot send."""
    names = [name for name, _ in module.named_buffers() if name.startswith(start)]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)  # noqa: SLF001 - its only way


def _view(group: Gathered, probes: Tensor, arm: Arm) -> View:
    """What the generator sees of a group; overlapping patches are weighted by the light on them."""
    corner = group.starts.amin(dim=1, keepdim=True)
    return View(
        amplitude=group.counts.sqrt(),
        probes=probes,
        weight=light_of(probes),
        where=arm.canvas.indices(group.starts, corner, arm.patterns.size),
        good_pixels=arm.patterns.good_pixels,
        background=arm.background,
    )
