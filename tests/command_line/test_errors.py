"""Endings of the command line: codes, messages, and what is left behind."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from cli_samples import tiny_scan
from factory_samples import empty_model
from ptycho_adapters import cli, generalist_for, legacy, read_scan, save_archive, write_scan
from ptycho_adapters.cli import main
from scan_arrays_sample import sample_arrays, save_npz

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = (
    *("simulate", "prepare", "reconstruct", "refine", "live", "train"),
    *("infer", "evaluate", "convert", "inspect", "migrate"),
)


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope():
        yield


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_scan(tmp_path_factory.mktemp("scan"))


def words(line: str, **paths: Path) -> list[str]:
    return [part.format(**paths) for part in line.split()]


TRAIN = "train --train-data-file {scan} --output-dir {out} --n-groups 8"
WRONG = [
    ("train", "--train-data-file is required"),
    ("train --train-data-file {scan}", "--output-dir is required"),
    ("train --train-data-file {scan} --output-dir {out}", "--n-groups"),
    ("train --train-data-file {nothing} --output-dir {out} --n-groups 8", "Training data file not found"),
    ("train --train-data-file {folder} --output-dir {out} --n-groups 8", "is a folder"),
    (f"{TRAIN} --learnig-rate 3", "did you mean --learning-rate"),
    (f"{TRAIN} --batch-size 3", "--batch-size: expected a positive power of 2, found 3"),
    (f"{TRAIN} --batch-size many --nepochs -1", "--nepochs: expected a positive number, found -1"),
    (f"{TRAIN} --max-epochs 0", "--max-epochs"),
    (f"{TRAIN} --learning-rate nan", "--learning-rate: expected a finite number"),
    (f"{TRAIN} --middle-trim 4", "--middle-trim"),
    (f"{TRAIN} --domain volts", "--domain"),
    (f"{TRAIN} --prefetch-factor 2", "--prefetch-factor"),
    (f"{TRAIN} --no-probe-mask yes", "--no-probe-mask takes no value"),
    (f"{TRAIN} --max-time soon", "--max-time: expected a duration"),
    (f"{TRAIN} --config {{nothing}}", "Configuration file not found"),
    (f"{TRAIN} --test-data-file {{nothing}}", "Test data file not found"),
    (f"{TRAIN} --N 128", "patterns: expected 128 px, as --N says, found 64 px"),
    (f"{TRAIN} stray", "unexpected 'stray'"),
    ("train --train-data-file {scan} --output-dir {out} --n-groups 800 --validation-fraction 0", "--n-groups"),
    ("infer --model-path {nothing} --test-data {scan} --output-dir {out}", "Model directory not found"),
    ("infer --model-path {folder} --test-data {scan} --output-dir {out}", "Model archive not found"),
    ("infer --model-path {scan} --test-data {scan} --output-dir {out}", "config.json"),
    ("evaluate", "RESULT"),
    ("evaluate {scan} --output-dir {out}", "or --halves, for two halves of a scan"),
    ("evaluate {nothing} --reference {scan} --output-dir {out}", "Result file not found"),
    ("evaluate {scan} --reference {nothing} --output-dir {out}", "Reference file not found"),
    ("evaluate {scan} --reference {text} --output-dir {out}", "text"),
    ("evaluate {scan} --reference {scan} --output-dir {out} --region 5:5,1:2", "--region"),
    ("evaluate {scan} --reference {scan} --output-dir {out} --region 900:910,900:910", "common area"),
    ("evaluate {scan} --reference {scan} --output-dir {out} --margin-px 1.5", "--margin-px"),
    ("evaluate {scan} --reference {scan} --output-dir {out} --coverage-threshold 1", "--coverage-threshold"),
    ("simulate", "--output is required"),
    ("simulate --output {folder}", "is a folder"),
    ("simulate --output {out} --step-px 0 --photons many", "--photons: expected a number"),
    ("simulate --output {text}/scan.npz", "text"),
    ("teach", "teach"),
    ("", "COMMAND"),
]


@pytest.mark.parametrize(("line", "named"), WRONG, ids=lambda value: value)
def test_wrong_input_is_named_and_nothing_is_written(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, named: str
) -> None:
    """The code is 2, standard error names the flag or the file, without a traceback, and no output appears."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("not a scan")
    out = tmp_path / "out"

    code = main(
        words(
            line, scan=scan, out=out, nothing=tmp_path / "nothing", folder=tmp_path / "folder", text=tmp_path / "text"
        )
    )

    captured = capsys.readouterr()
    assert code == 2
    assert named in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "text"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of 12 px."""
    folder = tmp_path_factory.mktemp("odd")
    scan = read_scan(tiny_scan(folder))
    write_scan(
        attrs.evolve(scan, patterns=scan.patterns[:, :12, :12].copy(), probe=scan.probe[:, :12, :12].copy()),
        folder / "odd.npz",
    )
    return folder / "odd.npz"


SMALL = "--n-groups 800 --gridsize 1"
OF_A_FILE = [
    ("train --train-data-file {odd} --n-groups 8", "N, as {odd} says: expected a number from 16 to 2048, found 12"),
    ("infer --test-data {odd}", "N, as {odd} says: expected a number from 16 to 2048, found 12"),
    (f"train --train-data-file {{scan}} {SMALL}", "--n-groups: expected at most 16, found 800, in {scan}"),
    (f"train --train-data-file {{scan}} {SMALL} --test-data-file {{few}}", "expected at most 16, found 800, in {scan}"),
    (
        "train --train-data-file {scan} --n-groups 8 --gridsize 3 --validation-fraction 0.1",
        "found one of 2 patterns, in {scan}",
    ),
    ("train --train-data-file {scan} --n-groups 8 --test-data-file {few}", "found 4 scan points, in {few}"),
    (
        "train --train-data-file {scan} --n-groups 8 --gridsize 1 --training-directories {folder}",
        "--n-groups: expected at most 4, found 8, in {few}",
    ),
    ("evaluate {odd} --model-path {model}", "{odd}:\n  - scan.patterns: expected 64 px, as the model was trained"),
]


@pytest.fixture(scope="module")
def files(scan: Path, odd: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Scans of 16 patterns, of 48 px, and of four patterns in a folder of its own; a model."""
    folder = tmp_path_factory.mktemp("few")
    some = read_scan(scan)
    arrays = {name: getattr(some, name)[:4] for name in ("patterns", "positions_px", "scan_index")}
    write_scan(attrs.evolve(some, **arrays), folder / "few.npz")
    model = save_archive(generalist_for(some), tmp_path_factory.mktemp("model"))
    return {"scan": scan, "odd": odd, "few": folder / "few.npz", "folder": folder, "model": model}


