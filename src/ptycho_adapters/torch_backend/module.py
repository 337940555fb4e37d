"""The training step: gather, predict on the canvas, propagate, compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning import LightningModule
from torch import nn

from ptycho_adapters.torch_backend.canvas import accumulate
from ptycho_adapters.torch_backend.generators import View, run_steps
from ptycho_adapters.torch_backend.objective import MainTerm, Objective, Prediction
from ptycho_adapters.torch_backend.optics import light_of
from ptycho_adapters.torch_backend.optimization import build_optimizer, clip_gradients

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from ptycho_adapters.torch_backend.generators import Generator
    from ptycho_adapters.torch_backend.probe import TrainableProbe
    from ptycho_adapters.torch_backend.resident import Arms, Gathered, ResidentScan
    from ptycho_core.config import TorchTrainingConfig


class PtychoModule(LightningModule):
    """Learns the inversion from the patterns themselves.

    Args:
        generator: network from patterns to the object.
        probe: the illumination, at the flux of the training scan.
        arms: the patterns to train on and, if any, to validate on.
        config: optimiser, loss weights and schedule.
        main: main term of the loss.
        scale_trainable: learn one factor on the expected counts.
    """

    def __init__(
        self,
        generator: Generator,
        probe: TrainableProbe,
        arms: Arms,
        config: TorchTrainingConfig,
        *,
        main: MainTerm,
        scale_trainable: bool,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.probe = probe.requires_grad_(config.probe_trainable)
        self.training_scan = arms.training
        self.validation_scan = arms.validation
        self.canvas = arms.canvas
        self.config = config
        self.objective = Objective.from_config(config, main)
        self.log_scale = nn.Parameter(torch.zeros(()), requires_grad=scale_trainable)

    @property
    def loss_name(self) -> str:
        """Start of the metric names: what the main term is."""
        return self.objective.loss_mode

    def predict_groups(self, indices: Tensor, scan: ResidentScan) -> Prediction:
        """Run the generator on groups of scan indices (B, C)."""
        group = scan.gather(indices)
        size = scan.size
        with torch.autocast(self.device.type, enabled=False):
            probes = group.probes(self.probe() * (scan.flux / self.training_scan.flux) ** 0.5)
        view = self._view(group, probes.detach(), scan.good_pixels)
        pixels = self.canvas.pixels
        light = accumulate(view.weight, view.where, pixels).unflatten(1, (self.canvas.height, self.canvas.width))
        drafts, added = zip(*run_steps(self.generator, lambda: (view,), light), strict=True)
        judged = drafts if self.objective.draft_weight else drafts[-1:]
        patches = tuple(draft.patches(view.where, size) for draft in judged)
        tiny = torch.finfo(light.dtype).tiny
        return Prediction(
            single=added[-1] / view.weight.clamp_min(tiny) if self.generator.patchwise else None,
            merged=patches[-1],
            drafts=patches[:-1],
            probes=probes,
            counts=group.counts,
            good_pixels=scan.good_pixels,
            scale=self.log_scale.exp(),
            labels=group.labels,
        )

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch of groups."""
        del batch_idx
        prediction = self.predict_groups(batch[0], self.training_scan)
        with torch.autocast(self.device.type, enabled=False):
            loss, main = self.objective.total(prediction)
        self.log(f"{self.loss_name}_train_loss", main.detach(), on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log the main term on held-out groups."""
        del batch_idx
        prediction = self.predict_groups(batch[0], self.validation_scan)
        with torch.autocast(self.device.type, enabled=False):
            _, main = self.objective.total(prediction)
        self.log(f"{self.loss_name}_val_loss", main, prog_bar=True, batch_size=len(batch[0]))

    def configure_optimizers(self) -> Optimizer:
        """Build the optimiser; the `Schedule` callback sets its learning rates before each step."""
        return build_optimizer(self, self.config)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Bound the network's gradient; the probe keeps its own pace."""
        del optimizer, gradient_clip_val, gradient_clip_algorithm
        clip_gradients(self.generator.parameters(), self.config)

    def _view(self, group: Gathered, probes: Tensor, good_pixels: Tensor | None) -> View:
        """What the generator sees of a group; overlapping patches are weighted by the light on them."""
        return View(
            amplitude=group.counts.sqrt(),
            probes=probes,
            weight=light_of(probes),
            where=self.canvas.indices(group.starts, group.starts.amin(dim=1, keepdim=True), group.counts.shape[-1]),
            good_pixels=good_pixels,
        )
