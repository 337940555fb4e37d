"""A package with generators as installers leave it: a module, and beside it what the package declares."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MODULE = textwrap.dedent(
    '''
    """Networks of a laboratory."""

    import torch
    from torch import nn

    from ptycho_adapters.torch_backend import Generator


    class Residual(Generator):
        """Two convolutions on the amplitude, of which the second starts at zero; a batch norm counts its batches."""

        def __init__(self, model, data):
            super().__init__()
            width = 4 * model.n_filters_scale
            first, last = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 2, 3, padding=1)
            nn.init.zeros_(last.weight)
            self.network = nn.Sequential(first, nn.BatchNorm2d(width), nn.SiLU(), last)

        def forward(self, amplitude, probes):
            groups, members = amplitude.shape[:2]
            parts = self.network(amplitude.flatten(0, 1)[:, None]).unflatten(0, (groups, members))
            return torch.complex(1.0 + parts[:, :, 0], parts[:, :, 1])


    class Real(Generator):
        def __init__(self, model, data):
            super().__init__()

        def forward(self, amplitude, probes):
            return amplitude


    def no_generator(model, data):
        return nn.Identity()


    A_NUMBER = 3
    '''
)
DECLARED = {
    "residual": "lab_networks:Residual",
    "real": "lab_networks:Real",
    "identity": "lab_networks:no_generator",
    "number": "lab_networks:A_NUMBER",
    "gone": "lab_networks:Gone",
    "away": "lab_networks_of_old:Residual",
}


def install(folder: Path) -> Path:
    """Lay the package out in a folder that is to be on the path, and return that."""
    (folder / "lab_networks.py").write_text(MODULE, encoding="utf-8")
    facts = folder / "lab_networks-1.2.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: Lab_Networks\nVersion: 1.2\n", encoding="utf-8")
    points = "".join(f"{name} = {value}\n" for name, value in DECLARED.items())
    (facts / "entry_points.txt").write_text(f"[ptycho_core.generators]\n{points}", encoding="utf-8")
    return folder