@pytest.mark.parametrize(("line", "told"), OF_A_FILE)
def test_what_a_scan_cannot_give_names_its_file(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, told: str
) -> None:
    """Sizes and groups that do not fit are those of a file, and it is the one in the message."""
    code = main([*words(line, **files), "--output-dir", str(tmp_path / "out")])

    assert code == 2
    assert told.format(**files) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_all_wrong_settings_are_told_together(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One run of the command is enough to find every mistake."""
    main(words(f"{TRAIN} --batch-size 3 --nepochs many --optimizer magic", scan=scan, out=tmp_path / "out"))

    message = capsys.readouterr().err
    assert all(flag in message for flag in ("--batch-size", "--nepochs", "--optimizer"))


@pytest.mark.parametrize("spoil", ["no probe", "truncated", "positions", "nan", "empty frames"])
def test_a_bad_scan_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: str
) -> None:
    """The message names the file and what is wrong with which key."""
    arrays = sample_arrays() | {"diff3d": sample_arrays()["diff3d"].astype(np.float32)}
    key = "diff3d"
    if spoil == "no probe":
        key = "probeGuess"
        del arrays[key]
    elif spoil == "positions":
        key = "xcoords"
        arrays[key] = np.arange(5.0)
    elif spoil == "nan":
        arrays[key] = np.full_like(arrays[key], np.nan)
    elif spoil == "empty frames":
        arrays[key] = np.zeros_like(arrays[key])
    path = save_npz(tmp_path / "bad.npz", arrays)
    if spoil == "truncated":
        key = "file"
        path.write_bytes(path.read_bytes()[:-200])

    code = main(words(f"{TRAIN} --N 64", scan=path, out=tmp_path / "out"))

    message = capsys.readouterr().err
    assert code == 2
    assert str(path) in message
    assert key in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("line", ["infer --test-data {dark}", "evaluate {dark}"])
def test_an_empty_model_is_refused_before_the_scan_is_read(
    line: str, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A placeholder is no model, whatever is wrong with patterns that nobody has looked at yet."""
    with np.load(scan) as arrays:
        dark = save_npz(tmp_path / "dark.npz", {**arrays, "diff3d": np.zeros_like(arrays["diff3d"])})
    model, out = empty_model(tmp_path / "model"), tmp_path / "out"

    code = main(words(f"{line} --model-path {{model}} --output-dir {{out}}", model=model, dark=dark, out=out))

    message = capsys.readouterr().err
    assert code == 2
    assert f"{model / 'wts.h5.zip'}:\n  - file: expected a model archive, found an empty file; ptycho train" in message
    assert "warning" not in message
    assert not out.exists()


@pytest.mark.parametrize("debug", [False, True])
def test_an_accident_is_one_line_unless_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], debug: bool
) -> None:
    """What is nobody's input ends with code 1, its kind and how to see more; the traceback comes on request."""

    def fail(*_: object) -> None:
        message = "out of luck"
        raise RuntimeError(message)

    monkeypatch.setattr("ptycho_adapters.commands.simulate.simulate", fail)
    monkeypatch.setenv("PTYCHO_DEBUG", "0")

    code = main(["simulate", "--output", str(tmp_path / "s.npz"), "--quiet", *(["--traceback"] if debug else [])])

    message = capsys.readouterr().err
    assert code == 1
    assert "RuntimeError: out of luck" in message
    assert ("Traceback" in message) is debug
    assert (message.count("\n") == 1) is not debug


