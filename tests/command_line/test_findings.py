"""What is found wrong with a scan is said, kept and acted upon, by every command that works with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
import torch

from ptycho_adapters.cli import main
from ptycho_adapters.command_line.usage import UsageError
from ptycho_adapters.commands import evaluate
from ptycho_adapters.files import read_product, read_scan, write_scan
from ptycho_adapters.torch_backend import framework, generalist_for, reconstruct
from ptycho_adapters.torch_backend.inference.findings import findings_of
from ptycho_adapters.torch_backend.inference.preparation import prepare
from ptycho_adapters.torch_backend.inference.reconstruct import first_pass, preparation_for
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.measurement.findings import Finding, Suspicion
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from pathlib import Path

    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

HOT = "(2, 60) with one value in all frames, stuck"


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 frames of 64 px with a stuck pixel; frame 6 is full of light."""
    scan = simulate(SimulationConfig(object_size_px=108, step_px=10, jitter_px=2, photons=1e5, seed=2))
    counts = np.asarray(scan.patterns).astype(np.uint32)
    counts[:, 2, 60] = 20000
    counts[6] = 50000
    path: Path = tmp_path_factory.mktemp("findings") / "scan.npz"
    write_scan(attrs.evolve(scan, patterns=counts), path)
    return path


def kinds(folder: Path) -> list[str]:
    return [each["kind"] for each in json.loads((folder / "summary.json").read_text())["findings"]]


