"""Our answer beside pty-chi's LSQ-ML, both through the released Ptychodus client, on the same product.

    make test-ptychodus                                               # once, for its environment
    .venv-ptychodus/bin/pip install --no-deps "ptychi==2.1.*"         # as the client's extra pins it
    .venv-ptychodus/bin/pip install scikit-learn                      # which it wants; torchvision must fit the torch
    PYTHONPATH=shims/ptychodus/tests .venv-ptychodus/bin/python benchmarks/inside_ptychodus.py [--epochs 100]

Seconds are those of the client's call, its child process and imports included. The R-factor is the client's own, of the
product as it is and with its probe brought to the light that was measured: pty-chi hands back a probe on another scale.
Both pictures go beside the figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import inside
import numpy as np
from harness import RESULTS, write
from matplotlib.figure import Figure
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.simulate.diffraction import generate_diffraction_data

from ptycho_adapters.ptychodus.models import write_shipped_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ptychodus.api.product import Product

    from ptycho_core.measurement.scan import Scan

OURS, SOLVER = "ptychopinn_pinn", "pty-chi_lsqml"


def main() -> None:
    """Run both and write figures and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100, help="epochs of LSQ-ML (default: the client's 100)")
    parser.add_argument("--object-size-px", type=int, default=160, help="side of the simulated object (default: 160)")
    given = parser.parse_args()
    scan = inside.made_scan(size_px=given.object_size_px)
    with tempfile.TemporaryDirectory() as scratch:
        folder = inside.staged(scan, Path(scratch) / "in")
        write_shipped_model(Path(scratch) / "model.zip")
        objects, cases = _run(scan, folder, Path(scratch) / "model.zip", epochs=given.epochs)
    write("inside_ptychodus", cases)
    _draw(objects)


def _run(
    scan: Scan, folder: Path, model: Path, *, epochs: int
) -> tuple[Mapping[str, np.ndarray], list[dict[str, object]]]:
    objects: dict[str, np.ndarray] = {}
    cases: list[dict[str, object]] = []
    with inside.client(folder) as (core, product):
        listed = set(core.workflow_api.available_reconstructors())
        # The client takes an unknown name for the one that was chosen last.
        if not {OURS, SOLVER} <= listed:
            message = f"expected {OURS} and {SOLVER}, the client lists {', '.join(sorted(listed))}"
            raise SystemExit(message)
        core.processing_core.processing_api.load_model_from_file(model, algorithm=OURS)
        core.ptychi_reconstructor_library.settings.num_epochs.set_value(epochs)
        for algorithm in (OURS, SOLVER):
            started = time.perf_counter()
            done = product.reconstruct_local(algorithm=algorithm, block=True).get_product()
            seconds = time.perf_counter() - started
            objects[algorithm] = done.object_.get_layer(0)
            found = inside.quality(done, scan)
            rescaled = _of_the_flux_of(done, scan)
            figures = {
                "r_factor": inside.r_factor(done, scan),
                "r_factor_rescaled": inside.r_factor(rescaled, scan),
                **attrs.asdict(found),
            }
            cases.append({"algorithm": algorithm, "patterns": scan.n_patterns, "seconds": seconds, **figures})
    return objects, cases


def _of_the_flux_of(product: Product, scan: Scan) -> Product:
    """Give a product whose patterns hold as much light as those measured, for whoever rescales the probe on the way."""
    simulated = generate_diffraction_data(inside.as_simulated(product)).get_patterns()
    factor = float(np.sqrt(scan.patterns.sum(dtype=float) / simulated.sum()))
    probes = product.probes
    brighter = ProbeSequence(probes.get_array() * factor, probes.get_opr_weights_or_none(), probes.get_pixel_geometry())
    return dataclasses.replace(product, probes=brighter)


def _draw(objects: Mapping[str, np.ndarray]) -> None:
    figure = Figure(figsize=(4 * len(objects), 8), layout="constrained")
    axes = figure.subplots(2, len(objects))
    for column, (name, array) in enumerate(objects.items()):
        axes[0, column].set_title(name)
        axes[0, column].imshow(np.abs(array), cmap="gray", vmin=0.0, vmax=1.3)
        axes[1, column].imshow(np.angle(array), cmap="twilight", vmin=-np.pi, vmax=np.pi)
    figure.savefig(RESULTS / "inside_ptychodus.png", dpi=120)


if __name__ == "__main__":
    main()
