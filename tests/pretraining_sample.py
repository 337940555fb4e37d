"""A little material, a narrow network and bright specimens for the tests of the pretraining."""

from __future__ import annotations

import attrs
import numpy as np

from ptycho_adapters.pretraining.material import Material, make_material
from ptycho_adapters.pretraining.recipe import Specimen, draw_size, draw_specimen
from ptycho_adapters.torch_backend.generators.unrolled import Unrolled
from ptycho_core.config import DataConfig, TorchModelConfig

SIZE_SHARES = {32: 0.7, 48: 0.3}


def little_material() -> Material:
    """A little of everything."""
    return make_material(np.random.default_rng(0), textures=3, probes=4, size_shares=SIZE_SHARES)


def narrow_generator(model: TorchModelConfig, data: DataConfig) -> Unrolled:
    """Two narrow steps where the default network is asked for."""
    assert (model, data) == (TorchModelConfig(), DataConfig())
    return Unrolled((8, 8, 8), steps=2, repeats=1)


def specimens(material: Material, number: int, *, seed: int = 0, faulty_share: float = 0.0) -> list[Specimen]:
    """Draw some groups of any size."""
    rng = np.random.default_rng(seed)
    return [
        draw_specimen(rng, material, size=draw_size(rng, material), faulty_share=faulty_share) for _ in range(number)
    ]


def plain_specimen(material: Material) -> Specimen:
    """A bright specimen without faults, in one mode, off whole pixels."""
    return next(
        attrs.evolve(each, misjudged=None, flux=np.ones_like(each.flux), good_pixels=None)
        for each in specimens(material, 200, seed=3)
        if len(each.mode_shares) == 1 and each.dose > 1e6 and abs(each.object.phase_rad) > 1 and each.fractions_px.any()
    )
