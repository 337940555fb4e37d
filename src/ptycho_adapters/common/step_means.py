"""The losses of a training step by step, in a bounded number of means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptycho_adapters.common.model import StepLoss

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_ROWS = 512

Row = tuple[int, float, int]


class StepMeans:
    """Means of the losses of consecutive batches; when there are too many, neighbours are joined.

    Attributes:
        rows: (optimiser steps of the run by the last batch, mean loss, number of batches), in order; plain numbers, so
            that they can be stored.
    """

    def __init__(self, rows: Iterable[Row] = (), *, most: int = MOST_ROWS) -> None:
        self.rows = [(int(step), float(loss), int(batches)) for step, loss, batches in rows]
        self._most = most

    def means(self) -> tuple[StepLoss, ...]:
        """Give what was taken down."""
        return tuple(StepLoss(step=step, train=loss) for step, loss, _ in self.rows)

    def append(self, row: Row) -> None:
        """Take down the loss of a batch."""
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