@pytest.fixture(scope="module")
def inferred(spoiled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a reconstruction by a backend that found something, too, and what was said."""
    import io  # noqa: PLC0415
    from contextlib import redirect_stderr, redirect_stdout  # noqa: PLC0415

    folder: Path = tmp_path_factory.mktemp("inferred")
    own = Finding(kind=Suspicion.BEAM_MOVED, text="the beam was moved by 3 px")
    err = io.StringIO()

    def found(*given: Any, **named: Any) -> Reconstruction:
        result = reconstruct(*given, **named)
        return attrs.evolve(result, findings=(*result.findings, own))

    with pytest.MonkeyPatch.context() as patch, redirect_stderr(err), redirect_stdout(io.StringIO()):
        patch.setattr(framework, "reconstruct", found)
        line = f"infer --test-data {spoiled} --output-dir {folder} --accelerator cpu --quiet"
        assert main(line.split()) == 0, err.getvalue()
    return folder, err.getvalue()


def test_a_reconstruction_says_what_was_found(spoiled: Path, inferred: tuple[Path, str]) -> None:
    """One warning for each finding on standard error, those of the reading before those of the reconstruction."""
    lines = [line for line in inferred[1].splitlines() if line.startswith("warning: ")]

    assert len(lines) == len(set(lines))
    assert f"warning: {spoiled}: 1 pixel at {HOT}: masked" in lines
    assert any("frame 6 full of light" in line and line.endswith("left out, with the positions") for line in lines)
    assert lines[-1] == f"warning: {spoiled}: the beam was moved by 3 px"


def test_summary_product_and_report_hold_what_was_found(inferred: tuple[Path, str]) -> None:
    """The same findings in the same order, for machines and for people; the report opens with them."""
    folder, _ = inferred
    run = read_product(folder / "object.h5").run
    page = (folder / "report.html").read_text(encoding="utf-8")

    assert run is not None
    assert kinds(folder) == [str(each.kind) for each in run.findings]
    assert len(run.findings) == len(set(run.findings))
    assert {"stuck_pixels", "glitched_frames", "beam_moved"} <= set(kinds(folder))
    assert all(each.text in page for each in run.findings)
    assert page.index("the beam was moved by 3 px") < page.index("<svg")


def test_a_whole_reconstruction_says_each_finding_once(
    spoiled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the reading found is warned of and kept, and is nothing that the reconstruction put right."""
    line = f"reconstruct {spoiled} --output-dir {tmp_path} --accelerator cpu --finish none --probe-rounds 0"
    assert main(line.split()) == 0

    captured = capsys.readouterr()
    lines = [each for each in captured.err.splitlines() if HOT in each and each.startswith("warning: ")]
    told = json.loads((tmp_path / "summary.json").read_text())
    assert len(lines) == 1
    assert kinds(tmp_path).count("stuck_pixels") == 1
    assert not [each for each in told["decisions"] if each["about"] == "put right" and HOT in each["text"]]


def test_an_inspection_of_a_result_shows_what_was_found(
    inferred: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The product tells it again."""
    assert main(["inspect", str(inferred[0] / "object.h5")]) == 0

    assert "the beam was moved by 3 px" in capsys.readouterr().out


def test_an_evaluation_of_a_result_shows_what_was_found(
    spoiled: Path, inferred: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its report opens with the findings of the run that made the result."""
    line = f"evaluate {inferred[0]} --reference {spoiled} --output-dir {tmp_path} --margin-px 1"
    assert main(line.split()) == 0

    capsys.readouterr()
    assert "the beam was moved by 3 px" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("check", "n_patterns", "n_bad", "words"),
    [("mask", 24, 1, ": masked"), ("warn", 25, None, ": left as found"), ("off", 25, None, "more than twice")],
)
def test_the_flag_decides_what_an_inspection_sees(
    spoiled: Path, check: str, n_patterns: int, n_bad: int | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Masked and left out; said and left; or not looked for, so that the inspection itself has to stumble over it."""
    assert main(["inspect", str(spoiled), "--json", "--detector-check", check]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["facts"]["patterns"]["number"] == n_patterns
    assert told["facts"]["patterns"]["bad_pixels"] == n_bad
    assert words in "; ".join(each["text"] for each in told["findings"])
    assert ("stuck_pixels" in {each["kind"] for each in told["findings"]}) is (check != "off")


@pytest.mark.parametrize(("check", "n_patterns"), [("mask", 24), ("warn", 25), ("off", 25)])
def test_the_flag_decides_what_a_training_trains_on(
    spoiled: Path, check: str, n_patterns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training says and keeps what was found, and has the frames that are left."""
    line = (
        f"train --train-data-file {spoiled} --output-dir {tmp_path} --n-groups 8 --gridsize 1 --epochs 1 "
        f"--n-filters-scale 1 --accelerator cpu --logger none --quiet --detector-check {check}"
    )
    assert main(line.split()) == 0

    captured = capsys.readouterr()
    assert f"{n_patterns} patterns of 64 px" in captured.out
    assert ("glitched_frames" in kinds(tmp_path)) is (check != "off")
    assert ("frame 6 full of light" in captured.err) is (check != "off")


def test_a_conversion_copies_what_is_there_unless_asked(
    spoiled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The copy has all frames and values; with the flag it has what is a measurement."""
    assert main(["convert", str(spoiled), str(tmp_path / "copy.npz")]) == 0
    assert main(["convert", str(spoiled), str(tmp_path / "clean.npz"), "--detector-check", "mask"]) == 0

    capsys.readouterr()
    copy, clean = (read_scan(tmp_path / name, detector_check="off") for name in ("copy.npz", "clean.npz"))
    np.testing.assert_array_equal(copy.patterns, read_scan(spoiled, detector_check="off").patterns)
    assert (copy.n_patterns, clean.n_patterns) == (25, 24)


def test_a_comparison_of_halves_says_what_was_taken_out(
    spoiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scan that is cut in two is one without its faults, and that is told."""
    seen: list[int] = []

    def halves(scan: Scan, *_given: object, **_named: object) -> None:
        seen.append(scan.n_patterns)
        raise UsageError("far enough")

    monkeypatch.setattr(evaluate, "find_model", lambda path: path)
    monkeypatch.setattr(evaluate, "compare_halves", halves)
    line = f"evaluate {spoiled} --model-path {tmp_path} --output-dir {tmp_path / 'out'}"

    assert main(line.split()) == 2

    assert seen == [24]
    assert f"warning: {spoiled}: 1 pixel at {HOT}: masked" in capsys.readouterr().err


def test_a_training_says_what_it_put_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was found out before its first step is warned of, kept, and told of the model later; of several, by file."""
    scan = simulate(SimulationConfig(object_size_px=108, step_px=10, jitter_px=2, photons=1e5, seed=2))
    sound, off = tmp_path / "sound.npz", tmp_path / "days" / "off.npz"
    off.parent.mkdir()
    write_scan(scan, sound)
    write_scan(attrs.evolve(scan, patterns=np.roll(scan.patterns, (4, 3), axis=(1, 2))), off)
    folder, text = tmp_path / "model", "the direct beam is off the middle of the patterns by (4, 3) px"
    line = f"train --train-data-file {sound} --training-directories {off.parent} --output-dir {folder} --quiet"

    assert main(f"{line} --n-groups 16 --gridsize 1 --max-epochs 1 --n-filters-scale 1 --accelerator cpu".split()) == 0

    warned = [each for each in capsys.readouterr().err.splitlines() if text in each]
    assert [each.startswith(f"warning: {off}: {text}") for each in warned] == [True]
    told = json.loads((folder / "summary.json").read_text())["findings"]
    assert [each["text"].startswith(f"off.npz: {text}") for each in told if each["kind"] == "beam_moved"] == [True]
    assert main(["inspect", str(folder)]) == 0
    assert text in capsys.readouterr().out


def test_an_unknown_word_is_refused(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the flag and the words that it knows."""
    assert main(["inspect", str(spoiled), "--detector-check", "maybe"]) == 2

    message = capsys.readouterr().err
    assert "--detector-check" in message
    assert "warn" in message


def test_the_probe_before_its_refinement_is_kept(spoiled: Path, inferred: tuple[Path, str]) -> None:
    """A report can show what the refinement changed: the scan's own probe, at the photons of the one that was found."""
    product, given = read_product(inferred[0] / "object.h5"), read_scan(spoiled).probe

    assert product.run is not None
    assert product.run.first_probe is not None
    first, flat = product.run.first_probe.ravel(), np.asarray(given).ravel()
    assert abs(np.vdot(first, flat)) == pytest.approx(float(np.linalg.norm(first) * np.linalg.norm(flat)), rel=1e-5)
    assert np.linalg.norm(first) == pytest.approx(float(np.linalg.norm(product.probe)), rel=1e-5)


def test_a_background_in_a_poor_fit_is_doubted() -> None:
    """What a network cannot explain otherwise may be taken for a background."""
    scan = simulate(SimulationConfig(object_size_px=108, step_px=10, jitter_px=2, photons=1e5, seed=2))
    counts = np.random.default_rng(4).poisson(np.asarray(scan.patterns) + 2.0)
    noisy = attrs.evolve(scan, patterns=counts.astype(np.uint32))
    settings = TorchInferenceConfig(probe_rounds=1, position_refinement="none")
    model, every = generalist_for(noisy), np.arange(noisy.n_patterns)
    with torch.inference_mode():
        run, _ = first_pass(model, noisy, every, PyTorchExecutionConfig(accelerator="cpu"), settings)
        prepared = prepare(run, preparation_for(model, settings))

    def said_of(deviance: float) -> str:
        metrics = {"deviance_per_px": deviance, "expected_deviance_per_px": 0.4, "r_factor": 0.3}
        found = findings_of(prepared, {**metrics, "expected_r_factor": 0.1})
        return next(each.text for each in found if each.kind == Suspicion.BACKGROUND)

    assert "the fit is poor" not in said_of(0.4)
    assert "as the fit is poor" in said_of(4.0)
