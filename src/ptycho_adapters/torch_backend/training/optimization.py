"""Optimisers, parameter groups and gradient clipping."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import torch
from torch.optim import SGD, Adam, AdamW

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch.nn import Module, Parameter
    from torch.optim import Optimizer

    from ptycho_adapters.torch_backend.physics.probe import TrainableProbe
    from ptycho_core.config import TorchTrainingConfig

_AGC_FLOOR = 1e-3


def build_optimizer(
    network: Module, probes: Sequence[TrainableProbe], scales: Iterable[Parameter], config: TorchTrainingConfig
) -> Optimizer:
    """Build the configured optimiser with a group each for network, probe pixels, aberrations and scales.

    A step leaves a probe alone that none of its patterns were seen under: it has no gradient then.

    Args:
        network: the generator.
        probes: of every scan.
        scales: logarithms of the factors on the expected counts of every scan.
        config: names the optimiser; a group whose quantity is not to be trained has learning rate 0 and no gradient.

    Returns:
        An optimiser whose groups carry `name` and `base_lr`.
    """
    probe_rate = config.learning_rate if config.probe_learning_rate is None else config.probe_learning_rate
    groups: list[dict[str, object]] = [_group("network", network.parameters(), config.learning_rate)]
    if config.probe_trainable:
        groups += [
            _group("probe", [probe.pixels for probe in probes], probe_rate),
            _group("aberrations", [probe.aberrations for probe in probes], config.aberration_learning_rate),
        ]
    learned = [scale for scale in scales if scale.requires_grad]
    if learned:
        groups.append(_group("scale", learned, probe_rate))
    for group in groups[1:]:
        group["weight_decay"] = 0.0
    betas = (config.adam_beta1, config.adam_beta2)
    match config.optimizer:
        case "adam":
            return Adam(groups, betas=betas, weight_decay=config.weight_decay)
        case "adamw":
            return AdamW(groups, betas=betas, weight_decay=config.weight_decay)
        case "sgd":
            return SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)
        case unknown:
            assert_never(unknown)


def _group(name: str, parameters: Iterable[Parameter], rate: float) -> dict[str, object]:
    return {"params": list(parameters), "lr": rate, "base_lr": rate, "name": name}


def clip_gradients(parameters: Iterable[Parameter], config: TorchTrainingConfig) -> None:
    """Bound gradients in place, as configured: by global norm, by value, or adaptively."""
    limit = config.gradient_clip_val
    if limit is None:
        return
    match config.gradient_clip_algorithm:
        case "norm":
            torch.nn.utils.clip_grad_norm_(parameters, limit)
        case "value":
            torch.nn.utils.clip_grad_value_(parameters, limit)
        case "agc":
            clip_adaptively(parameters, limit)
        case unknown:
            assert_never(unknown)


@torch.no_grad()
def clip_adaptively(parameters: Iterable[Parameter], ratio: float) -> None:
    """Bound each unit's gradient norm by a share of its weight norm (Brock et al., arXiv 2102.06171, eq. 3).

    Args:
        parameters: those with a gradient are changed in place; a unit is a slice along the first axis.
        ratio: largest gradient norm over weight norm.
    """
    for parameter in parameters:
        if parameter.grad is None:
            continue
        axes = tuple(range(1, parameter.ndim)) or None
        weight = torch.linalg.vector_norm(parameter, dim=axes, keepdim=True).clamp_min(_AGC_FLOOR)
        gradient = torch.linalg.vector_norm(parameter.grad, dim=axes, keepdim=True)
        parameter.grad.mul_((ratio * weight / gradient.clamp_min(torch.finfo(gradient.dtype).tiny)).clamp_max(1.0))
