"""The losses of a training step by step, which wait on their device until they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ptycho_adapters.common.step_means import MOST_ROWS, Row, StepMeans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

_WAITING = 1024  # tensors that wait on the device before they become one


class StepLosses(StepMeans):
    """Means of the losses of consecutive batches. Losses wait on their device until `fetch` reads them all at once."""

    def __init__(self, rows: Iterable[Row] = (), *, most: int = MOST_ROWS) -> None:
        super().__init__(rows, most=most)
        self._steps: list[int] = []
        self._losses: list[Tensor] = []

    def add(self, step: int, loss: Tensor) -> None:
        """Take down the loss of a batch, (); nothing is read from the device."""
        self._steps.append(step)
        self._losses.append(loss.detach().reshape(1))
        if len(self._losses) >= _WAITING:
            self._losses = [torch.cat(self._losses)]

    def fetch(self, mean: Callable[[Tensor], Tensor] = lambda own: own) -> None:
        """Read what waits on the device.

        Args:
            mean: of the losses (n,) over all processes that train.
        """
        if not self._losses:
            return
        for step, loss in zip(self._steps, mean(torch.cat(self._losses)).tolist(), strict=True):
            self.append((step, loss, 1))
        self._steps, self._losses = [], []
