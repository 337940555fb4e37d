"""All figures of a GPU in half an hour: `python benchmarks/gpu_trip.py --out FOLDER [--step NAME|all]`.

For a machine that has torch, no network, and ends a command after some minutes: call it again and again, and it goes on
where it stopped. Every piece runs in a process of its own and leaves its figures in `FOLDER/STEP.json` at once; what is
there is not done again, what failed is tried once more. `--wheels FOLDER` installs what `benchmarks/wheels.py` has
collected beside the system's torch. `--device cpu --quick` is the rehearsal.
"""

from __future__ import annotations

import argparse
import json
import os
import site
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trip_pieces import Trip

_HERE = Path(__file__).parent
_STEPS = (
    "environment",
    "rates",
    "tests",
    "reconstruction",
    "training",
    "switches",
    "bandwidth",
    "quality",
    "solver",
    "pretraining",
)
_SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"
_TRIES = 2
_LEAST_S = 20.0  # that a piece is begun with


def main() -> int:
    """Run what is left of the steps, as far as the time goes.

    Returns:
        The exit code: 0 when nothing is left, 3 when there is more to do, 1 when something failed for good.
    """
    asked = _parser().parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.piece is not None:
        return _one_piece(asked)
    until = time.monotonic() + asked.seconds
    python = sys.executable if asked.wheels is None else _with_wheels(asked.wheels, asked.out / "venv")
    steps = _STEPS if asked.step == "all" else (asked.step,)
    names = json.loads(_called(python, ["--piece", "names"], asked, 120.0).stdout.splitlines()[-1])
    states = [_step(step, names[step], python, asked, until) for step in steps]
    for step, state in zip(steps, states, strict=True):
        print(f"{step:16s} {state['done']} done, {state['failed']} failed, {state['left']} left")
    if any(state["left"] for state in states):
        return 3
    return 1 if any(state["failed"] for state in states) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_trip"), help="folder of the results (default: gpu_trip)")
    parser.add_argument("--step", choices=(*_STEPS, "all"), default="all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="small, and of every kind one")
    parser.add_argument("--seconds", type=float, default=540.0, help="that this call may take (default: 540)")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install beside the system's torch")
    parser.add_argument("--scan", type=Path, help="measured scan to reconstruct too")
    parser.add_argument("--reference", type=Path, help="object that it is judged by")
    parser.add_argument("--pretraining-steps", type=int, default=26000)
    parser.add_argument("--piece", nargs="+", help=argparse.SUPPRESS)
    return parser


def _step(step: str, names: list[str], python: str, asked: argparse.Namespace, until: float) -> dict[str, int]:
    """Run the pieces of a step that are not done, those that have failed last."""
    path = asked.out / f"{step}.json"
    known = json.loads(path.read_text()) if path.is_file() else {}

    def open_(name: str) -> bool:
        piece = known.get(name, {})
        return not piece.get("done") and piece.get("tries", 0) < _TRIES

    for name in sorted(filter(open_, names), key=lambda name: known.get(name, {}).get("tries", 0)):
        left = until - time.monotonic()
        if left < _LEAST_S:
            break
        known[name] = _measured(step, name, python, asked, left) | _tried(known.get(name, {}))
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(known, indent=2) + "\n")
        partial.replace(path)
        print(f"{step}: {name}: {_in_short(known[name])}", flush=True)
    done = sum(bool(known.get(name, {}).get("done")) for name in names)
    left_over = sum(map(open_, names))
    return {"done": done, "failed": len(names) - done - left_over, "left": left_over}


def _tried(before: dict[str, object]) -> dict[str, object]:
    # What goes on where it stopped is no failure, however often it is called.
    return {"tries": int(str(before.get("tries", 0))) + 1}


def _measured(step: str, name: str, python: str, asked: argparse.Namespace, limit_s: float) -> dict[str, object]:
    started = time.monotonic()
    try:
        ended = _called(python, ["--piece", step, name, f"{limit_s - 5.0:.0f}"], asked, limit_s)
    except subprocess.TimeoutExpired:
        return {"done": False, "error": f"not done within {limit_s:.0f} s"}
    seconds = time.monotonic() - started
    if ended.returncode:
        return {"done": False, "error": ended.stderr.strip()[-1200:], "wall_s": seconds}
    figures = json.loads(ended.stdout.splitlines()[-1])
    return {"done": figures.get("finished", True), "wall_s": seconds, "figures": figures}


def _called(
    python: str, arguments: list[str], asked: argparse.Namespace, limit_s: float
) -> subprocess.CompletedProcess[str]:
    """Call this file for a piece, in the environment that has the wheels."""
    told = ["--out", str(asked.out), "--device", asked.device, "--pretraining-steps", str(asked.pretraining_steps)]
    told += ["--quick"] if asked.quick else []
    for flag, path in (("--scan", asked.scan), ("--reference", asked.reference)):
        told += [] if path is None else [flag, str(path)]
    paths = [str(_HERE.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [python, __file__, *told, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


def _one_piece(asked: argparse.Namespace) -> int:
    """Measure one piece in this process; its figures are the last line that it prints."""
    from trip_pieces import STEPS, Trip, pieces  # noqa: PLC0415 - in the environment that has the wheels

    trip: Trip = Trip(
        device=asked.device,
        quick=asked.quick,
        out=asked.out,
        scan=asked.scan,
        reference=asked.reference,
        pretraining_steps=asked.pretraining_steps,
    )
    if asked.piece == ["names"]:
        print(json.dumps({step: list(some) for step, some in pieces(trip).items()}))
        return 0
    step, name, limit_s = asked.piece
    figures = STEPS[step](trip, float(limit_s), **pieces(trip)[step][name])
    print(json.dumps(figures))
    return 0


def _with_wheels(wheels: Path, folder: Path) -> str:
    """Make an environment that sees the system's packages, with the wheels in it; once."""
    python = folder / "bin" / "python"
    if not (folder / ".ready").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(folder)], check=True)
        # Where the Python that has torch is of an environment itself, the system's packages are not those.
        own = subprocess.run([str(python), "-c", _SITE], check=True, capture_output=True, text=True).stdout.strip()
        (Path(own) / "layer.pth").write_text("\n".join(site.getsitepackages()) + "\n")
        found = sorted(map(str, wheels.glob("*.whl")))
        command = [str(python), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", *found]
        subprocess.run(command, check=True)
        (folder / ".ready").touch()
    return str(python)


def _in_short(piece: dict[str, object]) -> str:
    if "error" in piece:
        return "failed: " + str(piece["error"]).splitlines()[-1][:160]
    figures = piece["figures"]
    if not isinstance(figures, dict):
        raise TypeError(f"expected figures by name, found {figures!r}")
    some = {name: value for name, value in figures.items() if isinstance(value, int | float | str)}
    shown = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in some.items()
    )
    return f"{piece['wall_s']:.0f} s; {shown[:300]}"


if __name__ == "__main__":
    sys.exit(main())
