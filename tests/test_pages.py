"""What the pages for users say to type: commands in blocks and blocks of Python run, page by page and in order.

The scans are small and nothing is looked for in them: each of those searches has tests of its own. A command with the
very flags of one in the README, which is run there, is only parsed.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import beamtime
from page_commands import ONE_PASS, code_of, lay_out, lines_of, short, steps_of
from ptycho_adapters import legacy, read_scan
from ptycho_adapters.cli import main, parse
from ptycho_adapters.command_line.parts import Part
from ptycho_adapters.torch_backend.generators import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("first_look", "beamline", "electrons", "models", "survival", "python", "return_path", "clusters")
WRITTEN = {
    "first_look": ("scan.npz",),
    "beamline": ("scan.npz", "both.png", "ready.npz"),
    "electrons": ("scan4d.npz", "virus/object.h5"),
    "models": ("model/wts.h5.zip",),
    "survival": ("model/wts.h5.zip", "model/checkpoints/last.ckpt"),
    "return_path": ("known/b.npz", "model/wts.h5.zip"),
    "clusters": ("results/second/object.h5", "results/summary.csv", "results/summary-part-2-of-2.csv"),
    "python": ("night/wts.h5.zip", "night.h5", "products/tuesday.h5", "from_ours.npz", "corrected/wts.h5.zip"),
}
QUICK = (
    *("--probe-rounds", "0", "--no-probe-autofocus", "--no-beam-search", "--background-counts", "0"),
    *("--position-refinement", "none", "--orientation-search", "never", "--probe-search", "never"),
)


def text_of(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def shape_of(line: str) -> tuple[str, int, frozenset[str]]:
    """A command's verb, how long it is, and its flags without their values."""
    words = short(line)
    return words[0], len(words), frozenset(word for word in words if word.startswith("--"))


RUN_ALREADY = {shape_of(line) for line in lines_of((DOCS.parent / "README.md").read_text(encoding="utf-8"))}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with everything that the pages take for there, to stand in."""
    lay_out(tmp_path)
    beamtime.write(tmp_path / "beamtime.cxi", object_px=100, step_px=9.0)
    scan = read_scan(tmp_path / "scan.npz")
    raster = np.resize(np.pad(scan.patterns, ((0, 0), (4, 4), (4, 4))), (6, 6, 72, 72))
    np.save(tmp_path / "frames.npy", raster)
    y, x = (scan.positions_px * 1e-8).T
    np.savez(tmp_path / "ours.npz", frames=scan.patterns, motor_y=y, motor_x=x, energy_ev=8000.0, beam=scan.probe)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))
    with legacy.legacy_scope():
        yield tmp_path


@pytest.fixture(autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package with a generator that `python.md` describes, installed: its module, and what its project declares."""
    text = text_of("python")
    declared = re.search(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (block,) = (block for block in code_of(text) if "@register_generator" in block)
    assert declared is not None
    project = tomllib.loads(declared[1])["project"]
    folder = tmp_path_factory.mktemp("site")
    module = re.sub(r"^@register_generator.*\n", "", block.partition("\nscan = ")[0], flags=re.MULTILINE)
    (folder / "my_networks.py").write_text(module, encoding="utf-8")
    facts = folder / "my_networks-1.0.dist-info"
    facts.mkdir()
    named = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (facts / "METADATA").write_text(named, encoding="utf-8")
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    )
    (facts / "entry_points.txt").write_text(points, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_says_to_type_works(page: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its commands end well, its blocks run, and the files that it speaks of are there."""
    for made in re.findall(r"^ {4}mkdir (\w+)$", text_of(page), re.MULTILINE):
        (folder / made).mkdir()
    for line in steps_of(text_of(page)):
        words = short(line)
        if shape_of(line) in RUN_ALREADY:
            assert parse(words)[0] == words[0]
            continue
        assert main([*words, *QUICK] if words[0] in {"infer", "reconstruct"} else words) == 0, (
            f"{line}: {capsys.readouterr().err}"
        )
    names: dict[str, object] = {"ONE_PASS": ONE_PASS}
    for block in code_of(text_of(page)):
        exec(compile(block, page, "exec"), names)

    assert [name for name in WRITTEN[page] if not (folder / name).is_file()] == []


def test_the_array_job_is_understood() -> None:
    """Its line is parsed, each of its tasks has a part, and the last line of the page is what joins them."""
    text = text_of("clusters")
    script = re.search(r"^```bash\n(#!.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert script is not None
    first, last = map(int, re.findall(r"--array=(\d+)-(\d+)", script[1])[0])
    (line,) = re.findall(r"^srun ptycho (.*)$", script[1], re.MULTILINE)

    command, typed = parse(shlex.split(line))

    tasks = range(first, last + 1)
    said = {"SLURM_ARRAY_TASK_COUNT": str(len(tasks)), "SLURM_ARRAY_TASK_MIN": str(first), "SLURM_ARRAY_TASK_STEP": "1"}
    parts = [Part.read(str(typed["part"]), said | {"SLURM_ARRAY_TASK_ID": str(task)}) for task in tasks]
    assert command == "infer"
    assert [part.number for part in parts] == [*range(1, len(tasks) + 1)]


def test_every_page_for_users_is_run() -> None:
    """Pages that say what to type are above, but for those that have tests beside what they are about."""
    other = {"gallery", "formats", "large_scans", "live", "refine"}

    saying = {path.stem for path in DOCS.glob("*.md") if steps_of(text_of(path.stem)) or code_of(text_of(path.stem))}

    assert saying - other == set(PAGES)
