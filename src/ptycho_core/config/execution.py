"""The execution record: how a run uses the machine. It never reaches the legacy parameter dict."""

# Annotations are read at run time to check values, so they are not postponed here. A knob's field is a declaration,
# not a shared default (RUF009), and its argument is the default itself (FBT003).
# ruff: noqa: RUF009, FBT003
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import attrs

from ptycho_core.config.knob import DURATION, NOT_EMPTY, Codec, Effect, Knob, Phase, Rule, Since, above, at_least
from ptycho_core.config.record import Explicit
from ptycho_core.config.shared import (
    ACCELERATOR,
    DEVICES,
    GRADIENT_CLIP_VAL,
    INFERENCE_BATCH_SIZE,
    OTHER_GENERATOR,
    SCHEDULER,
    Bottleneck,
    Evaluation,
    Loop,
    Scheduler,
    Steps,
)
from ptycho_core.errors import Problem

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "tpu", "mps"]
Precision = Literal["auto", "32-true", "16-mixed", "bf16-mixed"]
Logger = Literal["csv", "tensorboard", "mlflow"]

_NO_PICTURES = "reconstructions are not logged while training"


def _or_none(value: object) -> object:
    return None if isinstance(value, str) and value == "none" else value


def _of_training(doc: str, *rules: Rule, idle: tuple[object, ...] = ()) -> Knob:
    return Knob(doc, rules=rules, phase=Phase.TRAINING, idle=idle)


def _fixed(doc: str, why: str, *rules: Rule) -> Knob:
    return Knob(doc, effect=Effect.FIXED, why=why, rules=rules)


@attrs.frozen(kw_only=True, slots=False)
class PyTorchExecutionConfig(Explicit, Loop, Steps, Bottleneck, Evaluation):
    """Devices, loaders, loggers, checkpoints. Construction looks at no hardware.

    The fields that were passed outrank the command line; the others are defaults and outrank nothing.

    Raises:
        ConfigError: a field is not valid; every such field is listed.
    """

    scheduler: Scheduler = SCHEDULER.field("WarmupCosine")
    gradient_clip_val: float | None = GRADIENT_CLIP_VAL.field(1.0)
    accelerator: Accelerator = ACCELERATOR.field("auto")
    devices: int | Literal["auto"] = DEVICES.field(1)
    deterministic: bool | Literal["warn"] = _of_training("use deterministic kernels; warn only reports others").field(
        True
    )
    precision: Precision = Knob(
        "number format of the network; auto takes bf16-mixed where the device has instructions for it, else 32-true"
    ).field("32-true")
    num_threads: int | None = Knob(
        "CPU threads; none takes one for each core that other work leaves free, or as many as OMP_NUM_THREADS says",
        rules=(above(0),),
    ).field(None)
    pin_memory: bool = _of_training("load batches into page-locked memory").field(False)
    persistent_workers: bool = _of_training("keep loader processes between epochs").field(False)
    prefetch_factor: int | None = _of_training("batches loaded ahead per process", above(0)).field(None)
    enable_progress_bar: bool = Knob("show progress on stderr").field(True)
    enable_checkpointing: bool = _of_training("write checkpoints to resume from", idle=(False,)).field(True)
    checkpoint_every_s: float | None = _of_training(
        "seconds between checkpoints within an epoch, beside the one at its end; 0 is after every step, none never",
        at_least(0),
    ).field(60.0, since=Since(version=2, before=None))
    checkpoint_save_top_k: int = _of_training("checkpoints kept; -1 keeps all", at_least(-1)).field(1)
    checkpoint_monitor_metric: str = _of_training("figure that ranks checkpoints", NOT_EMPTY).field("val_loss")
    checkpoint_mode: Literal["min", "max"] = _of_training("whether low or high is good").field("min")
    early_stop_patience: int = _of_training("epochs without progress that end a training", above(0)).field(100)
    logger_backend: Logger | None = attrs.field(
        default="csv",
        metadata=_of_training("where figures are logged; none is nowhere", idle=(None,)).metadata(
            codec=Codec(decode=_or_none)
        ),
    )
    recon_log_every_n_epochs: int | None = _fixed(
        "epochs between logged reconstructions", _NO_PICTURES, above(0)
    ).field(None)
    recon_log_num_patches: int = _fixed("logged patches", _NO_PICTURES, above(0)).field(4)
    recon_log_fixed_indices: tuple[int, ...] | None = _fixed("logged scan points", _NO_PICTURES).field(None)
    recon_log_stitch: bool = _fixed("log the whole canvas", _NO_PICTURES).field(False)
    recon_log_max_stitch_samples: int | None = _fixed("patches on a logged canvas", _NO_PICTURES, above(0)).field(None)
    ffno_encoder_blocks: int = _fixed("encoder blocks", OTHER_GENERATOR, above(0)).field(24)
    ffno_encoder_modes: int = _fixed("Fourier modes per axis", OTHER_GENERATOR, above(0)).field(12)
    ffno_encoder_share_weights: bool = _fixed("blocks share weights", OTHER_GENERATOR).field(True)
    ffno_encoder_gate_init: float = _fixed("first value of the gate", OTHER_GENERATOR, above(0)).field(0.1)
    ffno_encoder_norm: str = _fixed("normalisation", OTHER_GENERATOR, NOT_EMPTY).field("instance")
    ffno_encoder_mlp_ratio: float = _fixed("widening of the channel mixer", OTHER_GENERATOR, above(0)).field(2.0)
    inference_batch_size: int | None = INFERENCE_BATCH_SIZE.field(None)
    max_time: str | None = _of_training(
        "longest training, DD:HH:MM:SS, probe rounds included; ends with a finished schedule and a saved archive",
        DURATION,
    ).field(None)
    resume: Literal["auto"] | Path | None = _of_training(
        "checkpoint to continue from; auto takes the newest whole one of the output folder, or starts if there is none"
    ).field(None)

    def _contradictions(self) -> Iterator[Problem]:
        if self.num_workers == 0 and self.persistent_workers:
            yield Problem(path="persistent_workers", expected="false with num_workers=0", found="True")
        if self.num_workers == 0 and self.prefetch_factor is not None:
            found = str(self.prefetch_factor)
            yield Problem(path="prefetch_factor", expected="none with num_workers=0", found=found)
