"""The page of errors and findings: classes from their docstrings, messages from mistakes made for the purpose."""

from __future__ import annotations

import contextlib
import inspect
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finding_causes import CAUSES
from markdown_pieces import code, plain, table
from ptycho_adapters import legacy
from ptycho_adapters.cli import WRONG_INPUT, main
from ptycho_core.errors import PtychoError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

_PAGE = """# Errors and findings

An error says the thing, what was expected, what was found and what to do, and all that is wrong with an input comes
at once. The command line then ends with exit code 2 and has written nothing. In Python every line of the list is a
`Problem` in `error.problems`, with `path`, `expected`, `found` and `fix`.

## Classes

All but those of Python itself descend from `ptycho_core.errors.PtychoError`. A missing file is Python's
`FileNotFoundError`.

{classes}

## Messages, and what is behind them

Each of these mistakes was made when this page was built, and the message is the one that came.

{mistakes}
## Findings

What is odd about a scan or a fit and does not stop a run. `ptycho inspect` shows them, with `--json` under these
names; `train` and `infer` say them as warnings and write them into `summary.json`, `report.html` and the product.
What was put right is said too, and can be switched off.

{findings}
"""
MISTAKES: Sequence[tuple[str, str]] = (
    (
        "infer --test-data nothing.npz --output-dir out",
        "A path that is not there; relative ones start where you stand.",
    ),
    (
        "train --train-data-file scan.npz --output-dir out",
        "How many groups a training draws has no default: take the number of patterns.",
    ),
    ("infer --test-data scan.npz --output-dir out --bach-size 4", "A flag that is not known; near ones are named."),
    (
        "train --train-data-file scan.npz --output-dir out --n-groups 8 --batch-size 3 --learning-rate nan",
        "Values out of range: all of them at once.",
    ),
    (
        "train --train-data-file scan.npz --output-dir out --n-groups 8 --epochs 3 --nepochs 4",
        "Two names of one setting that disagree.",
    ),
    (
        "train --train-data-file scan.npz --output-dir out --n-groups 8 --fno-modes 8",
        "A part that the network has not.",
    ),
    (
        "infer --test-data scan.npz --output-dir out --backend tensorflow --finish auto",
        "What a backend has not built is refused with the reason.",
    ),
    ("infer --test-data text.npz --output-dir out", "No scan at all."),
    (
        "infer --test-data missing_keys.npz --output-dir out",
        "A scan without positions: they are in another file, or another key.",
    ),
    (
        "infer --test-data short.npz --output-dir out",
        "Fewer frames than positions: a scan that was stopped, or dropped frames.",
    ),
    (
        "infer --test-data doubtful.npz --output-dir out",
        "Counts or amplitudes? Where nothing tells, it has to be said: squares of the one are the other.",
    ),
    ("infer --test-data inverted.npz --output-dir out", "A mask that marks good pixels."),
    (
        "infer --test-data oblong.npz --output-dir out",
        "Frames as a detector has them are no patterns yet: `ptycho prepare`.",
    ),
    ("infer --test-data scan.npz --output-dir out --model-path empty", "A folder without a model."),
)
"""Command lines that end with exit code 2, and what people have to know about them."""


def pages() -> Mapping[str, str]:
    """Return the pages by their paths."""
    with _mistaken() as folder:
        mistakes = "".join(_mistake(folder, *each) for each in MISTAKES)
    rows = [(code(kind), plain(cause), plain(cure)) for kind, (cause, cure) in CAUSES.items()]
    text = _PAGE.format(
        classes=table(("class", "what it is about"), _classes()),
        mistakes=mistakes,
        findings=table(("finding", "what may be behind it", "what to do"), rows),
    )
    return {"errors.md": text}


def said(folder: Path, line: str) -> tuple[int, str]:
    """Run a command line in a folder whose files it names, and return exit code and message.

    Args:
        folder: with the files.
        line: without the program's name.
    """
    message = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stderr(message), legacy.legacy_scope():
        ended = main(line.split())
    return ended, message.getvalue().strip()


def _classes() -> Iterator[tuple[str, str]]:
    waiting: list[type[PtychoError]] = [PtychoError]
    while waiting:
        found = waiting.pop(0)
        waiting += sorted(found.__subclasses__(), key=lambda each: each.__name__)
        first = (inspect.getdoc(found) or "").partition("\n\n")[0]
        yield code(f"{found.__module__}.{found.__name__}"), plain(first)


def _mistake(folder: Path, line: str, meaning: str) -> str:
    ended, message = said(folder, line)
    if ended != WRONG_INPUT:
        raise ValueError(f"a mistake that is none any more: ptycho {line} ended with {ended}: {message}")
    return f"**{meaning}**\n\n```text\n$ ptycho {line}\n{message}\n```\n\n"


@contextlib.contextmanager
def _mistaken() -> Iterator[Path]:
    """Give a folder with scans that are wrong in one way each."""
    from ptycho_adapters.files import write_scan  # noqa: PLC0415 - loads h5py, which a list of commands can do without
    from ptycho_core.simulation.simulate import SimulationConfig, simulate  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "empty").mkdir()
        (folder / "text.npz").write_text("not a scan")
        write_scan(simulate(SimulationConfig(object_size_px=100, step_px=9, photons=1e5)), folder / "scan.npz")
        with np.load(folder / "scan.npz") as scan:
            for name, change in _wrong(dict(scan)).items():
                np.savez(folder / f"{name}.npz", allow_pickle=False, **change)
        yield folder


def _wrong(scan: dict[str, npt.NDArray[np.generic]]) -> dict[str, dict[str, npt.NDArray[np.generic]]]:
    patterns = "diff3d" if "diff3d" in scan else "diffraction"
    frames = scan[patterns]
    mask = np.ones(frames.shape[1:], np.uint8)
    mask[:4] = 0
    bare = {key: scan[key] for key in ("xcoords", "ycoords", "probeGuess")}
    return {
        "missing_keys": {key: value for key, value in scan.items() if key != "xcoords"},
        "short": {**scan, patterns: frames[:-3]},
        "doubtful": {**bare, "diffraction": frames.astype(np.float32) * np.float32(0.37)},
        "inverted": {**scan, "bad_pixels": mask},
        "oblong": {**scan, patterns: frames[:, 4:-4]},
    }
