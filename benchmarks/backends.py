"""Torch and TensorFlow side by side: a training step, a whole pass, and the first call, which traces, apart.

One thread each, in turns, in one process; processor seconds, which other work on the machine hardly lengthens, and the
median ratio of the pairs. Prints the table of `docs/backends.md`; with `--curve`, how far the losses of the same
training of the default network, from the shipped weights, come apart on both; with `--profile`, what the operations of
TensorFlow's pass take.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from ptycho_adapters import tensorflow_backend, torch_backend
from ptycho_adapters.common.groups import training_set_for
from ptycho_adapters.tensorflow_backend.execution import prepare_process
from ptycho_adapters.tensorflow_backend.training.start import arms_of, starting_generator
from ptycho_adapters.tensorflow_backend.training.step import Learner
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.config.payload import ScanFacts, resolve_training
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Callable

    from ptycho_core.config.payload import TrainingPayload
    from ptycho_core.config.shared import Backend
    from ptycho_core.measurement.scan import Scan

EXECUTION = PyTorchExecutionConfig(
    accelerator="cpu", num_threads=1, enable_progress_bar=False, enable_checkpointing=False, logger_backend=None
)
AS_GIVEN = TorchInferenceConfig(
    probe_rounds=0, background_counts=0.0, position_refinement="none", orientation_search="never", probe_search="never"
)

PARTS = {
    "transforms": {"FFT2D", "IFFT2D"},
    "convolutions": {"Conv2D"},
    "cutting patches out": {"GatherV2"},
    "adding patches up": {"UnsortedSegmentSum"},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--profile", action="store_true", help="the pass of TensorFlow alone, by what its time goes to")
    asked = parser.parse_args()
    repeats = asked.repeats
    prepare_process(EXECUTION)
    scan = simulate(SimulationConfig(object_size_px=160, step_px=8.0, jitter_px=1.0, photons=1e5))
    if asked.curve:
        compare_curves(scan)
        return
    if asked.profile:
        profile_pass(scan)
        return
    print(f"{scan.n_patterns} patterns of {scan.N} px; median processor seconds of {repeats}, in pairs")
    print("| | torch | TensorFlow | ratio | TensorFlow, first call |\n|---|---|---|---|---|")
    for name, torch_work, tensorflow_work in (
        ("training step, 2 groups of 4", torch_step(scan), tensorflow_step(scan)),
        (f"whole pass of the shipped network, {scan.n_patterns} patterns", *passes(scan)),
    ):
        first, _ = seconds(tensorflow_work), seconds(torch_work)
        pairs = np.array([(seconds(torch_work), seconds(tensorflow_work)) for _ in range(repeats)])
        theirs, ours = np.median(pairs, axis=0)
        ratio = np.median(pairs[:, 1] / pairs[:, 0])
        print(f"| {name} | {theirs:.2f} s | {ours:.2f} s | {ratio:.2f} | {first:.1f} s |", flush=True)


def profile_pass(scan: Scan) -> None:
    """Print what the time of TensorFlow's operations in a pass goes to, and the ratio to torch's whole pass."""
    import tensorflow as tf  # noqa: PLC0415 - it takes its threads first
    from tensorflow.tsl.profiler.protobuf import xplane_pb2  # noqa: PLC0415 - of this part alone

    theirs, ours = passes(scan)
    ours(), theirs()
    pairs = np.array([(seconds(theirs), seconds(ours)) for _ in range(5)])
    print(f"torch {np.median(pairs[:, 0]):.2f} s, TensorFlow {np.median(pairs[:, 1]):.2f} s")
    print(f"ratio {np.median(pairs[:, 1] / pairs[:, 0]):.2f}")
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        ours()
        tf.profiler.experimental.stop()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    spent: Counter[str] = Counter()
    for plane in space.planes:
        for line in (line for line in plane.lines if line.name.startswith("tf_Compute")):
            for event in line.events:
                _, found, kind = plane.event_metadata[event.metadata_id].name.partition(":")
                if found and not kind.startswith(":"):
                    spent[next((name for name, kinds in PARTS.items() if kind in kinds), "the rest")] += (
                        event.duration_ps
                    )
    for name, picoseconds in spent.most_common():
        print(f"{picoseconds / sum(spent.values()):.0%} {name}, {picoseconds / 1e12:.2f} s")


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of some work."""
    before = time.process_time()
    work()
    return time.process_time() - before


