"""What there is to say about a scan, by section and name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ptycho_adapters.wording import quanta
from ptycho_core.measurement.inspection import CENTRE_FOUND_BY

if TYPE_CHECKING:
    from ptycho_core.measurement.axes import AxesHint
    from ptycho_core.measurement.beam import BeamCentre
    from ptycho_core.measurement.inspection import Inspection
    from ptycho_core.measurement.scan import ScanMetadata

Facts = Mapping[str, object]


def scan_facts(inspection: Inspection) -> dict[str, Facts]:
    """Return the facts of a scan by section and name."""
    scan, detector, probe, path = inspection.scan, inspection.detector, inspection.probe, inspection.path
    facts: dict[str, Facts] = {
        "patterns": _patterns(inspection),
        "flux": _flux(detector.photons) | {"largest_count": detector.largest} | _dose(inspection),
        "probe": {
            "shape": str(probe.shape),
            "modes": probe.n_modes,
            "power_shares": [round(share, 4) for share in probe.power_shares],
            "photons": probe.photons,
            "diameter_px": probe.diameter_px,
        },
        "positions": {
            "extent_px": [round(extent, 2) for extent in path.extent_px],
            "nearest_neighbour_px": float(np.median(path.nearest_px)) if path.nearest_px.size else None,
            "spacing_px": path.spacing_px,
            "linear_overlap": inspection.linear_overlap,
            "grid_px": None if path.grid_px is None else [round(step, 3) for step in path.grid_px],
            "scans": len(np.unique(scan.scan_index)),
            **_axes(inspection.axes),
        },
        "object": {"size_px": None if scan.object is None else list(scan.object.shape)},
        "geometry": _geometry(scan.metadata),
    }
    found_out = {key: text for key, text in scan.metadata.extra.items() if _is_found_out(key)}
    return facts | ({"found_out": found_out} if found_out else {})


def _beam(beam: BeamCentre | None) -> Facts:
    if beam is None:
        return {"beam_px": None}
    return {"beam_px": list(beam.place_px), "beam_found_by": beam.found_by}


def _axes(hint: AxesHint) -> Facts:
    """Say how the axes of positions and frames go together by the patterns, and what to type where they do not."""
    from ptycho_core.measurement.axes import Axes  # noqa: PLC0415 - as above

    words = f"{hint.axes}, up to half a turn" if hint.axes is not Axes.UNCLEAR else str(hint.axes)
    if hint.axes not in {Axes.AS_GIVEN, Axes.UNCLEAR}:
        words += "; infer tries it, and ptycho prepare puts it right with --positions-flip and --positions-transpose"
    kept = {str(axes): None if math.isnan(curl) else round(curl, 3) for axes, curl in hint.curl.items()}
    return {"axes_of_positions_and_frames": words, "curl": ", ".join(f"{curl} {axes}" for axes, curl in kept.items())}


def _dose(inspection: Inspection) -> dict[str, float]:
    """Give what the scan sends through the object: per pixel, and per area where the pixel is known."""
    per_px, metadata = inspection.photons_per_px, inspection.scan.metadata
    if per_px is None:
        return {}
    what = quanta(metadata.wavelength_m)
    pixel_m = metadata.pixel_size_m
    unit, unit_m = ("angstrom2", 1e-10) if what == "electrons" else ("nm2", 1e-9)
    area = {} if pixel_m is None else {f"{what}_per_{unit}": per_px * (unit_m / pixel_m) ** 2}
    return {f"{what}_per_object_px": per_px} | area


def _patterns(inspection: Inspection) -> Facts:
    scan = inspection.scan
    return {
        "number": scan.n_patterns,
        "size_px": scan.N,
        "number_format": str(scan.patterns.dtype),
        "domain": str(scan.domain),
        "domain_evidence": scan.metadata.extra.get("domain_evidence"),
        "centre_px": [round(centre, 2) for centre in inspection.centre_px],
        "centre_of_probe_far_field_px": [round(centre, 2) for centre in inspection.expected_centre_px],
        "centres_found_by": CENTRE_FOUND_BY,
        "reach_px": round(inspection.reach_px, 2),
        "reach_of_probe_far_field_px": round(inspection.expected_reach_px, 2),
        **_beam(inspection.beam),
        "brightest_mean_count": float(inspection.detector.mean.max()),
        "bad_pixels": None if scan.bad_pixels is None else int(np.count_nonzero(scan.bad_pixels)),
    }


def _flux(photons: npt.NDArray[np.float64]) -> dict[str, float]:
    return {
        "photons_per_frame": float(photons.mean()),
        "smallest": float(photons.min()),
        "largest": float(photons.max()),
        "relative_spread": float(photons.std() / photons.mean()),
    }


def _is_found_out(key: str) -> bool:
    """Tell what a reader noted from what a file said; the domain's evidence stands beside the domain."""
    return (key.endswith("_evidence") and key != "domain_evidence") or key in {"cleared_bad_pixels", "ignored_keys"}


def _geometry(metadata: ScanMetadata) -> Facts:
    from ptycho_core.measurement.geometry import (  # noqa: PLC0415
        energy_from_wavelength,
        of_electrons,
        voltage_from_wavelength,
    )

    wavelength = metadata.wavelength_m
    electrons = wavelength is not None and of_electrons(wavelength_m=wavelength)
    return {
        "pixel_size_m": metadata.pixel_size_m,
        "wavelength_m": wavelength,
        **(
            {"voltage_v": voltage_from_wavelength(wavelength_m=wavelength)}
            if electrons and wavelength is not None
            else {"photon_energy_ev": None if wavelength is None else energy_from_wavelength(wavelength_m=wavelength)}
        ),
        "distance_m": metadata.distance_m,
    }
