"""Our answer beside pty-chi's LSQ-ML, both through the released Ptychodus client, on the same product.

    make test-ptychodus                                                      # once, for its environment
    .venv-ptychodus/bin/pip install --no-deps "ptychi==2.1.*" torchvision    # as the client's extra pins it
    .venv-ptychodus/bin/pip install pandas scikit-learn
    .venv-ptychodus/bin/python benchmarks/inside_ptychodus.py                # a simulated scan and its truth
    .venv-ptychodus/bin/python benchmarks/inside_ptychodus.py --scan SCAN.npz --reference OBJECT.npz

Seconds are those of the client's call, its child process and imports included; processor seconds are those of both
processes. The R-factor is the client's own, of the product as it is and with its probe brought to the light that was
measured: pty-chi hands back a probe on another scale. Lengths that a scan file lacks are made up; nothing but the
client's metres depends on them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import lsqml
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness import Figures
    from quality import Judge

    from ptycho_core.measurement.scan import Scan

OURS, SOLVER = "ptychopinn_pinn", "pty-chi_lsqml"
_LENGTHS_M = {"pixel_size_m": 2e-8, "wavelength_m": 1.24e-10, "distance_m": 2.0}

# The client's children come here first, and pty-chi imports torchvision in each of them.
lsqml.mend_torchvision()


def main() -> None:
    """Run all and write figures and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100, help="epochs of LSQ-ML (default: the client's 100)")
    parser.add_argument("--object-size-px", type=int, default=160, help="side of the simulated object (default: 160)")
    parser.add_argument("--scan", type=Path, help="a measured scan instead")
    parser.add_argument("--reference", type=Path, help="object to judge it by")
    parser.add_argument("--name", default="inside_ptychodus", help="of the files in results/")
    given = parser.parse_args()
    sys.path.append(str(Path(__file__).parents[1] / "shims" / "ptychodus" / "tests"))
    from harness import write  # noqa: PLC0415 - the client's children need none of this

    scan, judge = _measured(given.scan, given.reference) if given.scan else _simulated(given.object_size_px)
    with tempfile.TemporaryDirectory() as scratch:
        products, cases = _run(scan, Path(scratch), epochs=given.epochs)
    for case in cases:
        object_ = products[str(case["algorithm"])].object_.get_layer(0)
        case |= {"scores": None if judge is None else judge.scores(object_, (0, 0))}
    write(given.name, cases)
    _draw(given.name, {name: product.object_.get_layer(0) for name, product in products.items()}, scan)


def _simulated(size_px: int) -> tuple[Scan, Judge]:
    import inside  # noqa: PLC0415
    from quality import truth_judge  # noqa: PLC0415

    scan = inside.made_scan(size_px=size_px)
    return scan, truth_judge(scan)


def _measured(path: Path, reference: Path | None) -> tuple[Scan, Judge | None]:
    """Read a scan and lay it onto an object of ones that ends where its patches do."""
    from quality import Judge, reference_judge  # noqa: PLC0415

    from ptycho_adapters.files import read_scan  # noqa: PLC0415
    from ptycho_core.physics.canvas import canvas_frame  # noqa: PLC0415

    scan = read_scan(path).as_counts()
    frame = canvas_frame(scan.positions_px, scan.N)
    lengths = {name: getattr(scan.metadata, name) or value for name, value in _LENGTHS_M.items()}
    laid = attrs.evolve(
        scan,
        positions_px=scan.positions_px - np.array(frame.origin_px),
        object=np.ones(frame.shape, dtype=np.complex64),
        metadata=attrs.evolve(scan.metadata, **lengths),
    )
    if reference is None:
        return laid, None
    found = reference_judge(scan, reference, margin_px=8, region_px=None)
    corner = (found.reference_origin_px[0] - frame.origin_px[0], found.reference_origin_px[1] - frame.origin_px[1])
    return laid, Judge(scan=laid, reference=found.reference, reference_origin_px=corner, margin_px=8)


