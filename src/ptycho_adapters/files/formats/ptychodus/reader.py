"""Scans of Ptychodus: the patterns in a diffraction file, positions, probe and object in a product beside it.

Both lie in one folder under the client's standard names, `diffraction.h5` and `product.h5`; the folder is then read as
a whole. Otherwise the caller names the product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ptycho_adapters.files.evidence.recognition import gather_evidence
from ptycho_adapters.files.formats.ptychodus.parts import PtychodusParts, own_metadata, pair_by_index, scan_of
from ptycho_adapters.files.hdf5.members import read_array, read_number, read_patterns
from ptycho_adapters.files.hdf5.nodes import find_node, open_h5
from ptycho_adapters.files.in_place import keep_frames
from ptycho_adapters.files.npz.members import member_keys, open_archive, read_member
from ptycho_adapters.files.products.contents import OWN, ProductContents
from ptycho_adapters.files.products.store import is_product, read_contents
from ptycho_adapters.files.reading import ArrayFacts, Container, Evidence, ReadRequest, refuse_product
from ptycho_core.any_array import AnyArray, describe
from ptycho_core.errors import Problem, ScanError, ScanFileError
from ptycho_core.measurement.checks import pattern_shape
from ptycho_core.measurement.geometry import object_pixel_m
from ptycho_core.measurement.scan import ScanMetadata

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_adapters.files.in_file import InFile
    from ptycho_adapters.files.pattern_map import PatternMap
    from ptycho_core.measurement.scan import Scan

TITLE = "Ptychodus diffraction"
PRODUCT_TITLE = "Ptychodus product"
DIFFRACTION_NAME = "diffraction.h5"
PRODUCT_NAME = "product.h5"
PATTERNS, INDEXES, BAD_PIXELS = "patterns", "indexes", "bad_pixels"
_TRAINING_MARK = "probe_position_x_px"
_PIXEL_TOLERANCE = 0.01
_NO_PRODUCT = Problem(
    path="product",
    expected="a Ptychodus product with the positions and the probe",
    found="none given",
    fix=f"give it with product= or --product, or read the folder that holds {DIFFRACTION_NAME} and {PRODUCT_NAME}",
)


@attrs.define(kw_only=True, eq=False)
class _Diffraction:
    """What a diffraction file holds, and what could not be read of it."""

    patterns: AnyArray | None = None
    indexes: AnyArray | None = None
    bad_pixels: AnyArray | None = None
    detector_pixel_m: float | None = None
    problems: list[Problem] = attrs.field(factory=list)

    def keep(self, name: str, value: AnyArray | Problem | None) -> None:
        if isinstance(value, Problem):
            self.problems.append(value)
        elif value is not None:
            setattr(self, name, value)


def is_ptychodus(evidence: Evidence) -> bool:
    """Tell whether this is a diffraction file of the client, or a folder with one."""
    if evidence.container is Container.FOLDER:
        return DIFFRACTION_NAME in evidence.arrays
    if evidence.is_npz_with(PATTERNS):
        return "diff3d" not in evidence.arrays
    return evidence.is_hdf5_with(PATTERNS, INDEXES) and _TRAINING_MARK not in evidence.arrays


def ptychodus_patterns(evidence: Evidence) -> ArrayFacts | None:
    """Give shape and dtype of the patterns; empty slots are counted."""
    if evidence.container is Container.FOLDER:
        evidence = gather_evidence(evidence.path / DIFFRACTION_NAME)
    return evidence.arrays.get(PATTERNS)


def read_ptychodus_scan(path: Path, request: ReadRequest) -> Scan:
    """Read a scan from a diffraction file and its product.

    Diffraction: `patterns` (n, N, N) counts with the attributes `detector_pixel_width_m` and `_height_m`, `indexes`
    (n,) with -1 for an empty slot, `bad_pixels` (N, N) True where bad; HDF5 or NPZ. Product: see `product_contents`.
    Patterns and positions are paired by index as the client does. Of a probe that varies along the scan (OPR) the
    first one is taken, as the client hands it on; an object of several layers is left out. Both are noted.

    Args:
        path: the diffraction file, or the folder of a workflow.
        request: the product, the domain and the probe.

    Returns:
        The scan, with notes in its metadata.

    Raises:
        ScanFileError: with every problem there is.
    """
    diffraction_path, product_path = path, request.product
    if path.is_dir():
        diffraction_path = path / DIFFRACTION_NAME
        product_path = product_path or path / PRODUCT_NAME
        if not product_path.is_file():
            problem = attrs.evolve(_NO_PRODUCT, path=PRODUCT_NAME, found="no such file in the folder")
            raise ScanFileError(str(path), [problem])
    diffraction = _read_diffraction(diffraction_path, request.pattern_map)
    if product_path is None:
        raise ScanFileError(str(path), [*diffraction.problems, _NO_PRODUCT])
    contents = read_contents(product_path)
    parts = PtychodusParts(problems=diffraction.problems, key_of=_KEYS)
    for problem in contents.problems:
        if problem.path != "probe" or request.probe is None:
            parts.problems.append(attrs.evolve(problem, path=f"{product_path.name}: {problem.path}"))
    _fill(parts, diffraction, contents)
    return scan_of(parts, path, request)


_KEYS = {"positions_px": "probe_position_x_m, probe_position_y_m", "scan_index": f"{OWN}/scan_index"}


def refuse_product_as_scan(path: Path, request: ReadRequest) -> Scan:
    """Say that a product alone is no scan.

    Raises:
        ScanFileError: always.
    """
    refuse_product(path, request, "a product")
    problem = Problem(
        path="patterns",
        expected="diffraction patterns",
        found="a Ptychodus product, which has none",
        fix="give the diffraction file, and this one with product= or --product",
    )
    raise ScanFileError(str(path), [problem])


def is_product_only(evidence: Evidence) -> bool:
    """Tell whether this is a product, which holds everything but patterns."""
    return is_product(evidence) and PATTERNS not in evidence.arrays


def _read_diffraction(path: Path, pattern_map: PatternMap | InFile | None) -> _Diffraction:
    evidence = gather_evidence(path)
    read = _read_npz if evidence.container is Container.ZIP else _read_h5
    diffraction = read(path, pattern_map)
    damaged = {problem.path for problem in diffraction.problems}
    if diffraction.patterns is None and not damaged & {PATTERNS, "file"}:
        expected = "diffraction patterns (n, N, N)"
        present = ", ".join(sorted(evidence.arrays)) or "nothing"
        diffraction.problems.append(Problem(path=PATTERNS, expected=expected, found=f"only {present}"))
    return diffraction


def _read_h5(path: Path, pattern_map: PatternMap | InFile | None) -> _Diffraction:
    diffraction = _Diffraction()
    file = open_h5(path)
    if isinstance(file, Problem):
        diffraction.problems.append(file)
        return diffraction
    with file:
        diffraction.keep(PATTERNS, read_patterns(file, PATTERNS, pattern_map))
        for name in (INDEXES, BAD_PIXELS):
            diffraction.keep(name, read_array(file, name))
        node = find_node(file, PATTERNS)
        if node is not None and not isinstance(node, Problem):
            width = read_number(node, "detector_pixel_width_m")
            # Only a check on the product's pixel: what is unreadable here is no loss.
            diffraction.detector_pixel_m = width if isinstance(width, float) and width > 0.0 else None
        mask = find_node(file, BAD_PIXELS)
        if mask is not None and not isinstance(mask, Problem) and read_number(mask, MASK_KNOWN) == 0.0:
            diffraction.bad_pixels = None
    return diffraction


MASK_KNOWN = "known"
"""Attribute of a mask that stands for no mask; the client has no file without one."""


def _read_npz(path: Path, pattern_map: PatternMap | InFile | None) -> _Diffraction:
    diffraction = _Diffraction()
    archive = open_archive(path)
    if isinstance(archive, Problem):
        diffraction.problems.append(archive)
        return diffraction
    with archive:
        infos = member_keys(archive)
        if isinstance(infos, Problem):
            diffraction.problems.append(infos)
            return diffraction
        for name in (PATTERNS, INDEXES, BAD_PIXELS):
            if name in infos:
                onto = pattern_map if name == PATTERNS else None
                diffraction.keep(name, read_member(archive, infos[name], onto))
    return diffraction


def _fill(parts: PtychodusParts, diffraction: _Diffraction, contents: ProductContents) -> None:
    """Bring patterns and product together as far as both can be read."""
    parts.patterns, parts.bad_pixels = diffraction.patterns, diffraction.bad_pixels
    n_problems = len(contents.problems)
    pixel_m = contents.pixel_m()
    parts.problems.extend(contents.problems[n_problems:])
    if contents.numbers.get("far_field", 1.0) == 0.0:
        fix = "near-field data need another forward model"
        parts.problems.append(Problem(path="far_field", expected="true", found="false", fix=fix))
    parts.metadata = _metadata(contents, pixel_m, parts)
    parts.probe = _first_probe(contents, parts)
    if pixel_m is None or parts.problems:
        return
    parts.object = _one_layer(contents, parts)
    _check_pixels(parts, diffraction, contents)
    if not parts.problems:
        _pair(parts, diffraction, contents, pixel_m)


def _metadata(contents: ProductContents, pixel_m: float | None, parts: PtychodusParts) -> ScanMetadata:
    try:
        stated = ScanMetadata(
            name=contents.texts.get("name", ""),
            pixel_size_m=None if contents.is_in_pixels() else pixel_m,
            wavelength_m=contents.wavelength_m(),
            distance_m=contents.positive("detector_object_distance_m"),
        )
    except ScanError as error:
        parts.problems.extend(error.problems)
        return ScanMetadata()
    return own_metadata(contents.texts.get(f"{OWN}/metadata"), stated, parts.problems)


def _first_probe(contents: ProductContents, parts: PtychodusParts) -> AnyArray | None:
    probe = contents.arrays.get("probe")
    if probe is None or probe.ndim != 4 or not probe.shape[0]:
        return probe
    if probe.shape[0] > 1:
        parts.notes["probe_evidence"] = f"the first of {probe.shape[0]} coherent probes; their weights are not used"
    first: AnyArray = probe[0]
    return first


def _one_layer(contents: ProductContents, parts: PtychodusParts) -> AnyArray | None:
    object_ = contents.arrays.get("object")
    if object_ is not None and object_.ndim not in (2, 3):
        parts.problems.append(Problem(path="object", expected="(layers, H, W) complex", found=describe(object_)))
        return None
    if object_ is None or object_.ndim == 2:
        return object_
    if object_.shape[0] != 1:
        parts.notes["object_evidence"] = f"left out: it has {object_.shape[0]} layers"
        return None
    layer: AnyArray = object_[0]
    return layer


def _check_pixels(parts: PtychodusParts, diffraction: _Diffraction, contents: ProductContents) -> None:
    """Note where the product's pixel is not the one that follows from the detector; it counts all the same."""
    known, metadata, detector = pattern_shape(parts.patterns), parts.metadata, diffraction.detector_pixel_m
    if known is None or not known[1] or detector is None or contents.numbers.get("focus_object_distance_m", 0.0) != 0.0:
        return
    pixel_m, wavelength_m, distance_m = metadata.pixel_size_m, metadata.wavelength_m, metadata.distance_m
    if pixel_m is None or wavelength_m is None or distance_m is None:
        return
    try:
        derived = object_pixel_m(
            wavelength_m=wavelength_m, distance_m=distance_m, detector_pixel_m=detector, size_px=known[1]
        )
    except ScanError:
        derived = 0.0
    if abs(derived - pixel_m) > _PIXEL_TOLERANCE * pixel_m:
        parts.notes["geometry_evidence"] = (
            f"object pixel {pixel_m:.4g} m in the product, {derived:.4g} m by wavelength, distance and detector pixel"
        )


