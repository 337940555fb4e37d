"""The whole way: a simulated scan, a short training, a reconstruction, its evaluation."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import h5py
import numpy as np
import pytest
import tifffile

from cli_samples import tiny_scan
from ptycho_adapters import legacy
from ptycho_adapters.cli import main
from ptycho_adapters.command_line.scan_input import disagreements
from ptycho_adapters.commands.train import probe_change
from ptycho_adapters.files import read_product, read_scan, write_scan
from ptycho_core.measurement.findings import Suspicion
from ptycho_core.measurement.inspection import inspect_scan
from ptycho_core.measurement.scan import ScanMetadata
from ptycho_core.measurement.suspicions import findings
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_core import Scan

PROGRAM = [sys.executable, "-m", "ptycho_adapters.cli"]


@attrs.frozen
class Run:
    """The folder of a finished run and what each command said on standard output and standard error."""

    folder: Path
    said: dict[str, str]
    told: dict[str, str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run every command once."""
    folder = tmp_path_factory.mktemp("run")
    scan, model, result, judged = (folder / name for name in ("scan.npz", "model", "result", "judged"))
    lines = {
        "simulate": f"--output {scan} --object-size-px 100 --step-px 9 --photons 1e5 --seed 4",
        "train": f"--train-data-file {scan} --output-dir {model} --n-groups 16 --gridsize 1 --epochs 2 --batch-size 8 "
        "--n-filters-scale 1 --accelerator cpu --logger none",
        "infer": f"--model_path {model} --test_data {scan} --output_dir {result} --accelerator cpu",
        "evaluate": f"{result} --reference {scan} --output-dir {judged} --margin-px 1",
    }
    said, told = {}, {}
    with legacy.legacy_scope():
        for command, line in lines.items():
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err):
                code = main([command, *line.split()])
            assert code == 0, err.getvalue()
            said[command], told[command] = out.getvalue(), err.getvalue()
        yield Run(folder, said, told)


def test_every_command_reports_its_files(run: Run) -> None:
    """Standard output ends with the files, all of which are there, and nothing half-written is left."""
    for command, text in run.said.items():
        files = [line.removeprefix("wrote ") for line in text.splitlines() if line.startswith("wrote ")]
        assert files, command
        assert all((run.folder / file).is_file() for file in files)
    assert not list(run.folder.rglob("*.partial"))


def test_progress_stays_off_standard_output(run: Run) -> None:
    """Bars and notices go to standard error."""
    assert "training on" in run.told["train"]
    assert "step" in run.told["train"]
    assert "step/s" not in run.said["train"]
    assert "\r" not in run.said["train"]


