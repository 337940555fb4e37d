"""Scans without a probe on the command line: the two flags, the facts of other formats, and the messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import h5py
import numpy as np
import pytest

from cli_samples import training_payload
from ptycho_adapters import legacy
from ptycho_adapters.cli import main, parse
from ptycho_adapters.command_line.scan_input import read_measured
from ptycho_adapters.commands import train
from ptycho_adapters.files import write_scan
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODEL = "gaussian,fwhm-m=4e-7"


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope():
        yield


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CXI file of 16 patterns of 64 px whose probe was left out."""
    path = tmp_path_factory.mktemp("cxi") / "scan.cxi"
    scan = simulate(SimulationConfig(object_size_px=100, step_px=9, photons=1e5))
    metadata = attrs.evolve(scan.metadata, pixel_size_m=2e-8, wavelength_m=1e-10, distance_m=2.0)
    write_scan(attrs.evolve(scan, metadata=metadata), path)
    with h5py.File(path, "r+") as file:
        del file["entry_1/image_1"]
        del file["entry_1/instrument_1/source_1/illumination"]
    return path


def words(scan: Path, out: Path, *flags: str) -> list[str]:
    return ["train", "--train-data-file", str(scan), "--output-dir", str(out), "--n-groups", "8", *flags]


def test_the_facts_of_another_format_are_settings(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The side of the patterns comes from the CXI file's header."""
    assert main(words(bare, tmp_path / "out", "--print-config", "--json")) == 0

    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["N"]["value"], settings["N"]["source"]) == (64, "scan")


def test_a_model_on_the_command_line_is_the_probe(bare: Path, tmp_path: Path) -> None:
    """What is typed reaches the scan."""
    request = train.read_request(parse(words(bare, tmp_path, "--probe-model", MODEL))[1])

    scan = read_measured(bare, request, training_payload(bare, tmp_path / "out"))

    # Half maximum of the intensity lies half a width from the middle.
    intensity = np.abs(scan.probe[0]) ** 2
    assert intensity[32, 42] / intensity[32, 32] == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "probe: expected an illumination, found none in the file; give one with probe=, --probe FILE or --probe"),
        (("--probe", "nothing.h5"), "Probe file not found: nothing.h5"),
        (("--probe-model", "lens"), "--probe-model: expected zone-plate or gaussian or rectangle or stem, found"),
        (("--probe", "a", "--probe-model", MODEL), "--probe and --probe-model: only one can be the probe"),
        (("--probe-model", "gaussian,fwhm-m=1"), "fwhm_m, defocus_m: expected a beam within half the frame of 64 px"),
    ],
)
def test_a_scan_without_a_probe_is_refused_with_the_way_out(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    """One message, exit code 2, and nothing written."""
    code = main(words(bare, tmp_path / "out", *flags))

    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_companion_file_goes_with_one_scan_only(bare: Path, tmp_path: Path) -> None:
    """The second file of a training scan is not that of the scan it is validated on."""
    request = train.read_request(parse(words(bare, tmp_path, "--product", "product.h5"))[1])

    assert request.product is not None
    assert request.product.name == "product.h5"
    assert request.of_other_scan().product is None
    assert request.of_other_scan().required_path("train_data_file") == bare


def test_what_a_reader_found_out_is_shown(bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Light in the corner is moved, and `inspect` says so."""
    path = tmp_path / "corner.cxi"
    path.write_bytes(bare.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["entry_1/ptycho_core"]
        data = file["entry_1/instrument_1/detector_1/data"]
        data[...] = np.fft.ifftshift(data[()], axes=(1, 2))

    assert main(["inspect", str(path), "--probe-model", MODEL, "--json"]) == 0

    found_out = json.loads(capsys.readouterr().out)["facts"]["found_out"]
    assert "moved from the corner to the middle" in found_out["centre_evidence"]
    assert found_out["probe_evidence"] == "given by the caller"