def _pair(parts: PtychodusParts, diffraction: _Diffraction, contents: ProductContents, pixel_m: float) -> None:
    positions = contents.positions_px(pixel_m)
    commanded = contents.arrays.get(f"{OWN}/commanded_positions_px")
    problem = _row_problem(positions, "probe_position_x_m, probe_position_y_m")
    if commanded is not None:
        problem = problem or _row_problem(commanded, f"{OWN}/commanded_positions_px", like=len(positions))
    if problem is not None or parts.patterns is None or parts.patterns.ndim != 3:
        parts.problems.extend([] if problem is None else [problem])
        return
    origin = np.asarray(contents.origin_px(pixel_m)) if contents.is_object_known() else np.zeros(2)
    rows = [positions.astype(np.float64) - origin]
    if commanded is not None:
        rows.append(commanded.astype(np.float64) - origin)
    indexes = np.arange(len(parts.patterns)) if diffraction.indexes is None else diffraction.indexes
    if indexes.shape != (len(parts.patterns),):
        expected = f"{len(parts.patterns)} numbers, one per pattern"
        parts.problems.append(Problem(path=INDEXES, expected=expected, found=describe(indexes)))
        return
    pairing = pair_by_index(indexes, contents.arrays["probe_position_indexes"], np.concatenate(rows, axis=1))
    if isinstance(pairing, Problem):
        parts.problems.append(pairing)
        return
    if pairing.note:
        parts.notes["positions_evidence"] = pairing.note
    parts.positions_px = pairing.rows[:, :2]
    parts.commanded_positions_px = pairing.rows[:, 2:] if commanded is not None else None
    scan_index = contents.arrays.get(f"{OWN}/scan_index")
    if pairing.kept is not None:
        parts.patterns = keep_frames(parts.patterns, pairing.kept)
        if scan_index is not None and scan_index.shape == indexes.shape:
            scan_index = scan_index[pairing.kept]
    parts.scan_index = scan_index


def _row_problem(rows: AnyArray, path: str, *, like: int | None = None) -> Problem | None:
    n_rows = len(rows) if rows.ndim and like is None else like
    if rows.shape == (n_rows, 2) and rows.dtype.kind in "iuf":
        return None
    return Problem(path=path, expected="(n, 2) real numbers", found=describe(rows))