def test_a_model_is_told_by_its_folder_too(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """What other commands take for a model is one to look at."""
    kinds = []
    for path in (run.folder / "model", run.folder / "model" / "wts.h5.zip"):
        assert main(["inspect", str(path), "--json"]) == 0
        sheet = json.loads(capsys.readouterr().out)
        kinds.append((sheet["kind"], sheet["facts"]["model"]["weights"]))

    assert kinds[0] == kinds[1]
    assert kinds[0][0] == "model"


def test_a_training_leaves_its_figures(run: Run) -> None:
    """Epochs, steps, losses, the change of the probe and the speed are there for people and for machines."""
    summary = json.loads((run.folder / "model" / "summary.json").read_text())

    figures = summary["figures"]
    assert figures["epochs"] == 2
    assert figures["steps"] == 4  # 14 of 16 patterns are trained on, in 2 batches per epoch
    assert figures["training_loss"] > 0
    assert figures["held_out_loss"] > 0
    assert figures["held_out_loss_at_start"] > 0
    assert re.match(r"(the start|epoch [12]), whose held-out loss of [0-9.]+ is ", figures["kept"])
    assert f"  kept  {figures['kept']}" in re.sub(r" {2,}", "  ", run.said["train"])
    assert figures["patterns_per_s"] > 0
    assert summary["settings"]["n_filters_scale"] == 1
    assert {path.name for path in (run.folder / "model").glob("*.png")} == {"probe.png", "loss.png"}


def test_a_result_is_one_product(run: Run) -> None:
    """The product holds the object on its canvas with coverage, losses, metrics and the source of every setting."""
    product = read_product(run.folder / "result" / "object.h5")
    scan = read_scan(run.folder / "scan.npz")

    assert product.coverage is not None
    assert product.object.shape == product.coverage.shape
    np.testing.assert_array_equal(product.positions_px, scan.positions_px)
    np.testing.assert_array_equal(product.loss_epochs, [0, 1])
    assert product.metrics["deviance_per_px"] > 0
    assert product.provenance["n_filters_scale"] == "archive"
    assert product.provenance["accelerator"] == "cli"
    assert product.provenance["n_groups"] == "scan"
    assert "n_groups" not in json.loads((run.folder / "result" / "summary.json").read_text())["settings"]
    np.testing.assert_array_equal(tifffile.imread(run.folder / "result" / "object.tif"), product.object)
    with h5py.File(run.folder / "result" / "object.h5") as file:
        assert file["object"].shape == (1, *product.object.shape)


def test_a_result_has_a_report(run: Run) -> None:
    """The page shows what the run knows, with every setting and its source, and names what only a reference tells."""
    page = (run.folder / "result" / "report.html").read_text(encoding="utf-8").replace("<wbr>", "")

    labels = re.findall(r'aria-label="(.*?)"', page)
    assert {"Amplitude", "Phase", "Coverage", "Residual per position", "Loss curves over the steps"} <= set(labels)
    assert "no reference was given" in page
    product = read_product(run.folder / "result" / "object.h5")
    assert product.run is not None
    assert product.provenance.keys() <= product.run.settings.keys()
    assert set(re.findall(r'<th scope="row">(\w+)</th><td class="value">.*?</td><td class="source">', page)) == set(
        product.provenance
    )
    assert re.search(r'<th scope="row">n_groups</th><td class="value">16</td><td class="source">scan<', page)
    assert re.search(
        r'<th scope="row">model_path</th><td class="value">[^<]+</td><td class="source">command line<', page
    )
    assert ">explicit<" not in page
    assert not re.search(r'<span class="quiet">not recorded', page)


def test_a_result_knows_how_it_came_about(run: Run) -> None:
    """R-factors per pattern average to that of all, by amplitude; the first probe has the photons of the last."""
    product, scan = read_product(run.folder / "result" / "object.h5"), read_scan(run.folder / "scan.npz")

    details = product.run
    assert details is not None
    assert details.r_factors is not None
    amplitudes = scan.amplitude().sum(axis=(1, 2), dtype=np.float64)
    mean = float((details.r_factors * amplitudes).sum() / amplitudes.sum())
    assert mean == pytest.approx(product.metrics["r_factor"], rel=1e-5)
    assert details.held_out_losses is not None
    assert len(details.held_out_losses) == 2
    if details.first_probe is not None:
        photons = float(np.square(np.abs(details.first_probe)).sum())
        assert photons == pytest.approx(product.photons_per_frame, rel=1e-4)


def test_an_evaluation_adds_the_reference_to_the_report(run: Run) -> None:
    """The page keeps what the result knew, and shows the ring correlation with its thresholds."""
    page = (run.folder / "judged" / "report.html").read_text(encoding="utf-8")

    labels = set(re.findall(r'aria-label="(.*?)"', page))
    assert {"Fourier ring correlation with thresholds", "Phase, reference", "Residual per position"} <= labels
    assert "half-bit threshold" in page
    assert "no reference was given" not in page


def test_an_evaluation_is_against_the_truth_of_the_scan(run: Run) -> None:
    """Figures and choices are recorded as numbers."""
    evaluation = json.loads((run.folder / "judged" / "evaluation.json").read_text())

    assert -1 <= evaluation["figures"]["phase_correlation"] <= 1
    assert evaluation["settings"]["margin_px"] == 1
    assert (run.folder / "judged" / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_a_truth_compared_with_itself_is_perfect(run: Run, tmp_path: Path) -> None:
    """An NPZ object against the same object, over a region, correlates fully."""
    truth = read_scan(run.folder / "scan.npz").object
    assert truth is not None
    np.savez(tmp_path / "truth.npz", object=truth)
    line = f"evaluate {tmp_path / 'truth.npz'} --reference {run.folder / 'scan.npz'} --output-dir {tmp_path / 'e'}"

    with redirect_stdout(io.StringIO()):
        assert main([*line.split(), "--region", "20:60,30:80"]) == 0

    figures = json.loads((tmp_path / "e" / "evaluation.json").read_text())["figures"]
    assert figures["phase_correlation"] == pytest.approx(1, abs=1e-6)
    assert figures["n_pixels"] == 40 * 50


def test_a_model_of_another_size_is_refused_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    """A scan of 128 px does not fit a model of 64 px; the message says so and no folder appears."""
    err = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(err):
        big = f"simulate --output {tmp_path / 'big.npz'} --N 128 --object-size-px 140 --step-px 9"
        assert main(big.split()) == 0
        line = f"infer --model-path {run.folder / 'model'} --test-data {tmp_path / 'big.npz'} --output-dir"
        code = main([*line.split(), str(tmp_path / "out")])

    assert code == 2
    assert "128 px" in err.getvalue()
    assert not (tmp_path / "out").exists()


def test_a_quiet_reconstruction_says_nothing_on_the_way(run: Run, tmp_path: Path) -> None:
    """With the bar, standard error says what is being done; without, it is silent."""
    err = io.StringIO()
    line = f"infer --model-path {run.folder / 'model'} --test-data {run.folder / 'scan.npz'} --output-dir {tmp_path}"
    with redirect_stdout(io.StringIO()), redirect_stderr(err):
        assert main([*line.split(), "--n-groups", "3", "--quiet"]) == 0

    assert "reconstructing 16 patterns" in run.told["infer"]
    assert err.getvalue() == ""


@pytest.mark.parametrize("flag", ["--seed", "--subsample-seed"])
def test_a_few_patterns_are_drawn_by_a_seed(run: Run, tmp_path: Path, flag: str) -> None:
    """Either seed chooses the patterns that take part; the other one is then of no account."""
    other = {"--seed": "", "--subsample-seed": "--seed 7"}[flag]
    drawn = []
    for seed in (0, 1):
        out = tmp_path / str(seed)
        line = f"infer --model-path {run.folder / 'model'} --test-data {run.folder / 'scan.npz'} --output-dir {out}"
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            assert main(f"{line} --n-groups 5 --probe-rounds 0 --accelerator cpu {flag} {seed} {other}".split()) == 0
        drawn.append(read_product(out / "object.h5").positions_px)

    expected = [np.sort(np.random.default_rng(seed).permutation(16)[:5]) for seed in (0, 1)]
    positions = read_scan(run.folder / "scan.npz").positions_px
    for found, indices in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(found, positions[indices])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return read_scan(tiny_scan(tmp_path_factory.mktemp("small")))


@pytest.mark.parametrize(
    ("declared", "stated", "told"),
    [(1e5, None, 0), (None, 1e5, 0), (None, None, 0), (1e9, None, 1), (None, 1e3, 1), (1e9, 1e9, 2)],
)
def test_a_declared_dose_that_is_not_measured_is_told(
    small: Scan, declared: float | None, stated: float | None, told: int
) -> None:
    """The metadata and the flag are each held against the counts, once."""
    scan = attrs.evolve(small, metadata=ScanMetadata(nphotons=declared))

    of_metadata = [each for each in findings(inspect_scan(scan)) if each.kind is Suspicion.DECLARED_FLUX]

    assert len(list(disagreements(scan, stated))) + len(of_metadata) == told


def test_a_domain_against_the_word_of_the_file_is_told(tmp_path: Path) -> None:
    """Who overrules a file is reminded of what it says."""
    scan = read_scan(tiny_scan(tmp_path), domain="amplitude")

    assert any("the file says counts" in text for text in disagreements(scan, None))


def test_probe_change_is_blind_to_a_complex_factor() -> None:
    """A scaled and turned probe has not changed; an orthogonal one has changed entirely."""
    probe = np.random.default_rng(0).normal(size=(1, 8, 8, 2)).view(np.complex128)[..., 0].astype(np.complex64)
    other = np.zeros_like(probe)
    other[0, 0, 0], other[0, 0, 1] = -probe[0, 0, 1].conj(), probe[0, 0, 0].conj()

    assert probe_change(2j * probe, probe) == pytest.approx(0, abs=1e-3)
    assert probe_change(other, probe) == pytest.approx(1, abs=1e-6)


def started(arguments: list[str], sign: str) -> subprocess.Popen[str]:
    """Start the command line and wait until it has said something; minutes of work are then before it."""
    process = subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    heard = ""
    while sign not in heard and (letter := process.stderr.read(1)):
        heard += letter
    assert sign in heard, heard
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_simulation_stops_when_it_is_told_to(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """A signal ends the program with its own code and leaves an older file as it was."""
    path = tmp_path / "scan.npz"
    path.write_bytes(b"older")
    line = f"simulate --output {path} --object-size-px 500 --step-px 2 --n-modes 6"
    process = started(line.split(), "simulating")

    process.send_signal(number)
    _, err = process.communicate()  # a program that is deaf to signals ends too, when its work is done

    assert process.returncode == code
    assert "Traceback" not in err
    assert path.read_bytes() == b"older"
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.npz"]


@pytest.mark.parametrize(
    ("object_px", "said"),
    [
        (92, "training on 9 patterns of 64 px: few, so in groups of 1 x 1 "),
        (100, "16 patterns of 64 px: few, so in groups of 2 x 2 "),
    ],
)
def test_a_small_scan_trains_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], object_px: int, said: str
) -> None:
    """Without a word about groups or validation; standard error says what was suited to it, the settings why."""
    scan = simulate(SimulationConfig(object_size_px=object_px, step_px=9, photons=1e5))
    write_scan(scan, tmp_path / "scan.npz")
    line = f"--train-data-file {tmp_path / 'scan.npz'} --output-dir {tmp_path / 'out'} --n-groups {scan.n_patterns}"
    short = "--epochs 1 --probe-rounds 0 --n-filters-scale 1 --logger none --accelerator cpu"

    with legacy.legacy_scope():
        code = main(["train", *line.split(), *short.split()])
        shown = main(["train", *line.split(), *short.split(), "--print-config"])

    captured = capsys.readouterr()
    assert (code, shown) == (0, 0), captured.err
    assert said in captured.err
    assert re.search(r"held_out_loss +\d", captured.out)
    assert re.search(r"gridsize +\d +scan", captured.out)


def test_a_training_stops_when_it_is_told_to(tmp_path: Path) -> None:
    """SIGTERM in the middle of the steps ends with 143, without an archive and without a traceback."""
    scan = tiny_scan(tmp_path)
    line = f"train --train-data-file {scan} --output-dir {tmp_path / 'out'} --n-groups 16 --gridsize 1 --epochs 1000"
    process = started([*line.split(), "--batch-size", "8", "--n-filters-scale", "1"], "0% |")

    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()

    assert process.returncode == 143
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "wts.h5.zip").exists()
    assert not list(tmp_path.rglob("*.partial"))