def compare_curves(scan: Scan) -> None:
    """Train on both backends and print the largest relative difference between the losses of a step."""
    curves = [
        np.array([row.train for row in backend.train(payload_for(name, epochs=1), scan).step_losses])
        for name, backend in (("tensorflow", tensorflow_backend), ("pytorch", torch_backend))
    ]
    apart = np.abs(curves[0] / curves[1] - 1.0)
    print(
        f"{len(apart)} steps, losses from {curves[1][0]:.4f} to {curves[1][-1]:.4f}; apart by at most {apart.max():.1e}"
    )


def payload_for(backend: Backend, **settings: object) -> TrainingPayload:
    """Settings of a training with the shipped weights under a probe that stays."""
    said = {"n_groups": 48, "gridsize": 2, "batch_size": 2, "probe_trainable": False, "backend": backend}
    said |= {"probe_rounds": 0, "probe_autofocus": False, "background_counts": 0.0, "position_refinement": "none"}
    said |= {"orientation_search": "never", "probe_search": "never", **settings}
    return resolve_training(ScanFacts(path=Path("scan.npz"), N=64), said, EXECUTION, output_dir=Path("out"))


def tensorflow_step(scan: Scan) -> Callable[[], object]:
    """A step on always the same groups."""
    payload = payload_for("tensorflow")
    data = training_set_for(payload, scan)
    learner, arm = Learner(starting_generator(payload), payload.pt_training_config), arms_of(payload, data).training
    return lambda: learner.learn(arm, data.groups[0].train[:2], 1e-5)


def torch_step(scan: Scan) -> Callable[[], object]:
    """The same step."""
    import torch  # noqa: PLC0415 - TensorFlow takes its threads first

    from ptycho_adapters.torch_backend.training.trainer import build_module  # noqa: PLC0415 - see above

    torch.set_num_threads(1)
    payload = payload_for("pytorch")
    data = training_set_for(payload, scan)
    module = build_module(payload, data)
    optimizer = module.configure_optimizers()
    indices = torch.tensor(data.groups[0].train[:2].astype(np.int64))

    def step() -> None:
        optimizer.zero_grad()
        loss, _ = module.objective.total(module.predict_groups(indices, module.arms.training[0]))
        loss.backward()
        module.configure_gradient_clipping(optimizer)
        optimizer.step()

    return step


def passes(scan: Scan) -> tuple[Callable[[], object], Callable[[], object]]:
    """A reconstruction on each backend; that of TensorFlow traces once more whenever it is called."""
    from ptycho_adapters.tensorflow_backend.patterns import Patterns  # noqa: PLC0415 - of this part alone
    from ptycho_adapters.tensorflow_backend.whole_scan import (  # noqa: PLC0415
        PassRunner,
        WholeScan,
        patterns_at_once,
    )

    model = torch_backend.generalist_for(scan)
    runner = PassRunner(tensorflow_backend.generalist_for(scan).generator)

    def ours() -> object:
        run = WholeScan(
            runner=runner,
            patterns=Patterns(scan),
            probe=model.probe,
            indices=np.arange(scan.n_patterns),
            batch_size=patterns_at_once(scan.N),
            uniform=False,
        )
        return run.judge(run.stitch().object)

    def theirs() -> object:
        return torch_backend.reconstruct(model, scan, execution_config=EXECUTION, inference_config=AS_GIVEN)

    return theirs, ours


if __name__ == "__main__":
    main()
