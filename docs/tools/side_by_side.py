"""Phases of results beside each other: `python docs/tools/side_by_side.py OUT.png NAME=RESULT/object.h5 ...`.

Each phase with its own grey scale, from the second to the ninety-eighth percentile of what is well covered, so that
neither noise at the rim nor a constant phase decides what is seen.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ptycho_adapters import read_product

_WELL_COVERED, _DPI, _PANEL_IN, _TITLE_IN = 0.2, 90, 4.4, 0.3


def draw(out: Path, named: list[tuple[str, Path]]) -> None:
    """Write the picture.

    Args:
        out: PNG file.
        named: titles and products.
    """
    products = [read_product(path) for _, path in named]
    height, width = products[0].object.shape[-2:]
    figure = Figure(figsize=(_PANEL_IN * len(named), _PANEL_IN * height / width + _TITLE_IN), layout="constrained")
    panels = figure.subplots(1, len(named), squeeze=False)[0]
    for axes, (title, _), product in zip(panels, named, products, strict=True):
        phase = np.angle(product.object)
        covered = np.ones(phase.shape, bool)
        if product.coverage is not None:
            covered = product.coverage > _WELL_COVERED * product.coverage.max()
        rows, columns = np.nonzero(covered.any(axis=1))[0], np.nonzero(covered.any(axis=0))[0]
        low, high = np.percentile(phase[covered], (2, 98))
        shown = np.where(covered, phase, np.nan)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        axes.imshow(shown, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    figure.savefig(out, dpi=_DPI)
    with Image.open(out) as coloured:
        grey = coloured.convert("L")
    grey.save(out, optimize=True)  # half the size, and nothing on it has a colour


if __name__ == "__main__":
    draw(Path(sys.argv[1]), [(name, Path(path)) for name, _, path in (each.partition("=") for each in sys.argv[2:])])
