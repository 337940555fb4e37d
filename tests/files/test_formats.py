"""The matrix of docs/formats.md: every format is read, inspected, and answers when it is incomplete or broken."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import beamline_samples as samples
from format_samples import SAMPLES, Sample
from ptycho_adapters.cli import main, parse
from ptycho_adapters.command_line.scan_source import read_source
from ptycho_core.errors import ScanFileError

ROOT = Path(__file__).parents[2]
HXN = ROOT.parent / "shared" / "data" / "hxn_20frames.cxi"
COLUMNS = ("read", "inspect", "incomplete", "broken")
_EVERY = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def _sheet(capsys: pytest.CaptureFixture[str], path: Path, flags: list[str]) -> dict[str, object]:
    assert main(["inspect", str(path), "--json", *flags]) == 0
    sheet: dict[str, object] = json.loads(capsys.readouterr().out)
    return sheet


@_EVERY
def test_read(sample: Sample, tmp_path: Path) -> None:
    """Counts exactly, positions to rounding, and nothing else than the experiment."""
    path, truth = sample.save(tmp_path), samples.experiment()

    scan = read_source(parse(["inspect", str(path), *sample.typed(tmp_path)])[1], path)

    edge = (scan.N - samples.N) // 2
    inside = slice(edge, edge + samples.N)
    assert np.array_equal(scan.counts()[:, inside, inside], truth.counts)
    np.testing.assert_allclose(scan.positions_px, sample.positions_px(), rtol=1e-6, atol=1e-9)


@_EVERY
def test_inspect(sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there is told as a scan, exit code 0."""
    sheet = _sheet(capsys, sample.save(tmp_path), sample.typed(tmp_path))

    assert sheet["kind"] == "scan"
    assert isinstance(facts := sheet["facts"], dict)
    assert facts["patterns"]["number"] == samples.N_PATTERNS
    assert sheet["missing"] == []


@_EVERY
def test_incomplete(sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is missing is named with what supplies it, and what is there is told; exit code 0."""
    path = sample.save(tmp_path)
    flags = sample.typed(tmp_path)
    spoilt = sample.spoil(path)

    sheet = _sheet(capsys, spoilt if isinstance(spoilt, Path) else path, flags)

    assert sheet["kind"] == "incomplete scan"
    assert sample.missing in " ".join(map(str, sheet["missing"] if isinstance(sheet["missing"], list) else []))


@_EVERY
@pytest.mark.parametrize("share", [0.3, 0.7, 0.9])
def test_broken(sample: Sample, share: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that was cut is refused by its name, never read in part, and inspect does not stumble over it."""
    path = sample.save(tmp_path)
    cut = path if path.is_file() else max(path.iterdir(), key=lambda child: (child.stat().st_size, child.name))
    content = cut.read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    flags = sample.typed(tmp_path)

    with pytest.raises(ScanFileError):
        read_source(parse(["inspect", str(path), *flags])[1], path)

    assert main(["inspect", str(path), *flags]) in {0, 2}
    said = capsys.readouterr()
    assert path.name in said.out + said.err
    assert "Traceback" not in said.err


def test_a_result_of_ptypy_is_no_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is inspected as a result; where a scan is asked for, the message says what is there."""
    path = samples.save_ptyr(tmp_path / "result.ptyr")

    assert _sheet(capsys, path, [])["kind"] == "result"
    with pytest.raises(ScanFileError, match=r"expected a scan in .* found an HDF5 file with content/obj"):
        read_source(parse(["inspect", str(path)])[1], path)
    with h5py.File(path, "r+") as file:
        file["content/obj/Sscan00G00/_psize"][...] = np.nan
    assert main(["inspect", str(path)]) == 2
    assert "_psize: expected" in capsys.readouterr().err


@pytest.mark.skipif(not HXN.exists(), reason="the measured CXI file is not on this machine")
def test_a_beamline_s_own_cxi_is_told_about(capsys: pytest.CaptureFixture[str]) -> None:
    """Frames, positions and the object pixel of a file without a probe; with a model of one it is a scan."""
    sheet = _sheet(capsys, HXN, [])
    assert isinstance(facts := sheet["facts"], dict)
    assert (facts["frames"]["number"], facts["positions"]["number"]) == (20, 20)
    assert facts["geometry"]["expected_object_pixel_m"] == pytest.approx(8e-9, rel=1e-3)

    assert _sheet(capsys, HXN, ["--probe-model", "gaussian,fwhm-m=1e-7"])["kind"] == "scan"


@pytest.mark.parametrize("name", ["PtychoShelves", "PtyPy .ptyd", "PtyLab", "NeXus", "CXI"])
def test_a_preparation_takes_what_the_format_has(name: str, tmp_path: Path) -> None:
    """All frames with their positions and lengths, nothing typed but the window."""
    sample = next(one for one in SAMPLES if one.name == name)
    path, out = sample.save(tmp_path), tmp_path / "out.npz"
    window = ["--size", str(samples.N), "--centre-y", str(samples.N // 2), "--centre-x", str(samples.N // 2)]

    assert main(["prepare", str(path), str(out), "--quiet", *window]) == 0

    scan = read_source(parse(["inspect", str(out), *sample.typed(tmp_path)])[1], out)
    good = ~samples.experiment().bad
    assert np.array_equal(scan.counts()[:, good], samples.experiment().counts[:, good])
    np.testing.assert_allclose(scan.positions_px, sample.positions_px(), rtol=1e-9)


def test_a_zip_of_another_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Python's reader of zip files says so in a way of its own, which is no reason to stumble."""
    path = SAMPLES[0].save(tmp_path)
    content = bytearray(path.read_bytes())
    needed = content.rindex(b"PK\x01\x02") + 6  # the version that is needed to read the last member
    content[needed : needed + 2] = (95).to_bytes(2, "little")
    path.write_bytes(content)

    assert main(["inspect", str(path)]) == 2
    assert path.name in capsys.readouterr().err


def _row(sample: Sample) -> str:
    return f"| {sample.name} | {' | '.join('yes' for _ in COLUMNS)} | {_cell(sample)} |"


def _cell(sample: Sample) -> str:
    return sample.written_by if sample.written_by.startswith("none") else f"`{sample.written_by}`"


def test_the_matrix_on_the_page_is_that_of_the_tests() -> None:
    """Every row and every test that a cell names is there, and no row without a format."""
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    heading = f"| format | {' | '.join(COLUMNS)} | written by other software |"
    table = page[page.index(heading) :].split("\n\n")[0].splitlines()
    written = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))

    assert table[2:-1] == [_row(sample) for sample in SAMPLES]
    assert table[-1].startswith("| PtyPy `.ptyr` | no scan | yes | ")
    for column in COLUMNS:
        assert f"def test_{column}(" in written
    for sample in SAMPLES:
        assert sample.written_by.startswith("none") or f"def {sample.written_by}(" in written
