"""Edges of the system: names in any bytes, streams that are missing, gone or know only ASCII, full disks."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from cli_samples import tiny_scan
from ptycho_adapters.atomic import atomic_path, commit_files
from ptycho_adapters.cli import main
from ptycho_adapters.common.bars import Bar, counted
from ptycho_adapters.files import read_product, read_scan, write_product
from ptycho_adapters.report.results import write_reconstruction
from ptycho_adapters.report.summary import Summary
from ptycho_adapters.wording import printable
from ptycho_core.memory import MemoryDemand, check_memory
from ptycho_core.results.run_details import RunDetails
from ptycho_core.results.uncertainty import Uncertainty
from report_sample import bare_product, full_product

if TYPE_CHECKING:
    from pathlib import Path

NAME = os.fsdecode(b"s\xff\xe9 $_\\frac$")
"""Bytes that are no text in UTF-8, and signs that matplotlib would read as a formula."""


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small scan under a name that is no text."""
    folder = tmp_path_factory.mktemp("edges")
    return tiny_scan(folder).rename(folder / f"{NAME}.npz")


def _started(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of a shell in which `ptycho` is the command line."""
    program = f'ptycho() {{ "{sys.executable}" -W ignore -m ptycho_adapters.cli "$@"; }}; {script}'
    return subprocess.run(
        ["/bin/sh", "-c", program, "sh", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )


def test_error_bars_lie_beside_the_object(tmp_path: Path) -> None:
    """In a TIFF of their own, where they are known; those of another result do not stay beside one without."""
    summary = Summary(command="infer", title="reconstructed", figures={}, inputs={})
    one = np.ones((12, 9), dtype=np.float32)
    known = Uncertainty(phase_std_rad=one, amplitude_std=one, prior_share=one)
    files = write_reconstruction(attrs.evolve(bare_product(), uncertainty=known), summary, tmp_path)
    assert tmp_path / "uncertainty.tif" in files
    assert all(file.exists() for file in files)

    write_reconstruction(bare_product(), summary, tmp_path)
    assert not (tmp_path / "uncertainty.tif").exists()


def test_results_under_a_name_in_any_bytes(scan: Path, tmp_path: Path) -> None:
    """Page, summary and product hold it: spelled out for people, byte for byte for machines."""
    folder = tmp_path / f"{NAME}.out"
    folder.mkdir()
    summary = Summary(command="infer", title=f"reconstructed {scan}", figures={}, inputs={"test_data_file": scan})
    settings = {"test_data_file": str(scan)}
    write_reconstruction(attrs.evolve(bare_product(), run=RunDetails(settings=settings)), summary, folder)
    assert "s\\xff\\xe9 $_\\frac$.npz" in (folder / "report.html").read_text(encoding="utf-8")
    assert json.loads((folder / "summary.json").read_bytes())["inputs"]["test_data_file"] == str(scan)
    assert not (folder / "uncertainty.tif").exists()
    run = read_product(folder / "object.h5").run
    assert run is not None
    assert run.settings == settings


def test_pictures_and_copies_of_such_a_name(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inspect, prepare and convert write what they are asked for, and what is missing is named."""
    out, picture = scan.with_name(f"{NAME}.2.npz"), scan.with_name(f"{NAME}.png")
    assert main(["inspect", str(scan), "--picture", str(picture)]) == 0
    assert main(["convert", str(scan), str(out)]) == 0
    assert read_scan(out).n_patterns == read_scan(scan).n_patterns
    assert main(["prepare", str(scan), str(out), "--picture", str(picture), "--quiet"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(scan.with_name(NAME))]) == 2
    assert "s\\xff\\xe9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("a b\n\tλ×", "utf-8", "a b\n\tλ×"),
        ("\udcff\ud800\x1b[31m\x85", "utf-8", "\\xff\\ud800\\x1b[31m\\x85"),
        ("3 × 4 … λ", "ascii", "3 x 4 ... \\u03bb"),
        ("√é", "latin-1", "sqrté"),
    ],
)
def test_what_cannot_be_shown_is_spelled_out(text: str, encoding: str, shown: str) -> None:
    """Bytes, halves of characters and control characters by their numbers; letters are never exchanged for others."""
    assert printable(text, encoding) == shown


