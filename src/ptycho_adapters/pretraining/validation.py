"""Fresh groups that no training sees: what publishes how good a network is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from ptycho_adapters.pretraining.material import make_material
from ptycho_adapters.pretraining.recipe import draw_size, draw_specimen
from ptycho_adapters.pretraining.resident import to_device
from ptycho_adapters.pretraining.simulated_groups import expose, relative_errors
from ptycho_adapters.torch_backend.execution import network_precision
from ptycho_adapters.torch_backend.generators import run_steps

if TYPE_CHECKING:
    from ptycho_adapters.pretraining.material import Material
    from ptycho_adapters.pretraining.recipe import Specimen
    from ptycho_adapters.pretraining.settings import Settings
    from ptycho_adapters.torch_backend.generators import Generator

_SEED = 7_001  # whatever the seed of a training, it is judged by the same groups
_TEXTURES, _PROBES = 36, 12


def validation_material(*, processes: int = 1) -> Material:
    """Make textures and beams that no training has."""
    return make_material(np.random.default_rng((_SEED, 0)), textures=_TEXTURES, probes=_PROBES, processes=processes)


class Validation:
    """The same groups at every call: sound ones, and the same groups with faults.

    Args:
        settings: say how many groups, and the network's precision.
        material: what they are drawn from.
        device: on which they are simulated.
    """

    def __init__(self, settings: Settings, material: Material, device: torch.device) -> None:
        self._material = to_device(material, device)
        self._precision = settings.precision
        self._sound = _drawn(material, settings.validation_groups, faulty_share=0.0)
        self._faulty = _drawn(material, settings.validation_groups, faulty_share=1.0)

    def errors(self, generator: Generator) -> tuple[float, float]:
        """Geometric means of the relative squared errors of the last draft: of sound groups, and of faulty ones."""
        return self._error(generator, self._sound), self._error(generator, self._faulty)

    @torch.no_grad()
    def _error(self, generator: Generator, specimens: list[Specimen]) -> float:
        device = self._material.device
        photons, errors = torch.Generator(device).manual_seed(_SEED), []
        for specimen in specimens:
            groups = expose([specimen], self._material, photons)
            with network_precision(self._precision, device):
                *_, (draft, _) = run_steps(generator, partial(tuple, [groups.view]), groups.light)
            errors.append(relative_errors(draft.object, groups))
        return float(torch.cat(errors).log().mean().exp())


def _drawn(material: Material, groups: int, *, faulty_share: float) -> list[Specimen]:
    # Each group has a generator of its own, so that both kinds differ in nothing but the faults.
    rngs = (np.random.default_rng((_SEED, 1, k)) for k in range(groups))
    return [draw_specimen(rng, material, size=draw_size(rng, material), faulty_share=faulty_share) for rng in rngs]
