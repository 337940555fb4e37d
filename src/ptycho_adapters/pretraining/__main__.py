"""Train the shipped weights: `python -m ptycho_adapters.pretraining --output generalist.safetensors`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import attrs
import numpy as np
import torch

from ptycho_adapters.atomic import write_bytes
from ptycho_adapters.pretraining.checkpoints import check_unchanged, read_checkpoint, write_checkpoint
from ptycho_adapters.pretraining.material import make_material
from ptycho_adapters.pretraining.settings import Precision, Settings
from ptycho_adapters.pretraining.training import Pretraining, save_weights
from ptycho_adapters.pretraining.validation import Validation, validation_material
from ptycho_adapters.torch_backend.execution import cpu_threads
from ptycho_core.errors import DependencyError, PtychoError
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ptycho_adapters.pretraining.checkpoints import Checkpoint

_CHECKPOINT = ".checkpoint.safetensors"
_HELP = {
    "steps": "changes of the weights",
    "batch_size": "groups of a step",
    "learning_rate": "at its highest",
    "warm_up_steps": "over which the learning rate rises",
    "seed": "of material, draws, photons and first weights",
    "report_every": "steps between reports",
    "validation_groups": "fresh groups of each kind that a report judges by",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, writing at every report weights, a line of JSON and a checkpoint beside them.

    Returns:
        The exit code: 0, or 2 where the command is wrong.
    """
    started = time.perf_counter()
    asked = _parser().parse_args(arguments)
    try:
        resumed = None if asked.resume is None else read_checkpoint(asked.resume)
        settings = _settings(asked, resumed)
        with cpu_threads(asked.num_threads):
            _train(asked, settings, resumed, started)
    except PtychoError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the command's own words
        return 2
    return 0


def training_device(name: str) -> torch.device:
    """Device for simulation and training; `auto` takes CUDA where there is one, else the CPU.

    Raises:
        DependencyError: CUDA is asked for and not there.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise DependencyError("--device cuda: no such device is available here; use --device auto or --device cpu")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def _parser() -> argparse.ArgumentParser:
    default = Settings()
    parser = argparse.ArgumentParser(prog="python -m ptycho_adapters.pretraining", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="weights to write (safetensors, float16)")
    parser.add_argument("--first", help="weights to go on with; random ones by default")
    for name, text in _HELP.items():
        value = getattr(default, name)
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(value), help=f"{text} (default: {value})")
    text = f"of the network; float32 where a CPU has no bfloat16 (default: {default.precision})"
    parser.add_argument("--precision", choices=get_args(Precision), help=text)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    parser.add_argument("--num-threads", type=int, default=1, help="CPU threads (default: 1)")
    processes = os.cpu_count() or 1
    text = f"that make the material; the result is the same (default: {processes})"
    parser.add_argument("--processes", type=int, default=processes, help=text)
    parser.add_argument("--max-seconds", type=float, help="end after them with a checkpoint to resume from")
    parser.add_argument("--resume", type=Path, help="checkpoint to go on from, under the settings that it holds")
    return parser


def _settings(asked: argparse.Namespace, resumed: Checkpoint | None) -> Settings:
    """Settings as asked; what is not asked for is as in the checkpoint, or as by default."""
    names = [each.name for each in attrs.fields(Settings)]
    explicit = {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}
    if resumed is None:
        return Settings(**explicit)
    settings = attrs.evolve(resumed.progress.settings, **explicit)
    check_unchanged(settings, resumed)
    return settings


def _train(asked: argparse.Namespace, settings: Settings, resumed: Checkpoint | None, started: float) -> None:
    device = training_device(asked.device)
    material = make_material(np.random.default_rng((settings.seed, 0)), processes=asked.processes)
    fresh = validation_material(processes=asked.processes)
    pretraining = Pretraining(settings, material, Validation(settings, fresh, device), device)
    if resumed is not None:
        pretraining.go_on(resumed)
    log, saved = asked.output.with_suffix(".jsonl"), asked.output.with_suffix(_CHECKPOINT)
    lines = _lines_before(log, pretraining.progress.step)
    first = settings.first and Path(settings.first).name
    notes = attrs.asdict(settings) | {"first": first, "version": VERSION, "device": device.type}
    left = None if asked.max_seconds is None else asked.max_seconds - (time.perf_counter() - started)
    for report in pretraining.run(max_seconds=left):
        lines.append(report.to_json())
        write_bytes(log, ("\n".join(lines) + "\n").encode())
        now = notes | {"step": report.step, "sound_error": f"{report.sound_error:.4f}"}
        save_weights(pretraining.generator, asked.output, {name: str(value) for name, value in now.items()})
        write_checkpoint(saved, pretraining.checkpoint())
    write_checkpoint(saved, pretraining.checkpoint())
    if not pretraining.finished:
        text = f"stopped after {pretraining.progress.step} of {settings.steps} steps; go on with --resume {saved}"
        print(text, file=sys.stderr)  # noqa: T201 - the command's own words


def _lines_before(log: Path, step: int) -> list[str]:
    """Lines of a log that a run which has come so far has behind it."""
    if step == 0 or not log.is_file():
        return []
    return [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= step]


if __name__ == "__main__":
    sys.exit(main())
