"""What is chosen for one pretraining."""

from __future__ import annotations

from typing import Literal, get_args

import attrs

from ptycho_core.errors import ConfigError, Problem, raise_if_any

Precision = Literal["bf16-mixed", "32-true"]


@attrs.frozen(kw_only=True)
class Settings:
    """One pretraining.

    Attributes:
        steps: changes of the weights.
        batch_size: groups of a step, all of one frame size.
        learning_rate: of Muon for the kernels and Adam for the rest, at its highest; a cosine takes it to zero.
        warm_up_steps: over which the learning rate rises.
        seed: of material, draws, photons and first weights.
        first: path of weights to go on with; None starts from random ones.
        precision: of the network; bfloat16 is slower than float32 where the processor has no instructions for it.
        report_every: steps between reports.
        validation_groups: fresh groups of each kind, sound and faulty, that a report judges by.

    Raises:
        ConfigError: values out of range, all of them at once.
    """

    steps: int = 26000
    batch_size: int = 1
    learning_rate: float = 4e-4
    warm_up_steps: int = 300
    seed: int = 0
    first: str | None = None
    precision: Precision = "bf16-mixed"
    report_every: int = 500
    validation_groups: int = 32

    def __attrs_post_init__(self) -> None:
        least = {"steps": 1, "batch_size": 1, "warm_up_steps": 1, "seed": 0, "report_every": 1, "validation_groups": 1}
        problems = [
            Problem(path=name, expected=f"at least {low}", found=str(getattr(self, name)))
            for name, low in least.items()
            if getattr(self, name) < low
        ]
        if not self.learning_rate > 0:
            problems.append(Problem(path="learning_rate", expected="above zero", found=str(self.learning_rate)))
        if self.precision not in get_args(Precision):
            expected = " or ".join(get_args(Precision))
            problems.append(Problem(path="precision", expected=expected, found=self.precision))
        raise_if_any(ConfigError, "pretraining", problems)
