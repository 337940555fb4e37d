"""`ptycho reconstruct`: the whole way with its decisions, and many scans one after the other."""

from __future__ import annotations

import csv
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from cli_samples import two_scans_and_none, without_work
from ptycho_adapters import legacy
from ptycho_adapters.cli import main
from ptycho_adapters.command_line import inference
from ptycho_adapters.command_line.inference import ReadScan
from ptycho_adapters.commands import reconstruct as command
from ptycho_adapters.files import read_product, read_scan, write_scan
from ptycho_adapters.report import results
from ptycho_adapters.report.decisions import Subject, decisions_after
from ptycho_adapters.torch_backend.data.resident import ResidentScan
from ptycho_core.config.record import evolve
from ptycho_core.config.table import INFERENCE
from ptycho_core.results.reconstruction import Reconstruction
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


FLAGS = ("--accelerator", "cpu", "--probe-rounds", "0")


@attrs.frozen(kw_only=True, eq=False)
class Ran:
    """A reconstruction by the command line: its file and folder, what was said, and what came out inside."""

    scan: Path
    folder: Path
    out: str
    err: str
    ready: ReadScan
    result: Reconstruction

    @property
    def summary(self) -> dict[str, list[dict[str, str]]]:
        """What the folder says."""
        content: dict[str, list[dict[str, str]]] = json.loads((self.folder / "summary.json").read_text())
        return content


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope():
        yield


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A bright scan of 16 patterns, finished, beside its truth."""
    folder: Path = tmp_path_factory.mktemp("ran")
    scan, out = folder / "bright.npz", folder / "out"
    write_scan(simulate(SimulationConfig(object_size_px=100, step_px=9, seed=1, photons=1e6)), scan)
    said, seen = (io.StringIO(), io.StringIO()), []

    def watched(ready: ReadScan) -> Reconstruction:
        seen.append((ready, inference.reconstruct_read(ready)))
        return seen[-1][1]

    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said[0]), redirect_stderr(said[1]):
        patch.setattr(command, "reconstruct_read", watched)
        assert main(["reconstruct", str(scan), "--output-dir", str(out), "--reference", str(scan), *FLAGS]) == 0
    ((ready, result),) = seen
    texts = [each.getvalue() for each in said]
    return Ran(scan=scan, folder=out, out=texts[0], err=texts[1], ready=ready, result=result)


def test_each_decision_is_one_line_with_its_reason(ran: Ran) -> None:
    """On standard error, in the summary and at the top of the report stand the same words in the same order."""
    lines = [line.removeprefix(f"{ran.scan}: ") for line in ran.err.replace("\r", "\n").splitlines()]
    told = [f"{each['about']}: {each['text']}" for each in ran.summary["decisions"]]

    assert [each["about"] for each in ran.summary["decisions"]] == [str(subject) for subject in Subject]
    assert [line for line in lines if line in told] == told
    page = (ran.folder / "report.html").read_text(encoding="utf-8").replace("&#39;", "'")
    places = [page.index(f"<li>{text}</li>") for text in told]
    assert places == sorted(places)
    assert places[-1] < page.index("<svg")


def test_the_finish_is_the_commands_own_default_and_says_what_kept_it(ran: Ran) -> None:
    """It runs without being asked for; gain and R-factors in the words are those of the result."""
    figures = ran.result.metrics
    (finish,) = [each["text"] for each in ran.summary["decisions"] if each["about"] == "finish"]

    assert figures["finish_steps"] > 0
    assert finish.startswith(f"kept, {figures['finish_steps']:.0f} step")
    assert f"{figures['finish_gain']:.4g}; " in finish
    assert f"{figures['pass_r_factor']:.3g} to {figures['r_factor']:.3g}" in finish


def test_pass_finish_and_reference_are_compared(ran: Ran) -> None:
    """The product holds the pass's object, the summary how near both are to the truth, the report all three."""
    run, page = read_product(ran.folder / "object.h5").run, (ran.folder / "report.html").read_text(encoding="utf-8")
    figures = json.loads((ran.folder / "summary.json").read_text())["figures"]

    assert run is not None
    np.testing.assert_array_equal(run.before_finish, ran.result.before_finish)
    assert 0.5 < figures["pass_phase_correlation"] < figures["phase_correlation"] < 1.0
    for kind in ("Phase", "Amplitude"):
        assert all(f'aria-label="{kind}, {stage}"' in page for stage in ("pass", "finished", "reference"))
    assert "Standard deviation of the phase" in page
    assert "R-factor that shot noise leaves" in page


