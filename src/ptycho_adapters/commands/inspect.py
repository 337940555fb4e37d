"""`ptycho inspect`: what a file is, and what is suspicious about it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.scan_source import add_scan_options, read_source
from ptycho_adapters.command_line.usage import UsageError
from ptycho_adapters.frameworks import model_with_backend
from ptycho_adapters.legacy_archives import is_legacy_archive
from ptycho_adapters.wording import shown
from ptycho_core.errors import ScanFileError
from ptycho_core.measurement.findings import Finding
from ptycho_core.measurement.inspection import CENTRE_FOUND_BY
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    import argparse

    from ptycho_adapters.files.reading import Evidence
    from ptycho_core.measurement.inspection import Inspection
    from ptycho_core.measurement.scan import ScanMetadata
    from ptycho_core.results.product import Product

HELP = "say what a file is and what is suspicious about it"
USAGE = "ptycho inspect FILE [flags]"
_NUMPY_START = b"\x93NUMPY"
_MODEL_MEMBERS = frozenset({"manifest.json", "config.json", "model.safetensors"})

Facts = Mapping[str, object]


@attrs.frozen(kw_only=True)
class Sheet:
    """What is printed about a file.

    Attributes:
        path: the file.
        kind: scan, result or model.
        title: its format for people.
        facts: by section and name; None where not given, units in the names.
        findings: what is suspicious.
        missing: what keeps it from being a scan, with what supplies it.
        command: what makes a scan of it.
    """

    path: Path
    kind: str
    title: str
    facts: Mapping[str, Facts]
    findings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = ()
    command: str | None = None

    def to_json(self) -> str:
        """Return it for machines."""
        content = {
            "file": str(self.path),
            "kind": self.kind,
            "format": self.title,
            "code_version": VERSION,
            "facts": self.facts,
            "findings": [{"kind": str(finding.kind), "text": finding.text} for finding in self.findings],
            "missing": list(self.missing),
            "command": self.command,
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def to_text(self) -> str:
        """Return it for people."""
        width = max(len(name) for facts in self.facts.values() for name in facts)
        lines = [f"{self.path}: {self.kind}, {self.title}"]
        for section, facts in self.facts.items():
            lines.append(section)
            lines += [f"  {name:<{width}}  {_shown(value)}" for name, value in facts.items()]
        if self.kind == "scan" or self.findings:
            lines.append("suspicious" if self.findings else "nothing suspicious")
            lines += [f"  {finding.text}" for finding in self.findings]
        if self.missing:
            lines += ["missing, or not to be used as it is", *(f"  {text}" for text in self.missing)]
        if self.command is not None:
            lines += ["what makes a scan of it", f"  {self.command}"]
        return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's flags."""
    parser.add_argument("file", metavar="FILE", help="scan, result (product) or model, in any known format")
    add_scan_options(parser)
    parser.add_argument(
        "--picture", metavar="OUT.png", help="also draw mean pattern, probe, positions and flux (scans only)"
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def run(typed: Mapping[str, object]) -> None:
    """Look at a file and report.

    Raises:
        PtychoError: the file is nothing that is known.
        OSError: from the file system.
    """
    path = Path(str(typed["file"]))
    picture = None if typed.get("picture") is None else Path(str(typed["picture"]))
    sheet, inspection = look_at(path, typed)
    if picture is not None:
        if inspection is None:
            raise UsageError(f"--picture shows scans, and {path} is a {sheet.kind}")
        from ptycho_adapters.plotting.overview import write_overview_png  # noqa: PLC0415 - matplotlib

        write_overview_png(inspection, picture, title=path.name)
    console.tell(sheet.to_json() if typed.get("json") else sheet.to_text())
    if picture is not None and not typed.get("json"):
        console.tell(f"wrote {picture}")


def look_at(path: Path, typed: Mapping[str, object]) -> tuple[Sheet, Inspection | None]:
    """Find out what a file is; the inspection is that of a scan, None for anything else.

    Raises:
        FileNotFoundError: there is no such file.
        ScanFileError: it is nothing that is known.
        ArchiveError: it is a model that cannot be read.
    """
    from ptycho_adapters.files.evidence.recognition import gather_evidence  # noqa: PLC0415
    from ptycho_adapters.files.products.store import is_product  # noqa: PLC0415 - h5py

    if _is_model(path):
        return _model_sheet(path), None
    evidence = gather_evidence(path)
    if is_product(evidence):
        from ptycho_adapters.files import read_product  # noqa: PLC0415

        return _product_sheet(path, read_product(path)), None
    try:
        return _scan_sheet(path, typed)
    except ScanFileError as error:
        return _incomplete_sheet(path, evidence, error), None


def _incomplete_sheet(path: Path, evidence: Evidence, error: ScanFileError) -> Sheet:
    """Describe what is no scan yet, and say what is missing.

    Raises:
        ScanFileError: `error`, for a file that shows nothing or is damaged.
    """
    from ptycho_adapters.files.raw.description import describe_file  # noqa: PLC0415 - h5py

    if evidence.problems or not (evidence.arrays or evidence.head.startswith(_NUMPY_START)):
        raise error
    try:
        described = describe_file(evidence)
    except ScanFileError:
        raise error from None
    return Sheet(
        path=path,
        kind="incomplete scan",
        title=str(evidence.container),
        facts=described.facts,
        missing=tuple(map(str, error.problems)),
        command=described.command,
    )


def _scan_sheet(path: Path, typed: Mapping[str, object]) -> tuple[Sheet, Inspection]:
    from ptycho_adapters.files import read_file_facts  # noqa: PLC0415 - h5py
    from ptycho_core.measurement.inspection import inspect_scan  # noqa: PLC0415
    from ptycho_core.measurement.suspicions import findings  # noqa: PLC0415

    scan = read_source(typed, path)
    inspection = inspect_scan(scan)
    sheet = Sheet(
        path=path,
        kind="scan",
        title=read_file_facts(path).title,
        facts=scan_facts(inspection),
        findings=findings(inspection),
    )
    return sheet, inspection


def scan_facts(inspection: Inspection) -> dict[str, Facts]:
    """Return the facts of a scan by section and name."""
    scan, detector, probe, path = inspection.scan, inspection.detector, inspection.probe, inspection.path
    bad = None if scan.bad_pixels is None else int(np.count_nonzero(scan.bad_pixels))
    facts: dict[str, Facts] = {
        "patterns": {
            "number": scan.n_patterns,
            "size_px": scan.N,
            "number_format": str(scan.patterns.dtype),
            "domain": str(scan.domain),
            "domain_evidence": scan.metadata.extra.get("domain_evidence"),
            "centre_px": [round(centre, 2) for centre in inspection.centre_px],
            "centre_of_probe_far_field_px": [round(centre, 2) for centre in inspection.expected_centre_px],
            "centres_found_by": CENTRE_FOUND_BY,
            "bad_pixels": bad,
        },
        "flux": _flux(detector.photons) | {"largest_count": detector.largest},
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
            "grid": path.raster,
            "scans": len(np.unique(scan.scan_index)),
        },
        "object": {"size_px": None if scan.object is None else list(scan.object.shape)},
        "geometry": _geometry(scan.metadata),
    }
    found_out = {key: text for key, text in scan.metadata.extra.items() if _is_found_out(key)}
    return facts | ({"found_out": found_out} if found_out else {})


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
    from ptycho_core.measurement.geometry import energy_from_wavelength  # noqa: PLC0415

    wavelength = metadata.wavelength_m
    return {
        "pixel_size_m": metadata.pixel_size_m,
        "wavelength_m": wavelength,
        "photon_energy_ev": None if wavelength is None else energy_from_wavelength(wavelength_m=wavelength),
        "distance_m": metadata.distance_m,
    }


