"""The road of a run: plan, read, group, commit, run; each once and in this order."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cli_samples import tiny_scan
from ptycho_adapters import factory, legacy, scan_facts
from ptycho_adapters.cli import main
from ptycho_adapters.common import consistency, groups
from ptycho_adapters.files import read_product, read_scan
from ptycho_adapters.files import scans as scan_reader
from ptycho_adapters.torch_backend import save_archive
from ptycho_adapters.torch_backend.inference import reconstruct
from ptycho_adapters.torch_backend.training import trainer
from ptycho_core.config import payload as core_payload
from scan_arrays_sample import save_npz
from torch_sample import quick_training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRAIN = "train --n-groups 16 --gridsize 1 --epochs 1 --batch-size 8 --architecture unet --n-filters-scale 1 --quiet "
TRAIN += "--accelerator cpu --logger none --no-probe-autofocus"
INFER = "infer --accelerator cpu --quiet --probe-rounds 0"
STOPS: tuple[Callable[..., object], ...] = (
    scan_facts.read_scan_facts,
    core_payload.resolve_training,
    core_payload.resolve_inference,
    scan_reader.read_requested,
    groups.training_groups,
    factory.commit,
    trainer.train_on,
    reconstruct.reconstruct,
    consistency.split_half_agreement,
)


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope():
        yield


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(3):
        tiny_scan(folder, f"{seed}.npz", seed=seed)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return save_archive(quick_training(folder, {"architecture": "unet", "gridsize": 1}), folder)


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stops of a road as they are called, under whatever name a module knows them."""
    calls: list[str] = []
    # A module that is first imported while another one is watched would keep the watched names.
    importlib.import_module("ptycho_adapters.torch_backend.framework")
    ours = [module for name, module in sys.modules.items() if name.startswith(("ptycho_core", "ptycho_adapters"))]
    for stop in STOPS:
        watched = _noting(stop, calls)
        for module in ours:
            for name in [name for name, value in vars(module).items() if value is stop]:
                monkeypatch.setattr(module, name, watched)
    return calls


def _noting(stop: Callable[..., object], calls: list[str]) -> Callable[..., object]:
    @functools.wraps(stop)
    def noted(*arguments: object, **named: object) -> object:
        about = f" {arguments[0].name}" if arguments and isinstance(arguments[0], Path) else ""
        calls.append(stop.__name__ + about)
        return stop(*arguments, **named)

    return noted


def test_a_training_goes_its_road_once(scans: Path, tmp_path: Path, walked: list[str]) -> None:
    """Facts are read once per file, settings resolved once, groups drawn once; nothing is begun before they fit."""
    paths = f"--train-data-file {scans / '0.npz'} --output-dir {tmp_path / 'out'}"

    assert main(f"{TRAIN} {paths}".split()) == 0

    assert walked == [
        "read_scan_facts 0.npz",
        "resolve_training",
        "read_requested 0.npz",
        "training_groups",
        "commit",
        "train_on",
    ]


def test_a_training_on_several_scans_goes_it_once_for_each(scans: Path, tmp_path: Path, walked: list[str]) -> None:
    """All headers come before the first pattern."""
    paths = f"--train-data-file {scans / '0.npz'} --training-directories {scans} --output-dir {tmp_path / 'out'}"

    assert main(f"{TRAIN} {paths}".split()) == 0

    files = ["0.npz", "1.npz", "2.npz"]
    facts = [f"read_scan_facts {name}" for name in files]
    read = [f"read_requested {name}" for name in files]
    assert walked == [facts[0], "resolve_training", *facts[1:], *read, *["training_groups"] * 3, "commit", "train_on"]


@pytest.mark.parametrize("trained", [True, False], ids=["model", "shipped weights"])
def test_a_reconstruction_goes_its_road_once(
    scans: Path, model: Path, tmp_path: Path, walked: list[str], trained: bool
) -> None:
    """With a model and without one; the shipped weights say what they go with, which is resolved for them alone."""
    line = f"{INFER} --test-data {scans / '1.npz'} --output-dir {tmp_path / 'out'}"

    assert main([*line.split(), *(["--model-path", str(model)] if trained else [])]) == 0

    of_weights = [] if trained else ["resolve_training"]
    planned = ["read_scan_facts 1.npz", *of_weights, "resolve_inference"]
    assert walked[: len(planned)] == planned
    assert [call for call in walked[len(planned) :] if call != "resolve_training"] == [
        "read_requested 1.npz",
        "commit",
        "reconstruct",
    ]
    assert legacy.cfg["n_groups"] == 16


