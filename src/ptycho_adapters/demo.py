"""A demonstration from nothing: simulate, train, reconstruct objects that the training never saw, judge the result."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from ptycho_adapters.cli import WRONG_INPUT
from ptycho_adapters.cli import main as command_line
from ptycho_adapters.command_line import console
from ptycho_core.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Sequence

TRAINING_OBJECT: Final[Mapping[str, str]] = MappingProxyType(
    {"object-kind": "dead-leaves", "object-size-px": "256", "seed": "1"}
)
UNSEEN_OBJECTS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "unseen": MappingProxyType({"object-kind": "dead-leaves", "object-size-px": "192", "seed": "2"}),
        "other_class": MappingProxyType({"object-kind": "siemens-star", "object-size-px": "192", "seed": "3"}),
    }
)
SCAN: Final[Mapping[str, str]] = MappingProxyType(
    {"N": "64", "probe-kind": "zone-plate", "photons": "1e6", "step-px": "6", "jitter-px": "1.5"}
)
TRAINING: Final[Mapping[str, str]] = MappingProxyType(
    {
        "epochs": "1000",
        # Small steps: larger ones fit the class of this scan and forget others, such as the star that is shown next.
        "learning-rate": "5e-5",
        "max-time": "00:00:01:30",
        "num-threads": "1",
        "precision": "auto",
    }
)
"""Settings of the training; the number of groups is that of the patterns."""


class DemoError(RuntimeError):
    """A step of the demonstration failed; it has said why."""

    def __init__(self, step: str, code: int) -> None:
        self.code = code
        super().__init__(f"{step} ended with exit code {code}")


@attrs.frozen(kw_only=True)
class Plan:
    """What is simulated and how the model is trained, as flags without their dashes.

    Attributes:
        training_object: object to learn from.
        unseen_objects: objects to reconstruct, by name.
        scan: what all scans share.
        training: settings of the training.
    """

    training_object: Mapping[str, str] = TRAINING_OBJECT
    unseen_objects: Mapping[str, Mapping[str, str]] = UNSEEN_OBJECTS
    scan: Mapping[str, str] = SCAN
    training: Mapping[str, str] = TRAINING


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration.

    Args:
        argv: arguments; those of the process when None.

    Returns:
        0 when everything went well, otherwise the exit code of the step that failed, or that of the commands where
        a package is missing.
    """
    parser = argparse.ArgumentParser(prog="python -m ptycho_adapters.demo", description=__doc__)
    parser.add_argument("--output-dir", default="demo_output", help="folder for everything (default: demo_output)")
    try:
        demonstrate(Path(parser.parse_args(argv).output_dir), Plan())
    except DemoError as error:
        console.note(f"demo: {error}")
        return error.code
    except DependencyError as error:
        console.note(f"demo: {error}")
        return WRONG_INPUT
    return 0


def demonstrate(folder: Path, plan: Plan) -> None:
    """Run every step and write `summary.md` and `summary.png`.

    Args:
        folder: gets a subfolder per step.
        plan: what to do.

    Raises:
        DemoError: a step failed.
        DependencyError: a package that a later step needs is not installed; nothing has been written then.
    """
    from ptycho_adapters.demo_report import write_report  # noqa: PLC0415 - matplotlib takes half a second

    started = time.perf_counter()
    scans = {"training": plan.training_object, **plan.unseen_objects}
    for name, made in scans.items():
        _step("simulate", f"a scan of the {name} object", {**plan.scan, **made}, output=scan_path(folder, name))
    patterns = _n_patterns(scan_path(folder, "training"))
    limit = f", at most {plan.training['max-time']} (DD:HH:MM:SS)" if "max-time" in plan.training else ""
    model = folder / "model"
    _step(
        "train",
        f"a model on {patterns} patterns{limit}",
        {"n-groups": str(patterns), **plan.training},
        train_data_file=scan_path(folder, "training"),
        output_dir=model,
    )
    for name in plan.unseen_objects:
        source, result = scan_path(folder, name), folder / name
        _step(
            "infer", f"the {name} object", {"num-threads": "1"}, model_path=model, test_data=source, output_dir=result
        )
        _step(f"evaluate {result}", "against the truth", {}, reference=source, output_dir=result)
    seconds = time.perf_counter() - started
    files = write_report(folder, list(plan.unseen_objects), seconds=seconds)
    figures = {f"{name}: {key}": value for name in plan.unseen_objects for key, value in headline(folder / name)}
    console.tell(console.summary("demonstration", figures | {"seconds": seconds}, files))


def scan_path(folder: Path, name: str) -> Path:
    """Return where the scan of an object lies."""
    return folder / "scans" / f"{name}.npz"


def headline(result: Path) -> list[tuple[str, object]]:
    """Return the figures of an evaluation that matter most."""
    figures = json.loads((result / "evaluation.json").read_text())["figures"]
    return [(key, figures[key]) for key in ("phase_correlation", "amplitude_correlation", "phase_frc50_per_px")]


def _n_patterns(path: Path) -> int:
    from ptycho_adapters.files import read_scan  # noqa: PLC0415 - quick help

    return read_scan(path).n_patterns


def _step(command: str, what: str, flags: Mapping[str, str], **paths: Path) -> None:
    """Run one command of the command line.

    Raises:
        DemoError: it failed.
    """
    name, *result = command.split(" ", 1)
    console.note(f"==> {name}: {what}")
    arguments = [name, *result]
    for flag, value in {**flags, **{key.replace("_", "-"): str(path) for key, path in paths.items()}}.items():
        arguments += [f"--{flag}", value]
    code = command_line(arguments)
    if code != 0:
        raise DemoError(name, code)


if __name__ == "__main__":
    sys.exit(main())
