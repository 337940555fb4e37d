"""What the Ptychodus client hands over, and a backend that answers at once with an object known at every coordinate."""

from __future__ import annotations

import ast
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from ptycho_adapters.ptychodus import work
from ptycho_core.config import TorchInferenceConfig
from ptycho_core.measurement.scan import MeasurementDomain, Scan
from ptycho_core.physics.canvas import canvas_frame
from ptycho_core.results.reconstruction import Reconstruction
from ptychodus_sample import sample_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from ptycho_adapters.ptychodus.backend import Backend
    from ptycho_core.config import PyTorchExecutionConfig
    from ptycho_core.config.payload import TrainingPayload

NO_CLIENT = "the Ptychodus client is not installed: pip install --no-deps ptychodus==1.7.0"


def known_object(origin_px: tuple[int, int], shape: tuple[int, ...]) -> npt.NDArray[np.complex64]:
    """An object whose value tells the coordinate of each pixel."""
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    made: npt.NDArray[np.complex64] = (y + origin_px[0] + 1j * (x + origin_px[1])).astype(np.complex64)
    return made


def scan_of_64_px(*, n_patterns: int = 36) -> Scan:
    """A scan of the smallest size that a model takes: a raster of noise under a round spot."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[-32:32, -32:32]
    side = round(n_patterns**0.5)
    raster = np.stack(np.divmod(np.arange(n_patterns), side), axis=1) * 5.0 + rng.uniform(0.0, 1.0, (n_patterns, 2))
    return Scan(
        patterns=rng.poisson(40.0 * np.exp(-(x**2 + y**2) / 200.0) + 0.1, (n_patterns, 64, 64)).astype(np.uint16),
        domain=MeasurementDomain.COUNTS,
        positions_px=raster + 32.0,
        probe=10.0 * np.exp(-(x**2 + y**2) / 90.0).astype(np.complex64),
        metadata=sample_metadata(),
    )


@attrs.define
class KnownBackend:
    """Answers with `known_object` over all patches, and remembers what it was asked."""

    scans: list[Scan] = attrs.field(factory=list)
    settings: list[TorchInferenceConfig | None] = attrs.field(factory=list)

    def reconstruct(
        self,
        model: object,
        scan: Scan,
        *,
        execution_config: PyTorchExecutionConfig | None = None,
        inference_config: TorchInferenceConfig | None = None,
    ) -> Reconstruction:
        self.scans.append(scan)
        self.settings.append(inference_config)
        frame = canvas_frame(scan.positions_px, scan.N)
        coverage = np.zeros(frame.shape, dtype=np.float32)
        for y, x in scan.positions_px - np.array(frame.origin_px) - (scan.N - 1) / 2:
            coverage[int(y) : int(y) + scan.N, int(x) : int(x) + scan.N] += 1.0
        return Reconstruction(
            object=known_object(frame.origin_px, frame.shape),
            coverage=coverage,
            origin_px=frame.origin_px,
            probe=scan.probe,
            probe_source="scan",
            positions_px=scan.positions_px,
            given_positions_px=scan.positions_px,
            pattern_indices=np.arange(scan.n_patterns),
            scale=1.0,
            metrics={"r_factor": 0.125},
        )

    def generalist_for(self, scan: Scan) -> object:
        return "the weights in the package"


@pytest.fixture
def known_backend(monkeypatch: pytest.MonkeyPatch) -> KnownBackend:
    """Put a backend in place that answers at once."""
    backend = KnownBackend()

    def module_of(name: Backend) -> KnownBackend:
        return backend

    monkeypatch.setattr(work, "module_of", module_of)
    return backend


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack a model as the client does before it asks for it."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    return folder


def client_source(*parts: str) -> Path:
    """A file of the installed client, which is not imported."""
    spec = find_spec("ptychodus")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(NO_CLIENT)
    return Path(spec.submodule_search_locations[0]).joinpath(*parts)


def keywords_sent(source: Path) -> Mapping[str, set[str]]:
    """The keywords with which a file of the client calls each class that is named like a configuration."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Config"):
            found.setdefault(node.func.id, set()).update(each.arg for each in node.keywords if each.arg)
    return found


def defaults_of(source: Path) -> dict[str, object]:
    """The default of each of the client's settings, by the attribute that holds it."""
    found: dict[str, object] = {}
    for node in ast.walk(ast.parse(source.read_text())):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call) or len(node.value.args) < 2:
            continue
        target, default = node.targets[0], node.value.args[1]
        if isinstance(target, ast.Attribute) and isinstance(default, ast.Constant):
            found[target.attr] = default.value
    return found


def config_calls(source: Path) -> dict[tuple[str, str], str]:
    """Which setting of the client goes into which keyword, as (class, keyword): attribute."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Config"):
            for each in node.keywords:
                value = each.value
                if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
                    owner = value.func.value
                    if each.arg and isinstance(owner, ast.Attribute):
                        found[node.func.id, each.arg] = f"{_owner(owner)}.{owner.attr}"
    return found


def _owner(attribute: ast.Attribute) -> str:
    return attribute.value.id if isinstance(attribute.value, ast.Name) else ""


def dtypes() -> Sequence[str]:
    """Number formats that the client's detectors have."""
    return ("uint8", "uint16", "uint32", "int64", "float32", "float64")


def saved_model(folder: Path, payload: TrainingPayload) -> Path:
    """Write a model with the weights in the package as a training on this payload would leave it."""
    from ptycho_adapters.torch_backend import ScanProbe, TrainedModel, save_archive  # noqa: PLC0415
    from ptycho_adapters.torch_backend.generalist import pretrained_generator  # noqa: PLC0415

    size = payload.pt_data_config.N
    probe = np.ones((1, size, size), dtype=np.complex64)
    model = TrainedModel(
        payload=payload,
        generator=pretrained_generator(),
        probes=(ScanProbe(probe=probe, start_probe=probe, flux=float(size**2)),),
        history=(),
        code_version="0",
    )
    return save_archive(model, folder)
