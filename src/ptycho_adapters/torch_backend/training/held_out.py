"""What the patterns that are held out say of a training: before its first step, and of what is kept in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptycho_adapters.common.monitoring import start_is_kept
from ptycho_adapters.common.schedule import Clock
from ptycho_adapters.torch_backend.execution import network_precision, pick_device, precision_on

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ptycho_adapters.common.groups import TrainingGroups
    from ptycho_adapters.common.schedule import TimeLimit
    from ptycho_adapters.torch_backend.training.module import PtychoModule
    from ptycho_core.config.payload import TrainingPayload

_MOST_FOR_ONE_LOOK = 0.08  # of the time of the run


@attrs.frozen(kw_only=True, eq=False)
class Start:
    """Where a training starts from, and how well that explains what is held out.

    Attributes:
        loss: mean of the main term over the groups below; None where nothing is held out.
        groups: (G, C) groups of each scan that the run validates on: as many of those held out as it has time for.
        seconds: that looking at them took.
        state: weights and probes.
    """

    loss: float | None
    groups: tuple[NDArray[np.int32], ...]
    seconds: float
    state: dict[str, Tensor]

    @property
    def n_patterns(self) -> int:
        """Patterns that one look takes."""
        return sum(groups.size for groups in self.groups)

    def is_kept(self, end_loss: float | None) -> bool:
        """Tell whether this is what is kept: unless the end of the training explains what is held out better.

        Args:
            end_loss: of the end, on the same groups; None where it was not measured.
        """
        return self.loss is not None and end_loss is not None and start_is_kept(self.loss, end_loss)


@torch.no_grad()
def look_at_start(
    module: PtychoModule, payload: TrainingPayload, drawn: Sequence[TrainingGroups], limit: TimeLimit
) -> Start:
    """Measure the loss of the groups that are held out before the first step.

    Args:
        module: what will be trained, on the CPU.
        payload: resolved settings.
        drawn: groups of each scan.
        limit: of the run. In a run that has little time, only some of the groups are looked at, and only those are
            validated on later: a look takes a small share of the time.

    Returns:
        Weights, probes and loss.
    """
    held_out, clock = [groups.validation for groups in drawn], Clock(limit.now)
    state = {name: value.detach().clone() for name, value in module.state_dict().items()}
    device, precision = pick_device(payload.execution_config.accelerator), precision_on(payload.execution_config)
    losses: list[Tensor] = []
    sizes: list[int] = []
    taken = [0] * len(held_out)
    too_long, training = limit.part(_MOST_FOR_ONE_LOOK), module.training
    module.to(device).eval()
    for scan, begin, end in _in_turns(held_out, payload.pt_training_config.batch_size if limit.seconds is None else 1):
        if losses and too_long():
            break
        indices = torch.tensor(held_out[scan][begin:end], dtype=torch.int64, device=device)
        with network_precision(precision, device):
            losses.append(module.held_out_loss(indices, scan))
        sizes.append(len(indices))
        taken[scan] = end
    module.cpu().train(training)
    weights = torch.tensor(sizes, dtype=torch.float64)
    loss = float((torch.stack(losses).cpu().double() * weights).sum() / weights.sum()) if losses else None
    groups = tuple(each[:number] for each, number in zip(held_out, taken, strict=True))
    return Start(loss=loss, groups=groups, seconds=clock.elapsed_s if losses else 0.0, state=state)


def _in_turns(held_out: Sequence[NDArray[np.int32]], batch_size: int) -> Iterator[tuple[int, int, int]]:
    """Yield batches of groups, a scan after the other: its number, and the first and the last group, exclusive."""
    longest = max(map(len, held_out), default=0)
    for begin in range(0, longest, batch_size):
        for scan, groups in enumerate(held_out):
            if begin < len(groups):
                yield scan, begin, min(begin + batch_size, len(groups))