@pytest.mark.parametrize(
    ("changes", "figures", "words"),
    [
        ({"finish": "auto"}, {"finish_steps": 0.0, "finish_gain": 0.0, "finish_refused": 12.5}, "would rise by 12.5"),
        ({"finish": "auto"}, {"finish_steps": 2.0, "finish_gain": 7.5}, "fell by 7.5; R-factor"),
        ({"finish": "auto"}, {"finish_steps": 2.0, "finish_gain": -7.5}, "rose by 7.5, no more than noise explains"),
        ({"finish": "auto"}, {"finish_steps": 0.0, "finish_gain": 0.0}, "none: no step lowers the misfit"),
        ({"finish": 3}, {"finish_steps": 3.0}, "kept, 3 steps as asked"),
        ({"finish": "none", "error_bars": False}, {}, "none: none was asked for"),
    ],
)
def test_each_end_of_a_finish_has_its_words(
    ran: Ran, changes: dict[str, object], figures: dict[str, float], words: str
) -> None:
    """Refused by a figure, without effect, as many steps as asked, or none."""
    plain = {name: value for name, value in ran.result.metrics.items() if not name.startswith("finish_")}
    result = attrs.evolve(ran.result, metrics={**plain, **figures})
    payload = ran.ready.payload
    payload = attrs.evolve(payload, pt_inference_config=evolve(payload.pt_inference_config, **changes))

    texts = [each.text for each in decisions_after(result, ran.ready.model, payload) if each.about is Subject.FINISH]

    assert len(texts) == 1
    assert words in texts[0]


@pytest.mark.parametrize(
    ("ratio", "words"), [(0.9, "below it"), (1.0, "at the noise"), (1.5, "above it"), (10.0, "poor, far above it")]
)
def test_a_refined_probe_and_the_fit_are_said(ran: Ran, ratio: float, words: str) -> None:
    """The probe's refinement has its reason, and the fit is measured by what shot noise leaves."""
    metrics = {**ran.result.metrics, "deviance_per_px": 0.5 * ratio, "expected_deviance_per_px": 0.5}
    result = attrs.evolve(ran.result, probe_refined=True, metrics=metrics)

    texts = {each.about: each.text for each in decisions_after(result, ran.ready.model, ran.ready.payload)}

    assert "refined in rounds with the network, as the command line asks" in texts[Subject.PROBE]
    assert f"{ratio:.3g} times that of shot noise, {words}" in texts[Subject.FIT]


def test_a_probe_that_stays_has_its_reason(ran: Ran) -> None:
    """Its rounds were made, and explained no more than noise that is followed."""
    result = attrs.evolve(ran.result, probe_refined=False, probe_stays=True)

    texts = {each.about: each.text for each in decisions_after(result, ran.ready.model, ran.ready.payload)}

    assert "not refined: the counts are so few that a refined one explains no more" in texts[Subject.PROBE]