def _run(scan: Scan, scratch: Path, *, epochs: int) -> tuple[Mapping[str, Any], list[Figures]]:
    """Reconstruct the same product in every way."""
    import inside  # noqa: PLC0415

    from ptycho_adapters.ptychodus.models import write_shipped_model  # noqa: PLC0415

    products: dict[str, Any] = {}
    cases: list[Figures] = []
    folder = inside.staged(scan, scratch / "in")
    models = {name: scratch / f"{name}.zip" for name in ("as it is", "refined")}
    for name, path in models.items():
        write_shipped_model(path, refine_probe=name == "refined")
    with inside.client(folder) as (core, product):
        listed = set(core.workflow_api.available_reconstructors())
        # The client takes an unknown name for the one that was chosen last.
        if not {OURS, SOLVER} <= listed:
            message = f"expected {OURS} and {SOLVER}, the client lists {', '.join(sorted(listed))}"
            raise SystemExit(message)
        core.ptychi_reconstructor_library.settings.num_epochs.set_value(epochs)

        def asked_of(algorithm: str, model: Path | None = None) -> Any:  # noqa: ANN401
            if model is not None:
                core.processing_core.processing_api.load_model_from_file(model, algorithm=algorithm)
            return product.reconstruct_local(algorithm=algorithm, block=True).get_product()

        ways: dict[str, Callable[[], Any]] = {
            **{f"{OURS}, probe {name}": partial(asked_of, OURS, path) for name, path in models.items()},
            SOLVER: partial(asked_of, SOLVER),
            "PtychoReconstructor": partial(_in_this_process, folder),
        }
        for name, reconstruct in ways.items():
            products[name], case = _timed(reconstruct)
            cases.append({"algorithm": name, "patterns": scan.n_patterns, **case, **_fit(products[name], scan)})
    return products, cases


def _in_this_process(folder: Path) -> Any:  # noqa: ANN401 - the client has no types
    """What a script does: our reconstructor on the client's input, probe and positions refined and handed back."""
    from ptychodus.api.io import load_diffraction_data, load_product  # noqa: PLC0415
    from ptychodus.api.reconstruct import prepare_reconstruct_input  # noqa: PLC0415

    from ptycho_adapters.ptychodus.reconstructor import PtychoReconstructor  # noqa: PLC0415

    diffraction, product = load_diffraction_data(folder / "diffraction.h5"), load_product(folder / "product.h5")
    (output,) = PtychoReconstructor().reconstruct(prepare_reconstruct_input(diffraction, product))
    return output.product


def _timed(reconstruct: Callable[[], Any]) -> tuple[Any, Figures]:
    started, before = time.perf_counter(), os.times()
    done = reconstruct()
    seconds, after = time.perf_counter() - started, os.times()
    # User and system time, of this process and of those that it has ended.
    return done, {"seconds": seconds, "processor_seconds": sum(after[:4]) - sum(before[:4])}


def _fit(product: Any, scan: Scan) -> Figures:  # noqa: ANN401
    """The client's own figures."""
    import inside  # noqa: PLC0415

    rescaled = inside.of_the_flux_of(product, scan)
    return {"r_factor": inside.r_factor(product, scan), "r_factor_rescaled": inside.r_factor(rescaled, scan)}


def _draw(name: str, objects: Mapping[str, np.ndarray], scan: Scan) -> None:
    """Write modulus and phase of each, to the same scales, over the middle of the scan."""
    from harness import RESULTS  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    (top, left), (bottom, right) = (edge(scan.positions_px, axis=0).astype(int) for edge in (np.min, np.max))
    side = 3.4 * (bottom - top) / (right - left)
    figure = Figure(figsize=(3.4 * len(objects), 2 * side + 0.4), layout="constrained")
    axes = figure.subplots(2, len(objects))
    for column, (title, array) in enumerate(objects.items()):
        part = array[top:bottom, left:right]
        axes[0, column].set_title(title, fontsize=9)
        axes[0, column].imshow(np.abs(part) / np.median(np.abs(part)), cmap="gray", vmin=0.5, vmax=1.3)
        phase = np.angle(part * np.exp(-1j * np.angle(part.mean())))
        axes[1, column].imshow(phase, cmap="gray", vmin=-1.0, vmax=1.0)
    for each in axes.flat:
        each.set_axis_off()
    figure.savefig(RESULTS / f"{name}.png", dpi=80)


if __name__ == "__main__":
    main()
