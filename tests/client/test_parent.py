"""What the client's own process may and may not see of us."""

from __future__ import annotations

import pickle
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

from ptycho_adapters.ptychodus import backend, installation
from ptycho_adapters.ptychodus.backend import Backend, tensorflow_or_torch
from ptycho_core.errors import ArchiveError, ConfigError, DependencyError, Problem, ScanError, ScanFileError

SHIM = Path(__file__).parents[2] / "shims" / "ptychodus" / "src"
MODULES = sorted(
    ".".join(path.relative_to(SHIM).with_suffix("").parts).removesuffix(".__init__") for path in SHIM.rglob("*.py")
)


def test_nothing_that_the_client_imports_loads_a_framework() -> None:
    """All modules of the shim together load neither torch nor TensorFlow nor Lightning."""
    code = (
        "import importlib, sys\n"
        f"for name in {MODULES!r}: importlib.import_module(name)\n"
        "sys.exit(str({'torch', 'tensorflow', 'lightning', 'h5py', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=_environment())

    assert run.stderr.strip() == "set()"


def _environment() -> dict[str, str]:
    import os  # noqa: PLC0415

    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(SHIM), *filter(None, sys.path)])}


@pytest.mark.parametrize("module", MODULES)
def test_the_shim_has_no_logic(module: str) -> None:
    """Each of its modules imports, lists what it imported, and at most asks whether it is alone."""
    import ast  # noqa: PLC0415

    path = SHIM.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    allowed = (ast.ImportFrom, ast.Assign, ast.Expr)
    tree = ast.parse(path.read_text())

    assert all(isinstance(node, allowed) for node in tree.body)
    calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert calls in ([], ["refuse_other_owners()"])


@pytest.mark.parametrize("error", [ConfigError, ScanError, ScanFileError, ArchiveError])
def test_errors_survive_the_way_to_the_parent(error: type[ConfigError]) -> None:
    """The child pickles them; they come back whole, from a module without a framework."""
    given = error("the scan", [Problem(path="N", expected="64", found="63", fix="crop")])

    found = pickle.loads(pickle.dumps(given))

    assert str(found) == str(given)
    assert type(found).__module__ == "ptycho_core.errors"


@pytest.mark.parametrize("owner", ["by name", "by its modules"])
def test_the_legacy_project_beside_us_is_refused(owner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names it, and how to have one of the two."""

    def distribution(name: str) -> object:
        if owner == "by name" and name == "ptychopinn":
            return object()
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", distribution)
    owners = {"ptycho": [installation.SHIM, *(["somebodys-ptycho"] if owner == "by its modules" else [])]}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: owners)
    other = "ptychopinn" if owner == "by name" else "somebodys-ptycho"

    monkeypatch.delitem(sys.modules, "ptycho", raising=False)

    with pytest.raises(DependencyError, match=f"{other}.*pip uninstall {other}"):
        import_module("ptycho")


def test_alone_we_are_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own distribution is no reason."""
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"ptycho": [installation.SHIM]})

    installation.refuse_other_owners()


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [
        ({"tensorflow", "ptycho_adapters.tensorflow_backend"}, Backend.TENSORFLOW),
        ({"tensorflow"}, Backend.PYTORCH),
        ({"ptycho_adapters.tensorflow_backend"}, Backend.PYTORCH),
        (set(), Backend.PYTORCH),
    ],
)
def test_tensorflow_runs_where_it_and_our_backend_are(
    installed: set[str], chosen: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And torch everywhere else."""
    monkeypatch.setattr(backend, "find_spec", lambda name: object() if name in installed else None)

    assert tensorflow_or_torch() is chosen