def test_an_ascii_terminal_is_told_everything(scan: Path) -> None:
    """In the C locale with ASCII streams, results, bars and messages come out in ASCII."""
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    script = 'ptycho prepare "$1" "$2" --size 32; ptycho inspect "$1" && ptycho inspect "$2.λ"'
    done = _started(script, scan, scan.with_name("λ.npz"), **ascii_only)

    assert done.returncode == 2
    assert done.stdout.isascii()
    assert b"nothing suspicious" in done.stdout
    assert b"Scan file not found" in done.stderr
    assert done.stderr.replace(b"\r", b"").isascii()


def test_a_bar_knows_an_ascii_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks are signs of the terminal's own."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with Bar("training") as bar:
        bar.come_to(0.5)
        bar.redraw()
    drawn = terminal.buffer
    assert isinstance(drawn, io.BytesIO)
    assert b"training  50% |" in drawn.getvalue()


def test_mistakes_keep_their_codes_where_there_are_no_streams(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And bars count."""
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)

    assert list(counted(3, "work")) == [0, 1, 2]
    assert main(["inspect", str(scan)]) == 0
    assert main(["inspect", str(scan.with_name("none"))]) == 2
    assert main(["inspect", "--nonsense"]) == 2


def test_closed_descriptors_are_not_taken_for_files(scan: Path, tmp_path: Path) -> None:
    """What is written while the standard streams are closed is what is written otherwise."""
    assert main(["convert", str(scan), str(tmp_path / "a.npz")]) == 0
    done = _started('ptycho convert "$1" "$2" <&- >&- 2>&-', scan, tmp_path / "b.npz")

    assert done.returncode == 0
    a, b = read_scan(tmp_path / "a.npz"), read_scan(tmp_path / "b.npz")
    np.testing.assert_array_equal(a.patterns, b.patterns)


def test_results_that_nobody_takes(scan: Path, tmp_path: Path) -> None:
    """A reader that has gone ends a command with the signal's code, a full disk with its name; the files are there."""
    gone = '{ ptycho convert "$1" "$2"; echo $? >&3; } 3>&2 | :'
    full = '{ ptycho inspect "$1" >/dev/full; echo $? >&2; ptycho inspect "$2.none" 2>/dev/full; echo $? >&2; }'
    script = f"{gone}; [ ! -e /dev/full ] || {full}"
    done = _started(script, scan, tmp_path / "a.npz")

    code, *on_full_disks = done.stderr.decode().splitlines()
    assert code == "141"
    assert read_scan(tmp_path / "a.npz").N == 64
    if on_full_disks:
        line, of_results, of_words = on_full_disks
        assert line.startswith("ptycho inspect failed: No space left on device: standard output (")
        assert (of_results, of_words) == ("1", "2")


def test_a_full_disk_is_named_with_the_file(scan: Path, tmp_path: Path) -> None:
    """Whatever library is writing: NumPy, HDF5, TIFF, PNG, text; nothing is left behind."""
    script = (
        "import resource, sys; from ptycho_adapters.cli import main\n"
        "lengths = '--pixel-m 1e-8 --wavelength-m 1e-10 --distance-m 1'.split()\n"
        "def run(*words):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))\n"
        "    code = main(words)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "    print(code)\n"
        "source, folder, product = sys.argv[1:]\n"
        "for name in ('a.npz', 'a.cxi', 'a.tif'):\n"
        "    run('convert', source, f'{folder}/{name}', *lengths)\n"
        "run('prepare', source, f'{folder}/b.npz', '--quiet')\n"
        "run('inspect', source, '--picture', f'{folder}/c.png')\n"
        "run('convert', product, f'{folder}/d.h5')\n"
    )
    product, out = tmp_path / "object.h5", tmp_path / "out"
    write_product(full_product(), product)
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, scan, out, product], capture_output=True, check=False
    )

    said = done.stderr.decode()
    assert done.stdout.split() == [b"1"] * 6, said
    for name in ("a.npz", "a.cxi", "a.tif", "b.npz", "c.png", "d.h5"):
        assert f"what was there before is as it was): {out / name} (" in said
    assert said.count("\n") == 6
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("text", ["", "Can't write data (file write failed: errno = {}, error message = '...')"])
def test_no_room_is_told_by_number_or_by_text(number: int, text: str, tmp_path: Path) -> None:
    """Also where a library hides the number in its words, for one file or for several."""
    error = RuntimeError(text.format(number)) if text else OSError(number, "full")

    def fail(_: Path) -> None:
        raise error

    with pytest.raises(OSError, match="make room there") as one, atomic_path(tmp_path / "a"):
        fail(tmp_path)
    with pytest.raises(OSError, match="make room there") as several:
        commit_files({tmp_path / "b": fail})
    assert [(each.value.errno, each.value.filename) for each in (one, several)] == [
        (number, str(tmp_path / name)) for name in "ab"
    ]


