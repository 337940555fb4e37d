"""Train the shipped weights: `python -m ptycho_adapters.pretraining --output generalist.safetensors`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from safetensors.torch import load

from ptycho_adapters.pretraining.recipe import make_material
from ptycho_adapters.pretraining.training import Settings, pretrain, save_weights
from ptycho_adapters.torch_backend.execution import cpu_threads
from ptycho_adapters.torch_backend.generators import Generator, build_generator
from ptycho_core.config import DataConfig, TorchModelConfig
from ptycho_core.version import VERSION


def main() -> None:
    """Train, writing weights and a line of JSON beside them at every report."""
    default = Settings()
    parser = argparse.ArgumentParser(prog="python -m ptycho_adapters.pretraining", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="weights to write (safetensors, float16)")
    parser.add_argument("--first", type=Path, help="weights to go on with")
    parser.add_argument("--steps", type=int, default=default.steps, help=f"groups (default: {default.steps})")
    parser.add_argument("--learning-rate", type=float, default=default.learning_rate)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--num-threads", type=int, default=1, help="CPU threads (default: 1)")
    asked = parser.parse_args()
    settings = Settings(steps=asked.steps, learning_rate=asked.learning_rate, seed=asked.seed)
    facts = vars(asked) | {"first": asked.first and asked.first.name, "version": VERSION}
    notes = {name: str(value) for name, value in facts.items() if name != "output"}
    with cpu_threads(asked.num_threads), asked.output.with_suffix(".jsonl").open("w") as log:
        material = make_material(np.random.default_rng((settings.seed, 0)))
        for generator, report in pretrain(settings, material, first=_read(asked.first)):
            log.write(report.to_json() + "\n")
            log.flush()
            save_weights(generator, asked.output, notes | {"step": str(report.step), "error": f"{report.error:.4f}"})


def _read(path: Path | None) -> Generator | None:
    if path is None:
        return None
    generator = build_generator(TorchModelConfig(), DataConfig())
    generator.load_state_dict({name: value.float() for name, value in load(path.read_bytes()).items()})
    return generator


if __name__ == "__main__":
    main()
