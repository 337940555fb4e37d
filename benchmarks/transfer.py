"""One pass over scans that the model was not trained for: `python benchmarks/transfer.py --help`.

Simulated: every class of probe and of object, the probe known exactly, or known only up to aberrations; then classes
that no pretraining saw, among them photographs, of which one gives the phase and another the absorption. Measured,
where a scan and a reference are given: with the probe stored in the file, and with a refined one. Nothing is trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
from charts import Panel, draw
from harness import Figures, in_fresh_process, write
from quality import one_pass, reference_judge, region, shown, truth_judge

from ptycho_core.physics.probes import ProbeKind, aberrate
from ptycho_core.simulation.objects import ObjectKind
from ptycho_core.simulation.simulate import SimulationConfig, simulate, simulate_scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Names of pictures for the phase and for the absorption: scikit-image's, or made below.
_STRANGERS = {
    "beads": ("beads", "beads"),
    "grating": ("grating", "grating"),
    "checkerboard": ("checkerboard", "checkerboard"),
    "grains": ("grains", "grains"),
    "page": ("page", "page"),
    "photographs camera moon": ("camera", "moon"),
    "photographs coins camera": ("coins", "camera"),
    "photographs brick camera": ("brick", "camera"),
}


def simulated(*, archive: Path, config: SimulationConfig, unseen_class: str | None, error_rad: float) -> Figures:
    """Reconstruct a simulated scan with its own probe, which may be wrong."""
    from ptycho_adapters.torch_backend import load_archive  # noqa: PLC0415 - in the fresh process only

    scan = simulate(config)
    if unseen_class is not None:
        object_ = stranger(config, unseen_class)
        rng = np.random.default_rng(config.seed)
        scan = simulate_scan(object_, scan.probe, scan.positions_px, rng=rng, background=config.background)
    judge = truth_judge(scan)
    if error_rad > 0:
        guess = aberrate(scan.probe.astype(np.complex128), np.random.default_rng(config.seed), strength_rad=error_rad)
        scan = attrs.evolve(scan, probe=guess)
    result, seconds = one_pass(load_archive(archive), scan)
    return {
        "scan": "simulated",
        "probe": str(config.probe_kind),
        "object": unseen_class or str(config.object_kind),
        "photons": config.photons,
        "probe_aberration_rad": config.aberration_rad,
        "probe_error_rad": error_rad,
        "patterns": scan.n_patterns,
        "seconds": seconds,
        "r_factor": result.metrics["r_factor"],
        "scores": judge.scores(result.object, result.origin_px),
    }


def stranger(config: SimulationConfig, name: str) -> NDArray[np.complex128]:
    """An object of the size and the contrast of a configuration, of a class that no pretraining saw."""
    phase, absorption = (_picture(one, config.object_size_px) for one in _STRANGERS[name])
    modulus = 1 - (1 - config.amplitude_min) * absorption
    object_: NDArray[np.complex128] = modulus * np.exp(1j * config.phase_range_rad * (phase - 0.5))
    return object_


def _picture(name: str, size: int) -> NDArray[np.float64]:
    """A picture (size, size) from 0 to 1."""
    from scipy.spatial import KDTree  # noqa: PLC0415 - in the fresh process only
    from skimage import data, transform  # noqa: PLC0415 - in the fresh process only

    rng = np.random.default_rng(1)
    y, x = np.indices((size, size))
    match name:
        case "beads":  # their thickness, where they lie over each other the sum
            beads = zip(rng.uniform(0, size, (90, 2)), rng.uniform(5, 16, 90), strict=True)
            image = sum(np.sqrt(np.maximum(r**2 - (y - top) ** 2 - (x - left) ** 2, 0)) for (top, left), r in beads)
        case "grating":  # bars, from 4 px to 16 px a period
            image = np.sin(2 * np.pi * (y + 0.3 * x) / (4 + 12 * x / size)) > 0
        case "grains":  # each of one value
            _, nearest = KDTree(rng.uniform(0, size, (120, 2))).query(np.stack([y.ravel(), x.ravel()], axis=1))
            image = rng.uniform(0, 1, 120)[nearest].reshape(size, size)
        case _:
            image = transform.resize(getattr(data, name)(), (size, size), anti_aliasing=True)
    values = np.asarray(image, np.float64)
    return (values - values.min()) / np.ptp(values)


def measured(*, archive: Path, scan_file: Path, reference: Path, probe: Path | None, margin_px: int, area) -> Figures:  # type: ignore[no-untyped-def] # noqa: ANN001
    """Reconstruct a measured scan with the probe stored in it, or with another."""
    from ptycho_adapters.files import read_scan  # noqa: PLC0415 - in the fresh process only
    from ptycho_adapters.torch_backend import load_archive  # noqa: PLC0415

    scan = read_scan(scan_file)
    judge = reference_judge(scan, reference, margin_px=margin_px, region_px=area)
    if probe is not None:
        with np.load(probe) as file:
            scan = attrs.evolve(scan, probe=np.asarray(file["probe"]).reshape(-1, scan.N, scan.N))
    result, seconds = one_pass(load_archive(archive), scan)
    return {
        "scan": scan_file.name,
        "probe": "stored" if probe is None else "refined",
        "patterns": scan.n_patterns,
        "seconds": seconds,
        "r_factor": result.metrics["r_factor"],
        "scores": judge.scores(result.object, result.origin_px),
    }


def panels(cases: Sequence[Figures], title: str, key: str, label: str) -> list[Panel]:
    """Three figures over one property of the cases, a line for each probe."""
    by_probe = {probe: [c for c in cases if c["probe"] == probe] for probe in dict.fromkeys(c["probe"] for c in cases)}
    return [
        Panel(
            title=title,
            x=label,
            y=name,
            lines={
                probe: ([c[key] for c in some], [c["scores"][name] for c in some]) for probe, some in by_probe.items()
            },
        )
        for name in ("phase_ssim", "amplitude_ssim", "phase_frc50_per_px")
    ]


def main() -> None:
    """Measure every case in a process of its own and write figures and picture."""
    kinds = [*ObjectKind, *_STRANGERS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, required=True, help="our trained model")
    parser.add_argument("--size", type=int, default=64, help="side of a pattern, as the model was trained [px]")
    parser.add_argument("--probes", nargs="+", default=list(ProbeKind), choices=list(ProbeKind))
    parser.add_argument("--objects", nargs="+", default=kinds, choices=kinds)
    parser.add_argument("--errors", type=float, nargs="+", default=[0.0, 0.3, 0.6, 1.0], help="of the probe [rad]")
    parser.add_argument("--photons", type=float, default=1e6)
    parser.add_argument("--object-size", type=int, default=192, help="px")
    parser.add_argument("--scan", type=Path, help="a measured scan")
    parser.add_argument("--reference", type=Path, help="object to judge it by")
    parser.add_argument("--refined-probe", type=Path, help="NPZ with a better `probe` for it")
    parser.add_argument("--margin-px", type=int, default=8)
    parser.add_argument("--region", type=region, metavar="Y0:Y1,X0:X1")
    asked = parser.parse_args()
    base = SimulationConfig(N=asked.size, photons=asked.photons, object_size_px=asked.object_size, seed=11)
    base = attrs.evolve(base, step_px=asked.size / 10, aberration_rad=0.4)
    cases = [
        in_fresh_process(
            simulated,
            {
                "archive": asked.archive,
                "config": config,
                "unseen_class": object_ if object_ in _STRANGERS else None,
                "error_rad": error,
            },
        )
        for probe in asked.probes
        for object_, errors in ((kind, asked.errors if kind == asked.objects[0] else [0.0]) for kind in asked.objects)
        for error in errors
        for known in (base.object_kind if object_ in _STRANGERS else object_,)
        for config in (attrs.evolve(base, probe_kind=probe, object_kind=known),)
    ]
    if asked.scan is not None and asked.reference is not None:
        real = {"archive": asked.archive, "scan_file": asked.scan, "reference": asked.reference}
        real |= {"margin_px": asked.margin_px, "area": asked.region}
        probes = (None, asked.refined_probe) if asked.refined_probe else (None,)
        cases += [in_fresh_process(measured, {**real, "probe": probe}) for probe in probes]
    for case in cases:
        title = "  ".join(f"{key} {value}" for key, value in case.items() if key not in ("scores", "seconds"))
        print(f"{title}: {shown(case['scores'])}")
    write("transfer", cases)
    made = [case for case in cases if case["scan"] == "simulated"]
    exact = [case for case in made if case["probe_error_rad"] == 0]
    wrong = [case for case in made if case["object"] == str(asked.objects[0])]
    draw(
        "transfer",
        panels(exact, "probe known exactly", "object", "class of object")
        + panels(wrong, f"{asked.objects[0]}, probe known up to aberrations", "probe_error_rad", "error [rad]"),
    )


if __name__ == "__main__":
    main()
