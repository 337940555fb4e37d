"""The losses of a training step by step, in a bounded number of means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ptycho_adapters.torch_backend.trained_model import StepLoss

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

MOST_ROWS = 512
_WAITING = 1024  # tensors that wait on the device before they become one

Row = tuple[int, float, int]


class StepLosses:
    """Means of the losses of consecutive batches; when there are too many, neighbours are joined.

    Losses wait on their device until `fetch` reads them all at once.

    Attributes:
        rows: (optimiser steps of the run by the last batch, mean loss, number of batches), in order; plain numbers, so
            that they can be stored.
    """

    def __init__(self, rows: Iterable[Row] = (), *, most: int = MOST_ROWS) -> None:
        self.rows = [(int(step), float(loss), int(batches)) for step, loss, batches in rows]
        self._most = most
        self._steps: list[int] = []
        self._losses: list[Tensor] = []

    def add(self, step: int, loss: Tensor) -> None:
        """Take down the loss of a batch, (); nothing is read from the device."""
        self._steps.append(step)
        self._losses.append(loss.detach().reshape(1))
        if len(self._losses) >= _WAITING:
            self._losses = [torch.cat(self._losses)]

    def fetch(self) -> None:
        """Read what waits on the device."""
        if not self._losses:
            return
        for step, loss in zip(self._steps, torch.cat(self._losses).tolist(), strict=True):
            self._append((step, loss, 1))
        self._steps, self._losses = [], []

    def means(self) -> tuple[StepLoss, ...]:
        """Give what was fetched."""
        return tuple(StepLoss(step=step, train=loss) for step, loss, _ in self.rows)

    def _append(self, row: Row) -> None:
        # The first row is as full as any.
        if self.rows and self.rows[-1][2] < self.rows[0][2]:
            self.rows[-1] = _joined(self.rows[-1], row)
            return
        if len(self.rows) >= self._most:
            self.rows = [_joined(*pair) for pair in zip(self.rows[::2], self.rows[1::2], strict=True)]
        self.rows.append(row)


def _joined(one: Row, other: Row) -> Row:
    batches = one[2] + other[2]
    return other[0], (one[1] * one[2] + other[1] * other[2]) / batches, batches
