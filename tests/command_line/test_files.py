"""Commands about files: what they find out, what they write, and every flag of theirs changes something."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
import tifffile
from matplotlib.figure import Figure
from matplotlib.image import imread

from cli_samples import tiny_scan
from ptycho_adapters.cli import main
from ptycho_adapters.files import read_product, read_scan, write_product, write_scan
from ptycho_adapters.plotting.overview import draw_overview
from ptycho_core.measurement.inspection import CENTRE_FOUND_BY, inspect_scan
from ptycho_core.measurement.scan import MeasurementDomain, Scan
from report_sample import full_product

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scan, a scan whose zero frequency lies in the corner, one without a probe, and a product."""
    folder = tmp_path_factory.mktemp("files")
    scan = read_scan(tiny_scan(folder))
    write_scan(attrs.evolve(scan, patterns=np.fft.ifftshift(scan.patterns, axes=(1, 2))), folder / "corner.npz")
    with np.load(folder / "scan.npz") as stored:
        np.savez(folder / "no_probe.npz", **{key: value for key, value in stored.items() if key != "probeGuess"})
    write_product(full_product(), folder / "object.h5")
    return folder


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that is to succeed and return what it says."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that is to refuse its input and return the message."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 2, captured.out
    return captured.err


def test_a_scan_is_named_with_its_facts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Kind, format, size, domain and flux agree with the file, for machines."""
    scan = read_scan(folder / "scan.npz")

    sheet = json.loads(told(capsys, "inspect", folder / "scan.npz", "--json"))

    assert (sheet["kind"], sheet["format"]) == ("scan", "NPZ")
    assert sheet["facts"]["patterns"]["number"] == scan.n_patterns
    assert sheet["facts"]["patterns"]["domain"] == "counts"
    assert sheet["facts"]["flux"]["photons_per_frame"] == pytest.approx(float(scan.counts().sum((1, 2)).mean()))
    assert sheet["facts"]["object"]["size_px"] == [100, 100]
    assert sheet["facts"]["geometry"]["wavelength_m"] is None


def test_people_get_words_and_machines_get_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json the page is text in which unknown things are said to be so."""
    text = told(capsys, "inspect", folder / "scan.npz")

    assert "scan, NPZ" in text
    assert "not given" in text
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


def test_what_is_suspicious_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A scan with its zero frequency in the corner has that finding, in both forms."""
    assert "corner" in told(capsys, "inspect", folder / "corner.npz")
    sheet = json.loads(told(capsys, "inspect", folder / "corner.npz", "--json"))
    assert "not_centred" in {finding["kind"] for finding in sheet["findings"]}


def test_a_centre_says_how_it_was_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside that of the probe's own far field, and in the finding about it."""
    facts = json.loads(told(capsys, "inspect", folder / "scan.npz", "--json"))["facts"]["patterns"]
    rolled = told(capsys, "inspect", folder / "corner.npz")

    assert facts["centres_found_by"] == CENTRE_FOUND_BY == "centre of mass on a ring (circular mean)"
    assert facts["centre_of_probe_far_field_px"] == pytest.approx([32.0, 32.0], abs=0.5)
    assert facts["centre_px"] == pytest.approx([32.0, 32.0], abs=3.0)
    assert rolled.count(CENTRE_FOUND_BY) == 2


def test_the_picture_names_the_marks(folder: Path) -> None:
    """Both centres are drawn where they are, and the legend says what found them."""
    inspection = inspect_scan(read_scan(folder / "corner.npz"))
    figure = Figure()

    draw_overview(figure, inspection)

    axes = figure.axes[0]
    legend = axes.get_legend()
    assert legend is not None
    words = [text.get_text() for text in legend.get_texts()]
    assert words == ["Centre of mass on a ring (circular mean)", "The same of the probe's own far field"]
    drawn = [tuple(float(np.asarray(line.get_data()[k])[0]) for k in (1, 0)) for line in axes.lines]
    assert drawn == [inspection.centre_px, inspection.expected_centre_px]