def test_other_failures_stay_what_they_are(tmp_path: Path) -> None:
    """Only a lack of room is called one."""
    with pytest.raises(RuntimeError, match="errno = 5"), atomic_path(tmp_path / "a"):
        raise RuntimeError("errno = 5")


_LENGTHS = ("--pixel-m", "1e-8", "--energy-ev", "8000", "--distance-m", "2", "--name", "star")


def test_convert_has_flags_for_what_it_asks_for(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A scan without lengths, with a name that is no text, is refused with the flags, and they are enough."""
    assert main(["prepare", str(scan), str(tmp_path / "a.npz"), "--size", "64", "--quiet"]) == 0
    source = ["convert", str(tmp_path / "a.npz")]
    assert main([*source, str(tmp_path / "a.h5"), "--probe", str(scan)]) == 2
    said = capsys.readouterr().err
    for flag in ("--pixel-m", "--energy-ev, --wavelength-m or --voltage-v", "--distance-m", "--name"):
        assert f"with ptycho convert {flag}" in said

    for name in ("a.h5", "a.cxi", "folder"):
        format_of = ["--format", "ptychodus"] if name == "folder" else []
        assert main([*source, str(tmp_path / name), "--probe", str(scan), *_LENGTHS, *format_of]) == 0
    made = read_scan(tmp_path / "a.h5").metadata
    assert made.pixel_size_m == pytest.approx(1e-8)
    assert made.wavelength_m == pytest.approx(1.5498e-10, rel=1e-4)
    assert made.distance_m == pytest.approx(2.0)


def test_convert_makes_what_ptychopinn_wants(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Roots of counts and an object from another file, both asked for by the flags that exist."""
    with np.load(scan) as stored:
        np.savez(tmp_path / "bare.npz", **{key: stored[key] for key in stored if key != "objectGuess"})
    line = ["convert", str(tmp_path / "bare.npz"), str(tmp_path / "out.npz"), "--format", "ptychopinn"]
    assert main(line) == 2
    said = capsys.readouterr().err
    assert "--as-amplitude" in said
    assert "ptycho convert --object FILE" in said

    assert main([*line, "--as-amplitude", "--object", str(scan)]) == 0
    made, given = read_scan(tmp_path / "out.npz"), read_scan(scan)
    np.testing.assert_allclose(made.counts(), given.counts(), rtol=1e-5)
    assert made.object is not None
    np.testing.assert_array_equal(made.object, given.object)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--pixel-m", "-1"), "--pixel-m: expected a finite number > 0, found -1"),
        (("--pixel-m", "1"), "object pixel: expected a object pixel"),
        (
            ("--energy-ev", "8000", "--wavelength-m", "1e-10"),
            "--energy-ev and --wavelength-m: only one can be the wavelength",
        ),
        (("--object", "nowhere.npz"), "Object file not found: nowhere.npz"),
    ],
)
def test_facts_that_cannot_be_are_refused(
    flags: tuple[str, ...], words: str, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the flag, and nothing is written."""
    assert main(["convert", str(scan), str(tmp_path / "a.npz"), *flags]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "infer"])
def test_a_run_that_does_not_fit_names_its_scan(
    command: str, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file stands before what is needed and what is there."""

    def refuse(*_: object, **__: object) -> None:
        check_memory(command, MemoryDemand(parts={"patterns": 10**12}), 10**9)

    room = {"train": "commands.train", "infer": "command_line.inference"}[command]
    monkeypatch.setattr(f"ptycho_adapters.{room}.run_on_backend", refuse)
    monkeypatch.setattr(f"ptycho_adapters.{room}.framework", lambda _: Framework())
    data = ["--train-data-file", str(scan), "--n-groups", "4"] if command == "train" else ["--test-data", str(scan)]

    assert main([command, *data, "--output-dir", str(tmp_path), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert f"{printable(str(scan))}: {command} does not fit into memory" in said
    assert "found 1 TB (patterns 1 TB)" in said


class Framework:
    """Stands for a backend that is there."""

    def generalist_for(self, _: object) -> SimpleNamespace:
        """Give a model of no use."""
        return SimpleNamespace(prior_law=None)
