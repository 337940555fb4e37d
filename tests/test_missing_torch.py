"""A machine without torch: what needs it says how to install it, what does not need it works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ptycho_adapters
from cli_samples import tiny_scan
from ptycho_adapters.torch_requirements import INSTALL, needs

HIDING = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if {{name, name.partition(".")[0]}} & {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""
SOURCE = Path(ptycho_adapters.__file__).parents[1]
FRAMEWORKS = ("torch", "lightning", "pytorch_lightning")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_scan(tmp_path_factory.mktemp("scan"))


def python_without(folder: Path, names: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where some packages cannot be imported."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(HIDING.format(names=set(names)))
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        # The code under test, whatever is installed.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (folder / "site", SOURCE)))},
        cwd=folder,
    )


@pytest.mark.parametrize("module", ["torch_backend", "torch_backend.optics", "torch_backend.generators.base"])
def test_the_torch_backend_needs_torch(tmp_path: Path, module: str) -> None:
    """Its import is a RuntimeError with the command that helps."""
    code = f"try:\n    import ptycho_adapters.{module}\nexcept RuntimeError as error:\n    print(error)"

    done = python_without(tmp_path, FRAMEWORKS, "-c", code)

    assert (done.stdout.strip(), done.stderr) == (str(needs("torch")), "")
    assert "pip install 'torch>=2.6'" in done.stdout


def test_lightning_is_needed_as_well(tmp_path: Path) -> None:
    """The message is about the package that is missing."""
    done = python_without(tmp_path, FRAMEWORKS[1:], "-c", "import ptycho_adapters.torch_backend")

    assert done.stderr.splitlines()[-1].endswith(str(needs("lightning")))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", "operator torchvision::nms does not exist"),
        ("from torchvision import _C", "cannot import name '_C'"),
    ],
)
def test_a_torchvision_that_does_not_fit_is_named(tmp_path: Path, scan: Path, body: str, reason: str) -> None:
    """One that fails as a build for another torch does: Lightning imports it, and the message says what to do."""
    vision = tmp_path / "site" / "torchvision"
    facts = tmp_path / "site" / "torchvision-0.1.dist-info"
    for folder in (vision, facts):
        folder.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.1\n")
    (vision / "__init__.py").write_text(f"{body}\n")

    done = python_without(
        tmp_path, (), "-m", "ptycho_adapters.cli", "infer", "--test-data", str(scan), "--output-dir", "out"
    )

    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "found torchvision 0.1 and torch 2" in line
    assert reason in line
    assert "pip uninstall torchvision" in line
    assert not (tmp_path / "out").exists()


def test_an_accident_in_the_library_is_no_missing_package(tmp_path: Path) -> None:
    """A module of ours that is not there is a broken installation, and named as what it is."""
    module = "ptycho_adapters.torch_backend.physics.optics"

    done = python_without(tmp_path, (module,), "-c", "import ptycho_adapters.torch_backend")

    assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: No module named '{module}'"


@pytest.mark.parametrize("command", ["train", "infer"])
def test_a_command_that_needs_torch_says_so(tmp_path: Path, scan: Path, command: str) -> None:
    """One line, the exit code of a missing package, and nothing written."""
    line = {
        "train": f"--train-data-file {scan} --output-dir out --n-groups 4",
        "infer": f"--test-data {scan} --output-dir out",
    }[command]

    done = python_without(tmp_path, FRAMEWORKS, "-m", "ptycho_adapters.cli", command, *line.split())

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"ptycho {command}: {needs('torch')}\n"
    assert not (tmp_path / "out").exists()


def test_the_demonstration_says_so_before_it_begins(tmp_path: Path) -> None:
    """One line, the exit code of the commands, and no scan simulated in vain."""
    done = python_without(tmp_path, FRAMEWORKS, "-m", "ptycho_adapters.demo", "--output-dir", "out")

    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"demo: {needs('torch')}\n")
    assert not (tmp_path / "out").exists()


LINES = (
    "--help",
    "--version",
    "train --help",
    "infer --help",
    "train --train-data-file {scan} --output-dir out --n-groups 4 --print-config",
    "train --print-config --json",
    "infer --print-config --json",
    "simulate --output simulated.npz --object-size-px 100 --step-px 9 --quiet",
    "evaluate {scan} --reference {scan} --output-dir judged --margin-px 1",
)
EACH = """
import sys
from ptycho_adapters.cli import main
for line in sys.argv[1:]:
    assert main(line.split()) == 0, line
    assert "torch" not in sys.modules, line
"""


def test_commands_that_do_not_need_torch_work(tmp_path: Path, scan: Path) -> None:
    """Help, settings, simulation and evaluation are for every machine."""
    done = python_without(tmp_path, FRAMEWORKS, "-c", EACH, *(line.format(scan=scan) for line in LINES))

    assert (done.returncode, done.stderr) == (0, "")


def test_the_commands_to_install_are_those_of_the_package() -> None:
    """The oldest versions that work are stated where the package is, and every message agrees."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    stated = {re.split(r"\W", line)[0]: line for line in lines}
    told = [
        requirement
        for path in SOURCE.rglob("*.py")
        for requirement in re.findall(r"pip install '([^']+)'", path.read_text())
    ]

    assert {name: f"pip install '{stated[name]}'" for name in INSTALL} == dict(INSTALL)
    assert {"rich>=13.9", "xarray>=2024.7", *(stated[name] for name in INSTALL)} <= {*told}
    extras = {f"ptycho-core[{extra}]" for extra in project["optional-dependencies"]}
    assert {*told} <= {*lines} | extras