def test_the_picture_is_drawn_on_request(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--picture leaves one PNG and says so; without it nothing is written."""
    told(capsys, "inspect", folder / "scan.npz")
    assert list(tmp_path.iterdir()) == []

    said = told(capsys, "inspect", folder / "scan.npz", "--picture", tmp_path / "scan.png")

    assert f"wrote {tmp_path / 'scan.png'}" in said
    assert imread(tmp_path / "scan.png")[..., :3].std() > 0.05
    assert [path.name for path in tmp_path.iterdir()] == ["scan.png"]


def test_a_result_is_named_with_its_facts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A product is a result; a picture of it is refused."""
    sheet = json.loads(told(capsys, "inspect", folder / "object.h5", "--json"))

    assert sheet["kind"] == "result"
    assert sheet["facts"]["object"]["size_px"] == [60, 80]
    assert sheet["facts"]["run"]["r_factor"] == pytest.approx(0.1234)
    assert "--picture" in refused(capsys, "inspect", folder / "object.h5", "--picture", folder / "p.png")
    assert not (folder / "p.png").exists()


@pytest.mark.parametrize("command", ["inspect {file}", "convert {file} {out}"])
@pytest.mark.parametrize("name", ["nothing.npz", "text"])
def test_files_of_another_kind_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    """A missing file and one that is no scan end with code 2, their name, and nothing written."""
    (folder / "text").write_text("not a scan")
    line = [part.format(file=folder / name, out=tmp_path / "out.npz") for part in command.split()]

    assert name in refused(capsys, *line)
    assert list(tmp_path.iterdir()) == []


def test_the_domain_can_be_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--domain changes how the numbers are read, in both commands."""
    sheet = json.loads(told(capsys, "inspect", folder / "scan.npz", "--domain", "amplitude", "--json"))
    told(capsys, "convert", folder / "scan.npz", tmp_path / "a.npz", "--domain", "amplitude")

    assert sheet["facts"]["patterns"]["domain"] == "amplitude"
    assert sheet["facts"]["flux"]["photons_per_frame"] > 1e6
    assert read_scan(tmp_path / "a.npz").domain is MeasurementDomain.AMPLITUDE


def test_a_missing_probe_can_be_given(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--probe takes the probe of another file; without it the file is refused."""
    assert "probeGuess" in refused(capsys, "convert", folder / "no_probe.npz", tmp_path / "a.npz")

    told(capsys, "convert", folder / "no_probe.npz", tmp_path / "a.npz", "--probe", folder / "scan.npz")

    np.testing.assert_array_equal(read_scan(tmp_path / "a.npz").probe, read_scan(folder / "scan.npz").probe)


@pytest.mark.parametrize(
    ("name", "flags"), [("b.npz", ()), ("b.cxi", ()), ("b.dat", ("--format", "npz")), ("b.dat", ("--format", "cxi"))]
)
def test_a_scan_survives_its_conversion(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, flags: tuple[str, ...]
) -> None:
    """Suffix or --format choose the format, and the scan that comes back has the same counts and positions."""
    scan = _with_geometry(read_scan(folder / "scan.npz"))
    write_scan(scan, tmp_path / "in.npz")

    told(capsys, "convert", tmp_path / "in.npz", tmp_path / name, *flags)

    found = read_scan(tmp_path / name)
    np.testing.assert_array_equal(found.counts(), scan.counts())
    np.testing.assert_allclose(found.positions_px, scan.positions_px, rtol=1e-9)
    head = (tmp_path / name).read_bytes()[:4]
    assert head == (b"\x89HDF" if "cxi" in (name + "".join(flags)) else b"PK\x03\x04")


def _with_geometry(scan: Scan) -> Scan:
    known = attrs.evolve(scan.metadata, pixel_size_m=1e-8, wavelength_m=1.5e-10, distance_m=2.0)
    return attrs.evolve(scan, metadata=known)


def test_a_second_file_can_be_given(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--product adds the positions and the probe that a diffraction file lacks; without it the file is refused."""
    scan = _with_geometry(read_scan(folder / "scan.npz"))
    write_scan(scan, tmp_path / "in.npz")
    told(capsys, "convert", tmp_path / "in.npz", tmp_path / "both", "--format", "ptychodus")
    diffraction, product = tmp_path / "both" / "diffraction.h5", tmp_path / "both" / "product.h5"

    assert "product" in refused(capsys, "convert", diffraction, tmp_path / "out.npz")
    told(capsys, "convert", diffraction, tmp_path / "out.npz", "--product", product)
    told(capsys, "convert", tmp_path / "both", tmp_path / "whole.npz")

    for name in ("out.npz", "whole.npz"):
        found = read_scan(tmp_path / name)
        np.testing.assert_array_equal(found.counts(), scan.counts())
        np.testing.assert_allclose(found.positions_px, scan.positions_px, rtol=1e-9)


def test_arrays_become_tiff(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--array and --tiff-layout choose what a TIFF holds and how; scans and results both have objects and probes."""
    product, scan = read_product(folder / "object.h5"), read_scan(folder / "scan.npz")

    told(capsys, "convert", folder / "object.h5", tmp_path / "o.tif")
    told(capsys, "convert", folder / "object.h5", tmp_path / "p.tif", "--array", "probe", "--tiff-layout", "complex")
    told(capsys, "convert", folder / "scan.npz", tmp_path / "s.dat", "--format", "tiff")

    real, imaginary = tifffile.imread(tmp_path / "o.tif")
    np.testing.assert_array_equal(real + 1j * imaginary, product.object)
    np.testing.assert_array_equal(np.atleast_3d(tifffile.imread(tmp_path / "p.tif")).reshape(1, 16, 16), product.probe)
    assert tifffile.imread(tmp_path / "s.dat").shape == (
        2,
        *(scan.object if scan.object is not None else scan.probe).shape,
    )


def test_a_result_stays_a_result(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A product can change its container, and is no scan."""
    told(capsys, "convert", folder / "object.h5", tmp_path / "o.npz")

    np.testing.assert_array_equal(read_product(tmp_path / "o.npz").object, full_product().object)
    message = refused(capsys, "convert", folder / "object.h5", tmp_path / "o.cxi", "--format", "cxi")
    assert "--format" in message
    assert "ptychodus-product" in message


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("{out}.npz", "--array", "probe"), "--array"),
        (("{out}.npz", "--tiff-layout", "complex"), "--tiff-layout"),
        (("{out}.npz", "--format", "magic"), "magic"),
        (("{out}.xyz",), "xyz"),
        (("{folder}", "--format", "npz"), "folder"),
        (("{out}.npz", "--product", "{out}_nothing.h5"), "nothing.h5"),
    ],
)
def test_impossible_conversions_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], named: str
) -> None:
    """A flag without meaning, an unknown format and a folder are named, and nothing is written."""
    line = [flag.format(out=tmp_path / "out", folder=folder) for flag in flags]

    assert named in refused(capsys, "convert", folder / "scan.npz", *line)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["run", "scan.h5", "scan.cxi"])
def test_amplitudes_become_counts_on_request(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Formats of counts refuse amplitudes and name --as-counts, with which the same scan is written."""
    counts = _with_geometry(read_scan(folder / "scan.npz"))
    scan = attrs.evolve(counts, patterns=counts.amplitude(), domain="amplitude")
    write_scan(scan, tmp_path / "in.npz")
    line = ["convert", tmp_path / "in.npz", tmp_path / name, *(("--format", "ptychodus") if name == "run" else ())]

    assert "--as-counts" in refused(capsys, *line)
    assert not (tmp_path / name).exists()
    told(capsys, *line, "--as-counts")

    found = read_scan(tmp_path / name)
    assert found.domain is MeasurementDomain.COUNTS
    np.testing.assert_array_equal(found.patterns, scan.counts())
    assert found.metadata.extra["domain_evidence"].startswith("squares of amplitudes")


def test_only_patterns_of_scans_become_counts(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--as-counts says nothing about results and TIFF files."""
    assert "result" in refused(capsys, "convert", folder / "object.h5", tmp_path / "o.npz", "--as-counts")
    assert "TIFF" in refused(capsys, "convert", folder / "scan.npz", tmp_path / "o.tif", "--as-counts")
    assert list(tmp_path.iterdir()) == []