def _product_sheet(path: Path, product: Product) -> Sheet:
    coverage = product.coverage
    facts: dict[str, Facts] = {
        "object": {
            "size_px": list(product.object.shape),
            "origin_px": list(product.origin_px),
            "covered_fraction": None if coverage is None else float((coverage > 0).mean()),
        },
        "probe": {
            "modes": len(product.probe),
            "size_px": product.probe.shape[1],
            "photons": product.photons_per_frame,
        },
        "positions": {"number": len(product.positions_px)},
        "geometry": {
            "pixel_size_m": product.pixel_size_m,
            "wavelength_m": product.wavelength_m,
            "photon_energy_ev": product.photon_energy_ev,
            "distance_m": product.distance_m,
        },
        "run": {
            "code_version": product.code_version or None,
            "epochs": len(product.loss_values),
            **{name: float(value) for name, value in product.metrics.items()},
        },
    }
    found = () if product.run is None else product.run.findings
    return Sheet(path=path, kind="result", title="Ptychodus product", facts=facts, findings=found)


def _is_model(path: Path) -> bool:
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist()) >= _MODEL_MEMBERS or is_legacy_archive(path)
    except (zipfile.BadZipFile, OSError):
        return False


def _model_sheet(path: Path) -> Sheet:
    backend, model = model_with_backend(path)
    config = model.payload.pt_model_config
    title = "archive of the legacy software" if is_legacy_archive(path) else "archive of this library"
    facts: dict[str, Facts] = {
        "model": {
            "generator": config.architecture,
            "size_px": model.payload.pt_data_config.N,
            "weights": model.n_weights,
            "backend": backend.name,
            "scans": [each.name or str(number) for number, each in enumerate(model.probes, start=1)] or None,
            "probe_modes": [len(each.probe) for each in model.probes] or None,
            "photons_per_frame": [each.flux for each in model.probes] or None,
            "code_version": model.code_version,
        },
        "training": {
            "epochs": len(model.history),
            "training_loss": model.history[-1].train if model.history else None,
            "held_out_loss": model.history[-1].validation if model.history else None,
        },
    }
    return Sheet(path=path, kind="model", title=title, facts=facts)


def _shown(value: object) -> str:
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return shown(value)