@pytest.mark.parametrize(
    "line",
    [
        "train --train-data-file {scan} --output-dir {out} --n-groups 8 --batch-size 3",
        "train --train-data-file {scan} --output-dir {out} --n-groups 8 --training-directories {nothing}",
        "train --train-data-file {scan} --output-dir {out} --n-groups 8 --test-data-file {nothing}",
        "infer --test-data {scan} --output-dir {out} --inference-batch-size 0",
        "infer --test-data {scan} --output-dir {out} --inference-batch-size 0 --model-path {model}",
        "infer --test-data {scan} --output-dir {out} --model-path {nothing}",
        "evaluate {scan} --output-dir {out} --model-path {nothing}",
        "evaluate {scan} --output-dir {out} --model-path {model} --margin-px 1.5",
    ],
)
def test_a_wrong_flag_is_found_before_any_pattern_is_read(
    scans: Path, model: Path, tmp_path: Path, walked: list[str], line: str
) -> None:
    """The run ends with code 2, has read no scan and written nothing."""
    before = dict(legacy.cfg)
    words = line.format(scan=scans / "0.npz", model=model, out=tmp_path / "out", nothing=tmp_path / "nothing")

    assert main(words.split()) == 2

    assert not {call.partition(" ")[0] for call in walked} & {"read_requested", "commit", "train_on", "reconstruct"}
    assert not list(tmp_path.iterdir())
    assert legacy.cfg == before


def test_nothing_is_written_before_the_groups_fit(scans: Path, tmp_path: Path, walked: list[str]) -> None:
    """More groups than the scan can give end the run without an output folder, and leave the parameters alone."""
    before = dict(legacy.cfg)
    paths = f"--train-data-file {scans / '0.npz'} --output-dir {tmp_path / 'out'}"

    assert main(f"{TRAIN} {paths} --n-groups 800 --gridsize 2".split()) == 2

    assert walked[-1] == "training_groups"
    assert not list(tmp_path.iterdir())
    assert legacy.cfg == before


@pytest.mark.parametrize(
    ("line", "stops"),
    [
        ("train --train-data-file {scan} --n-groups 8", ["read_scan_facts 0.npz", "resolve_training"]),
        ("train --train-data-file {scan}", ["read_scan_facts 0.npz"]),
        ("infer --test-data {scan} --model-path {model}", ["read_scan_facts 0.npz", "resolve_inference"]),
        ("infer --model-path {model}", []),
    ],
)
def test_a_shown_configuration_is_the_plan(
    scans: Path, model: Path, walked: list[str], line: str, stops: list[str]
) -> None:
    """`--print-config` plans where a run could be planned, and goes no further."""
    assert main([*line.format(scan=scans / "0.npz", model=model).split(), "--print-config", "--json"]) == 0

    assert walked == stops


def test_all_patterns_are_those_that_were_read(scans: Path, tmp_path: Path) -> None:
    """Where the header of a file cannot be counted on, the scan itself says how many there are."""
    scan = read_scan(scans / "0.npz")
    y, x = scan.positions_px.T
    arrays = {"diff3d": np.moveaxis(scan.patterns, 0, 2), "probeGuess": scan.probe, "xcoords": x[:, None]}
    path = save_npz(tmp_path / "last.npz", {**arrays, "ycoords": y[:, None]})
    assert scan_facts.read_scan_facts(path).n_patterns == 64

    assert main(f"{INFER} --test-data {path} --output-dir {tmp_path / 'out'}".split()) == 0

    assert len(read_product(tmp_path / "out" / "object.h5").positions_px) == scan.n_patterns == 16
    assert legacy.cfg["n_groups"] == 16
