"""`ptycho inspect`: what a file is, and what is suspicious about it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.archive_facts import archive_file
from ptycho_adapters.command_line import console
from ptycho_adapters.command_line.facts import Facts, scan_facts
from ptycho_adapters.command_line.scan_source import add_scan_options, read_source
from ptycho_adapters.command_line.usage import UsageError
from ptycho_adapters.frameworks import model_with_backend
from ptycho_adapters.legacy_archives import is_legacy_archive
from ptycho_adapters.wording import length_in_words, shown
from ptycho_core.errors import ScanFileError
from ptycho_core.measurement.findings import Finding
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    import argparse

    from ptycho_adapters.files.raw.description import Description
    from ptycho_adapters.files.reading import Evidence
    from ptycho_core.measurement.inspection import Inspection
    from ptycho_core.results.product import Product

HELP = "say what a file is and what is suspicious about it"
USAGE = "ptycho inspect FILE [flags]"
_MODEL_MEMBERS = frozenset({"manifest.json", "config.json", "model.safetensors"})


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
            "findings": [finding.to_json() for finding in self.findings],
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
            lines += [f"  {name:<{width}}  {_shown(value)}{_in_unit(name, value)}" for name, value in facts.items()]
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
        "--picture",
        metavar="OUT.png",
        help="also draw mean pattern, probe, positions and flux; of an incomplete scan the mean frame",
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
    sheet, seen = look_at(path, typed)
    if picture is not None:
        _draw(seen, picture, path, sheet.kind)
    console.tell(sheet.to_json() if typed.get("json") else sheet.to_text())
    if picture is not None and not typed.get("json"):
        console.tell(f"wrote {picture}")


def _draw(seen: Inspection | Description | None, picture: Path, path: Path, kind: str) -> None:
    """Draw what was looked at.

    Raises:
        UsageError: there is nothing to draw.
    """
    from ptycho_adapters.files.raw.description import Description  # noqa: PLC0415 - h5py

    if isinstance(seen, Description) and seen.mean is not None:
        from ptycho_adapters.plotting.before_after import write_mean_png  # noqa: PLC0415 - matplotlib

        write_mean_png(seen.mean, None if seen.beam is None else seen.beam.place_px, picture, title=path.name)
        return
    if seen is None or isinstance(seen, Description):
        raise UsageError(f"--picture shows patterns, and {path} is a {kind} with none")
    from ptycho_adapters.plotting.overview import write_overview_png  # noqa: PLC0415 - matplotlib

    write_overview_png(seen, picture, title=path.name)


def look_at(path: Path, typed: Mapping[str, object]) -> tuple[Sheet, Inspection | Description | None]:
    """Find out what a file is; with it what was seen of a scan or of one that is incomplete.

    Raises:
        FileNotFoundError: there is no such file.
        ScanFileError: it is nothing that is known.
        ArchiveError: it is a model that cannot be read.
    """
    from ptycho_adapters.files.evidence.recognition import gather_evidence  # noqa: PLC0415
    from ptycho_adapters.files.products.foreign import foreign_result  # noqa: PLC0415 - h5py
    from ptycho_adapters.files.products.store import is_product  # noqa: PLC0415 - as above

    if _is_model(path):
        return _model_sheet(path), None
    evidence = gather_evidence(path)
    if is_product(evidence):
        from ptycho_adapters.files import read_product  # noqa: PLC0415

        return _product_sheet(path, read_product(path)), None
    foreign = foreign_result(evidence)
    if foreign is not None:
        return Sheet(path=path, kind="result", title=foreign.title, facts=foreign.facts), None
    try:
        return _scan_sheet(path, typed)
    except ScanFileError as error:
        return _incomplete_sheet(path, evidence, error)


def _incomplete_sheet(path: Path, evidence: Evidence, error: ScanFileError) -> tuple[Sheet, Description]:
    """Describe what is no scan yet, and say what is missing.

    Raises:
        ScanFileError: `error`, for a file that shows nothing or is damaged.
    """
    from ptycho_adapters.files.raw.description import describe_file  # noqa: PLC0415 - h5py
    from ptycho_adapters.files.readers import title_of  # noqa: PLC0415 - as above

    if evidence.problems:
        raise error
    try:
        described = describe_file(evidence)
    except ScanFileError:
        raise error from None
    sheet = Sheet(
        path=path,
        kind="incomplete scan",
        title=title_of(evidence),
        facts=described.facts,
        missing=tuple(map(str, (*described.refused, *error.problems))),
        command=described.command,
    )
    return sheet, described


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
    if path.is_dir():
        return archive_file(path).is_file() and _is_model(archive_file(path))
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist()) >= _MODEL_MEMBERS or is_legacy_archive(path)
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError):
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
    found = tuple(
        attrs.evolve(each, text=f"{scan.name or number}: {each.text}" if len(model.probes) > 1 else each.text)
        for number, scan in enumerate(model.probes, start=1)
        for each in scan.findings
    )
    return Sheet(path=path, kind="model", title=title, facts=facts, findings=found)


def _in_unit(name: str, value: object) -> str:
    """Return a length in the unit of its kind, for people."""
    return f" ({length_in_words(value)})" if name.endswith("_m") and isinstance(value, float) else ""


def _shown(value: object) -> str:
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return shown(value)