def test_the_sources_of_its_settings_are_named(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own defaults are a source of their own, below the user's; error bars go with a finish that is left out."""
    sources = []
    for more in ([], ["--finish", "none"]):
        assert main(["reconstruct", str(ran.scan), "--print-config", "--json", *more]) == 0
        told = json.loads(capsys.readouterr().out)["settings"]
        assert told["test_data_file"]["value"] == str(ran.scan)
        sources.append([told[name][part] for name in ("finish", "error_bars") for part in ("value", "source")])

    assert sources == [["auto", "command", True, "command"], ["none", "cli", False, "torch_default"]]
    assert all(INFERENCE.key(name) == name for name in command.OWN_DEFAULTS)


@pytest.fixture
def quick(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the scans that were reconstructed, without work: each gets the result that is known, and no pictures."""
    done: list[str] = []
    without_work(monkeypatch, command, ran.result, lambda ready: done.append(ready.source.name))
    return done


@pytest.fixture
def scans(ran: Ran, tmp_path: Path) -> Path:
    """A folder with two scans and a file that is none, which comes between them."""
    return two_scans_and_none(tmp_path / "scans", ran.scan)


def _run(out: Path, *arguments: str | Path) -> int:
    return main(["reconstruct", *map(str, arguments), "--output-dir", str(out), *FLAGS, "--quiet"])


def _states(out: Path) -> list[tuple[str, str]]:
    with (out / "summary.csv").open(newline="") as file:
        return [(row["file"].rpartition("/")[2], row["state"]) for row in csv.DictReader(file)]


def test_of_several_scans_each_has_a_folder_and_a_failure_stops_none(
    scans: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The table on standard output, JSON and CSV say what became of each; the code says that one failed."""
    out = scans.parent / "out"

    assert _run(out, scans / "*.npz") == 1

    captured = capsys.readouterr()
    assert quick == ["a.npz", "c.npz"]
    assert _states(out) == [("a.npz", "done"), ("b.npz", "failed"), ("c.npz", "done")]
    told = json.loads((out / "summary.json").read_text())["scans"]
    assert [bool(each["error"]) for each in told] == [False, True, False]
    rows = [line.split() for line in captured.out.splitlines()]
    assert rows[0] == ["file", "state", "R-factor", "seconds"]
    assert rows[1][1:3] == ["done", f"{told[0]['r_factor']:.4g}"]
    assert rows[2][:3] == [str(scans / "b.npz"), "failed", "-"]
    assert f"failed: 1 of 3 scans: {scans / 'b.npz'}" in captured.err
    assert {path.name for path in (out / "c").iterdir()} == {*results.RESULT_NAMES, results.UNCERTAINTY_NAME}


def test_what_is_there_is_not_done_again(scans: Path, quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Unless file, settings or flags are others, a part of the result is gone, or all is asked for again."""
    out, both = scans.parent / "out", (scans / "a.npz", scans / "c.npz")

    def redone(*flags: str) -> list[str]:
        quick.clear()
        assert _run(out, *both, *flags) == 0
        return list(quick)

    assert redone() == ["a.npz", "c.npz"]
    assert redone() == []
    assert _states(out) == [("a.npz", "skipped"), ("c.npz", "skipped")]
    assert "--again redoes it" in capsys.readouterr().err
    (out / "c" / "object.h5").unlink()
    assert redone() == ["c.npz"]
    (scans / "a.npz").write_bytes((scans / "a.npz").read_bytes())
    assert redone() == ["a.npz"]
    assert redone("--finish", "none") == ["a.npz", "c.npz"]
    assert redone("--finish", "none", "--domain", "counts") == ["a.npz", "c.npz"]
    assert redone("--finish", "none", "--domain", "counts", "--again") == ["a.npz", "c.npz"]


def test_one_scan_by_a_pattern_has_a_folder_too(scans: Path, quick: list[str]) -> None:
    """Where a result lies does not hang on how many files fit today; a file named twice counts once."""
    assert _run(scans.parent / "out", scans / "a*.npz", scans / "a.npz") == 0

    assert quick == ["a.npz"]
    assert (scans.parent / "out" / "a" / "object.h5").is_file()


@pytest.mark.parametrize(
    ("names", "more", "words"),
    [
        (("a.npz", "more/a.npz"), (), "a folder of its own"),
        (("a.npz", "summary.csv.npz"), (), "a table of all scans"),
        (("a.npz", "missing.npz"), (), "Scan file not found"),
        (("*.emd",), (), "files that fit"),
        ((), (), "SCAN is required"),
        (("a.npz", "c.npz"), ("--reference", "a.npz"), "--reference: expected none beside several scans"),
        (("a.npz",), ("--test-data", "a.npz"), "given without a flag"),
        (("a.npz", "c.npz"), ("--finish", "-1"), "--finish"),
        (("a.npz", "c.npz"), ("--model-path", "nowhere"), "nowhere"),
        (("a.npz", "c.npz"), ("--model-path", "empty"), "expected a model archive, found an empty file"),
        (("a.npz",), ("--learning-rate", "1"), "belongs to a training"),
    ],
)
def test_what_is_wrong_is_named_before_any_work(
    names: Sequence[str],
    more: Sequence[str],
    words: str,
    *,
    scans: Path,
    quick: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Code 2, a message, no scan read and no folder made."""
    monkeypatch.chdir(scans)
    (scans / "more").mkdir()
    (scans / "empty").mkdir()
    (scans / "empty" / "wts.h5.zip").touch()
    for name in ("more/a.npz", "summary.csv.npz"):
        (scans / name).write_bytes((scans / "a.npz").read_bytes())

    assert _run(scans.parent / "out", *names, *more) == 2

    assert words in capsys.readouterr().err
    assert quick == []
    assert not (scans.parent / "out").exists()


def test_a_reference_that_fits_nowhere_costs_no_result(
    scans: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The message and code 2 come once everything is written."""
    np.savez(scans / "small.npz", object=np.ones((5, 5), dtype=np.complex64))

    assert _run(scans.parent / "out", scans / "a.npz", "--reference", scans / "small.npz") == 2

    captured = capsys.readouterr()
    assert "against the reference" in captured.err
    assert "reconstructed" in captured.out
    assert {path.name for path in (scans.parent / "out").iterdir()} == {*results.RESULT_NAMES, results.UNCERTAINTY_NAME}


def test_a_model_is_loaded_once(ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many scans there are; the package's own is made for each."""
    loaded: list[Path] = []

    class Backend:
        def load_archive(self, path: Path) -> object:
            loaded.append(path)
            return ran.ready.model

    monkeypatch.setattr(inference, "framework", lambda _name: Backend())
    models = inference.Models()

    given = [models.give(ran.ready.payload, tmp_path / name, ran.ready.scan) for name in ("m", "m", "n")]

    assert loaded == [tmp_path / "m", tmp_path / "n"]
    assert [path.name for _, path in given] == ["m", "m", "n"]


def test_a_result_becomes_a_known_object_to_train_on(ran: Ran, tmp_path: Path) -> None:
    """The copy has the patterns of the result with its object, probe and positions, and a training takes it."""
    labelled, product = tmp_path / "labelled.npz", ran.folder / "object.h5"
    assert main(["convert", str(ran.scan), str(labelled), "--result", str(product)]) == 0

    scan, given = read_scan(labelled), read_product(product)
    assert scan.object is not None
    np.testing.assert_array_equal(scan.object, given.object)
    np.testing.assert_array_equal(scan.probe, given.probe)
    np.testing.assert_allclose(scan.positions_px + given.origin_px, given.positions_px)
    assert ResidentScan(scan, labelled=True).flux > 0.0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--result", "{product}"), "--detector-check"),
        (("--result", "nowhere.h5"), "Result file not found"),
        (("--result", "{product}", "--object", "{product}"), "only one can say the object"),
    ],
)
def test_a_result_of_another_scan_is_refused(
    ran: Ran, tmp_path: Path, more: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one of the same scan with other frames: what is known would be known of the wrong patterns."""
    scan = read_scan(ran.scan)
    write_scan(scan.subset(np.arange(scan.n_patterns)[::-1]), tmp_path / "other.npz")
    words_typed = [word.format(product=ran.folder / "object.h5") for word in more]

    assert main(["convert", str(tmp_path / "other.npz"), str(tmp_path / "out.npz"), *words_typed]) == 2

    assert words in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()