def test_help_lists_units_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    """A flag's help says what it is, in which unit, and what happens without it."""
    assert main(["train", "--help"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "--N INTEGER side of a pattern; legacy consumers take 64, 128 and 256 [px] (default: as the scan)" in page
    assert "--learning-rate NUMBER first learning rate (default: 0.0002)" in page
    assert "--train-data-file PATH scan to train on (required)" in page
    assert "--probe-trainable, --no-probe-trainable refine the probe while training (default: yes)" in page
    assert "also --epochs, --max-epochs" in page

    assert main(["simulate", "--help"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "--step-px NUMBER distance between neighbouring positions [px] (default: 6)" in page
    assert "--object-kind {dead-leaves," in page


def test_help_hides_what_cannot_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    """Settings with one value are accepted without being advertised."""
    main(["train", "--help"])

    assert "--decoder-spatial-kernel" not in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["train", "--nonsense"], ["--version"]])
def test_neither_help_nor_errors_load_a_framework(arguments: list[str]) -> None:
    """Asking for help is quick: no network library is imported."""
    program = (
        "import sys; from ptycho_adapters.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'lightning', 'tensorflow', 'matplotlib', 'h5py'} & set(sys.modules); "
        "sys.exit(f'{code} {sorted(heavy)}')"
    )

    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)

    assert done.stderr.splitlines()[-1] == f"{2 if '--nonsense' in arguments else 0} []"


def test_the_commands_are_those_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The first page names every command and the exit codes."""
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    assert all(f"  {command} " in page for command in ("simulate", "train", "infer", "evaluate"))
    assert "Exit codes" in page
    assert (cli.DONE, cli.FAILED, cli.WRONG_INPUT) == (0, 1, 2)


def test_advice_names_commands_and_flags_that_exist() -> None:
    """Whatever a text of the library tells somebody to type, the command line understands."""
    sources = Path(cli.__file__).parents[1].rglob("*.py")
    own_flags = {"svg.py", "parser.py", "cli.py", "__main__.py"}
    texts = [
        node.value
        for path in sources
        if path.name not in own_flags
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    flags = {flag for text in texts for flag in re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*\w", text)}
    commands = {name for text in texts for name in re.findall(r"\bptycho ([a-z]+) --", text)}

    assert {"--domain", "--memory-map", "--train-data-file", "--as-counts"} <= flags
    known = {flag for command in COMMANDS for flag in cli._parsers(command)[1]} | {"--test-data"}
    of_pip = {"--force-reinstall", "--no-deps"}
    assert flags <= known | of_pip
    assert {"train", "convert"} <= commands <= {*COMMANDS}


def test_a_folder_without_a_model_says_how_to_make_one(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that the message gives works as far as its words are filled in."""
    main(words("infer --model-path {folder} --test-data {scan} --output-dir o", folder=tmp_path, scan=scan))

    (line,) = re.findall(r"found none; (ptycho train .*) writes wts\.h5\.zip there", capsys.readouterr().err)
    typed = line.replace("SCAN", str(scan)).replace("FOLDER", str(tmp_path)).replace("INTEGER", "8").split()
    assert main([*typed[1:], "--print-config", "--json"]) == 0
