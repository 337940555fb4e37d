"""The one-page summary of a demonstration: the figures as text and everything else as one picture."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from ptycho_adapters.atomic import commit_files
from ptycho_adapters.evaluation.area import Area, judge
from ptycho_adapters.evaluation.objects import read_object
from ptycho_adapters.plotting.curves import draw_losses, training_curves
from ptycho_adapters.plotting.figures import blank, write_png
from ptycho_adapters.torch_backend import load_archive
from ptycho_core.results.alignment import ComparisonSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ptycho_adapters.torch_backend import TrainedModel
    from ptycho_core.results.metrics import Comparison

    Image = NDArray[np.float64]

_SHOWN = (
    ("phase_correlation", "correlation of the phase with the truth"),
    ("amplitude_correlation", "correlation of the amplitude with the truth"),
    ("phase_mae_rad", "mean phase error / rad"),
    ("amplitude_mae", "mean amplitude error"),
    ("phase_frc50_per_px", "phase resolution (ring correlation 1/2) / cycles per px"),
)
_PAGE = """# Demonstration

A model was trained for {steps} steps ({training_s:.0f} s) on a simulated scan and then reconstructed scans of
objects that it had never seen. Everything together took {total_s:.0f} s (code version {version}).

| figure | {names} |
|---|{rules}
{rows}

Before the comparison, what a measurement leaves free is removed: a global phase, a scale, a phase ramp and a shift.
Judged is every pixel with more than a tenth of the largest coverage.

![truth, reconstruction, probe and loss](summary.png)

Each of {folders} holds `object.h5`, `object.tif`, `amplitude.png`, `phase.png`, `comparison.png` and `evaluation.json`.
The model is in `model`, the scans are in `scans`.
"""


def write_report(folder: Path, names: Sequence[str], *, seconds: float) -> list[Path]:
    """Write `summary.md` and `summary.png`.

    Args:
        folder: of the demonstration.
        names: the reconstructed objects, each a subfolder with a result and an evaluation, its scan in `scans`.
        seconds: duration of the whole demonstration.

    Returns:
        The two files.
    """
    model = load_archive(folder / "model")
    comparisons = {name: _compared(folder, name) for name in names}
    text = _text(folder, model, comparisons, seconds)
    page, picture = folder / "summary.md", folder / "summary.png"
    figure = _picture(model, comparisons)
    commit_files(
        {
            page: lambda path: _write(path, text),
            picture: lambda path: write_png(figure, path),
        }
    )
    return [page, picture]


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _compared(folder: Path, name: str) -> Comparison:
    result, truth = read_object(folder / name / "object.h5"), read_object(folder / "scans" / f"{name}.npz")
    return judge(result, truth, Area(), ComparisonSettings(), name=name)


def _text(folder: Path, model: TrainedModel, comparisons: Mapping[str, Comparison], seconds: float) -> str:
    training = json.loads((folder / "model" / "summary.json").read_text())["figures"]
    rows = [
        f"| {words} | " + " | ".join(f"{comparison.figures()[key]:.3f}" for comparison in comparisons.values()) + " |"
        for key, words in _SHOWN
    ]
    return _PAGE.format(
        steps=training["steps"],
        training_s=training["seconds"],
        total_s=seconds,
        version=model.code_version,
        names=" | ".join(comparisons),
        rules="---:|" * len(comparisons),
        rows="\n".join(rows),
        folders=", ".join(f"`{name}`" for name in comparisons),
    )


def _picture(model: TrainedModel, comparisons: Mapping[str, Comparison]) -> Figure:
    """Draw one row per object (phase and amplitude, truth and result) and one with probe and loss."""
    rows = len(comparisons) + 1
    figure = blank((13.0, 3.4 * rows), dpi=110)
    axes = figure.subplots(rows, 4, squeeze=False)
    for row, (name, comparison) in zip(axes, comparisons.items(), strict=False):
        _draw_comparison(figure, row, name, comparison)
    _draw_training(figure, axes[-1], model)
    return figure


def _draw_comparison(figure: Figure, axes: Sequence[Axes], name: str, comparison: Comparison) -> None:
    pair = {"truth": comparison.reference, "reconstruction": comparison.reconstruction}
    turn = np.exp(-1j * np.angle(comparison.reference[comparison.mask].mean()))
    scores = {"phase": comparison.phase_correlation, "amplitude": comparison.amplitude_correlation}
    views = {
        "phase": [np.angle(array * turn) for array in pair.values()],
        "amplitude": list(map(np.abs, pair.values())),
    }
    axes[0].set_ylabel(name)
    for kind, shown in views.items():
        low, high = np.percentile(shown[0][comparison.mask], [0.5, 99.5])
        for word, view in zip(pair, shown, strict=True):
            target = axes[2 * (kind == "amplitude") + (word == "reconstruction")]
            masked = _cropped(np.where(comparison.mask, view, np.nan))
            image = target.imshow(masked, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            score = f", r = {scores[kind]:.3f}" if word == "reconstruction" else ""
            target.set_title(f"{kind}, {word}{score}", fontsize=8)
            target.tick_params(labelsize=7)
            figure.colorbar(image, ax=target, shrink=0.8).ax.tick_params(labelsize=7)


def _draw_training(figure: Figure, axes: Sequence[Axes], model: TrainedModel) -> None:
    refined = model.probe[0]
    lit = np.abs(refined) > 0.05 * np.abs(refined).max()
    images = {
        "given probe / √photon": (np.abs(model.start_probe[0]), "magma"),
        "refined probe / √photon": (np.abs(refined), "magma"),
        "its phase / rad": (np.where(lit, np.angle(refined), np.nan), "twilight"),
    }
    for target, (title, (values, colours)) in zip(axes, images.items(), strict=False):
        image = target.imshow(values, cmap=colours, interpolation="nearest")
        target.set_title(title, fontsize=9)
        target.tick_params(labelsize=7)
        figure.colorbar(image, ax=target, shrink=0.8).ax.tick_params(labelsize=7)
    losses = training_curves(model.history, model.step_losses)
    draw_losses(axes[3], losses, unit="Poisson deviance per pixel")


def _cropped(image: Image) -> Image:
    rows, columns = (np.flatnonzero(np.isfinite(image).any(axis=axis)) for axis in (1, 0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
