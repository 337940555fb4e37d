"""Settings that more than one record holds, each declared once; the records inherit them."""

# Annotations are read at run time to check values, so they are not postponed here. A knob's field is a declaration,
# not a shared default (RUF009), and its argument is the default itself (FBT003).
# ruff: noqa: RUF009, FBT003
from pathlib import Path
from typing import Literal

import attrs
import numpy as np

from ptycho_core.config.frame_sides import LARGEST_PX, SMALLEST_PX
from ptycho_core.config.knob import (
    NOT_EMPTY,
    POWER_OF_TWO,
    Alias,
    Codec,
    Effect,
    Knob,
    Phase,
    Rule,
    UntranslatableError,
    above,
    at_least,
    below,
    within,
    words,
)
from ptycho_core.config.package_generator import PackageGenerator
from ptycho_core.config.record import Record

Architecture = Literal["unrolled", "unet", "cnn", "ffno", "fno", "fno_vanilla", "neuralop_uno"]
InputTransform = Literal["none", "sqrt", "log1p", "instancenorm"]
GeneratorOutput = Literal["real_imag", "amp_phase_logits", "amp_phase"]
LossMode = Literal["poisson", "mae"]
Optimizer = Literal["adam", "adamw", "sgd"]
Clipping = Literal["norm", "value", "agc"]
Scheduler = Literal[
    "Default", "Exponential", "MultiStage", "Adaptive", "WarmupCosine", "CosineAnnealing", "ReduceLROnPlateau"
]
Backend = Literal["tensorflow", "pytorch"]
GateMode = Literal["shared", "per_block"]

OTHER_GENERATOR = "the built generator has no such part"
NOT_BUILT = "not built"
PATCHWISE = ("unet", "cnn", "ffno")
ONE_OBJECT = "the unrolled generator makes one object on the canvas: it has no overlapping patches"


def only_in(architectures: tuple[str, ...], doc: str, *rules: Rule, phase: Phase = Phase.BOTH) -> Knob:
    """Declare a setting that only some architectures can honour; at its default it is at home everywhere.

    What both kinds of run read describes the network, so trained weights fit one value of it only.
    """
    why = ONE_OBJECT if architectures == PATCHWISE else OTHER_GENERATOR
    of_network = phase is Phase.BOTH
    return Knob(
        doc, effect=Effect.FIXED, why=why, rules=rules, phase=phase, part_of=architectures, in_weights=of_network
    )


def _side(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) == 2 and np.array_equal(value[0], value[1]):
        return value[0]
    raise UntranslatableError("two equal sizes, such as (2, 2)", "Non-square grids have no gridsize")


def _weight(value: object) -> object:
    if isinstance(value, bool):
        return float(value)
    raise UntranslatableError("true or false")


def _is_weighted(value: object) -> object:
    return isinstance(value, int | float) and value > 0


GRIDSIZE = Knob(
    "patterns seen together form a gridsize x gridsize group, so C = gridsize**2",
    key="gridsize",
    phase=Phase.TRAINING,
    rules=(above(0),),
    aliases=(Alias(name="grid_size", codec=Codec(decode=_side, encode=lambda side: (side, side))),),
)
NEIGHBOR_COUNT = Knob(
    "nearest scan points from which the members of a group are drawn",
    key="neighbor_count",
    phase=Phase.TRAINING,
    rules=(above(0),),
    aliases=(Alias(name="K"),),
)
NEPOCHS = Knob(
    "passes over the training groups",
    key="nepochs",
    rules=(above(0),),
    aliases=(Alias(name="epochs"), Alias(name="max_epochs")),
)
N_GROUPS = Knob(
    "groups drawn from the scan",
    key="n_groups",
    rules=(above(0),),
    aliases=(Alias(name="n_images", deprecated=True),),
)
MODE = words({"Unsupervised": "pinn", "Supervised": "supervised"})
# Either vocabulary is read under either name of a key; each record then spells it in its own.
TORCH_ACTIVATION = words({"silu": "swish", "SiLU": "swish"})
CANONICAL_MODE = Codec(decode=MODE.decode, encode=MODE.decode)
CANONICAL_ACTIVATION = Codec(decode=TORCH_ACTIVATION.decode, encode=TORCH_ACTIVATION.decode)
MODEL_TYPE = Knob(
    "learn from the measured patterns alone (pinn) or from known objects (supervised)",
    key="model_type",
    phase=Phase.TRAINING,
    aliases=(Alias(name="mode", codec=MODE),),
    complaint="Invalid mode",
)
ACTIVATION = Knob(
    "activation of the amplitude branch of generators that have one",
    key="amp_activation",
    complaint="Unknown activation",
    in_weights=True,
)
NLL_WEIGHT = Knob(
    "weight of the negative log-likelihood; nll is its on/off form",
    key="nll_weight",
    rules=(within(0, 1),),
    aliases=(Alias(name="nll", codec=Codec(decode=_weight, encode=_is_weighted)),),
)
LOSS_MODE = Knob(
    "likelihood of the counts: Poisson deviance, or mean absolute error of the amplitude",
    key="torch_loss_mode",
    phase=Phase.TRAINING,
    aliases=(Alias(name="loss_function", codec=words({"Poisson": "poisson", "MAE": "mae"})),),
)
PROBE_ROUNDS = Knob(
    "rounds in which a trained network takes turns with probe and positions before the work itself; under the "
    "package's weights, or such as were trained from them, none is 3 in a reconstruction and 6 in a training, else 0",
    rules=(at_least(0),),
)
PROBE_AUTOFOCUS = Knob("look for the probe's focus before the work itself, where the probe is refined")
BACKGROUND_COUNTS = Knob(
    "counts that do not come from the beam; none estimates them", unit="counts/px", rules=(at_least(0),)
)
BEAM_SEARCH = Knob("look for the direct beam on the detector, and take out by how many pixels it is off the middle")
POSITION_REFINEMENT = Knob(
    "what of the positions may be moved in the rounds of the probe: nothing, the stage as a whole (scale, rotation, "
    "shear), or each too"
)
ORIENTATION_SEARCH = Knob(
    "when to try whether positions are mirrored or their axes exchanged; auto does it where the fit is poor"
)
FLUX_SEARCH = Knob("when to give each frame a flux of its own; auto does it where frames that overlap differ in light")
BLUR_SEARCH = Knob("when to take the patterns for blurred, with modes; auto does so where that explains a poor fit")
PROBE_SEARCH = Knob("when to try a probe made out of the mean pattern; auto does it where the fit is poor")
PROBE_MODES = Knob(
    "incoherent modes of the probe; none takes those of the scan, and more where the beam moves within the frames",
    rules=(within(1, 8),),
)
BACKEND = Knob(
    "framework that trains and reconstructs",
    key="backend",
    complaint="Invalid backend",
)
INTENSITY_SCALE_TRAINABLE = Knob(
    "learn one factor on the expected counts, starting at 1",
    key="intensity_scale_trainable",
    phase=Phase.TRAINING,
    legacy="intensity_scale.trainable",
)
OUTPUT_DIR = Knob("folder for everything that is written", key="output_dir", legacy="output_prefix")
TRAIN_DATA_FILE = Knob("scan to train on", key="train_data_file", legacy="train_data_file_path")
TEST_DATA_FILE = Knob("scan to reconstruct or to validate on", key="test_data_file", legacy="test_data_file_path")
MODEL_PATH = Knob("folder with wts.h5.zip, or that file", key="model_path")
DEBUG = Knob("verbose legacy consumers", key="debug", effect=Effect.LEGACY)
ACCELERATOR = Knob(
    "hardware; auto picks the best one when the run starts",
    key="accelerator",
    aliases=(Alias(name="device", deprecated=True),),
    complaint="Invalid accelerator",
)
DEVICES = Knob(
    "number of devices, each with a process of its own; in a training they share every batch, in a reconstruction the "
    "patterns",
    key="devices",
    rules=(above(0),),
    aliases=(Alias(name="n_devices"),),
)
SEED = Knob("seed of every random choice of a run", key="seed", rules=(at_least(0), below(2**32)))
INFERENCE_BATCH_SIZE = Knob(
    "patterns per pass of the network in a reconstruction; none picks a size that fits",
    key="inference_batch_size",
    phase=Phase.RECONSTRUCTION,
    rules=(above(0),),
)
BATCH_SIZE = Knob("groups per step, those of all devices together", key="batch_size", rules=(POWER_OF_TWO,))
SCHEDULER = Knob(
    "course of the learning rate: Default is constant; the cosine ends with the epochs or with max_time",
    key="scheduler",
    phase=Phase.TRAINING,
)
GRADIENT_CLIP_VAL = Knob(
    "bound on the gradient; none leaves it",
    key="gradient_clip_val",
    phase=Phase.TRAINING,
    idle=(None,),
    rules=(above(0),),
)
LR_MIN_RATIO = Knob("last learning rate over the first", key="lr_min_ratio", rules=(within(0, 1),))


@attrs.frozen(kw_only=True, slots=False)
class Frame(Record):
    """Size and illumination of one detector frame."""

    N: int = Knob(
        "side of a pattern; legacy consumers take 64, 128 and 256",
        unit="px",
        in_weights=True,
        rules=(within(SMALLEST_PX, LARGEST_PX),),
    ).field(64)
    probe_scale: float = Knob("normalisation of the probe", rules=(above(0),), effect=Effect.LEGACY).field(4.0)


@attrs.frozen(kw_only=True, slots=False)
class Dose(Record):
    """Declared dose."""

    # The counts themselves hold the dose that a run uses.
    nphotons: float = Knob(
        "photons per pattern as declared", unit="photons", rules=(above(0),), effect=Effect.LEGACY
    ).field(1e9)


@attrs.frozen(kw_only=True, slots=False)
class Draw(Record):
    """Seed of the group draw."""

    subsample_seed: int | None = Knob(
        "seed of the choice of patterns and groups; none uses the seed of the run",
        rules=(at_least(0), below(2**32)),
    ).field(None)


@attrs.frozen(kw_only=True, slots=False)
class Network(Record):
    """The generator."""

    architecture: Architecture | PackageGenerator = Knob(
        "generator network; that of another package is package:name",
        in_weights=True,
        complaint="Invalid architecture",
        effect=Effect.FIXED,
        why=NOT_BUILT,
        only=("unrolled", "unet", "cnn", "ffno"),
        kinds=(PackageGenerator,),
    ).field("unrolled")
    fno_modes: int = only_in(("ffno",), "Fourier modes per axis, in ffno", above(0)).field(12)
    fno_width: int = only_in(("ffno",), "channels of ffno, times n_filters_scale", above(0)).field(32)
    fno_blocks: int = only_in(("ffno",), "Fourier blocks of ffno", above(0)).field(4)
    fno_cnn_blocks: int = only_in(("ffno",), "convolution blocks of ffno", at_least(0)).field(2)
    learned_input_channels: int = Knob("input channels", rules=(above(0),), effect=Effect.LEGACY).field(1)
    max_hidden_channels: int | None = Knob(
        "upper limit of hidden channels", rules=(above(0),), effect=Effect.LEGACY
    ).field(None)
    resnet_width: int | None = Knob("channels of residual blocks", rules=(above(0),), effect=Effect.LEGACY).field(None)
    fno_input_transform: InputTransform = Knob("transform of the amplitude", effect=Effect.LEGACY).field("none")
    generator_output_mode: GeneratorOutput = Knob(
        "what the last layer of other generators means", effect=Effect.LEGACY
    ).field("real_imag")
    n_filters_scale: int = Knob("factor on the number of channels", rules=(above(0),), in_weights=True).field(2)
    object_big: bool = Knob("groups share one canvas", legacy="object.big", effect=Effect.LEGACY).field(True)
    probe_big: bool = Knob("patches fill the frame", legacy="probe.big", effect=Effect.LEGACY).field(True)
    probe_mask: bool = Knob("keep the probe inside a disc", legacy="probe.mask", phase=Phase.TRAINING).field(False)
    probe_mask_sigma: float = Knob(
        "softness of the disc's edge", unit="px", rules=(at_least(0),), phase=Phase.TRAINING
    ).field(1.0)
    probe_mask_diameter: float | None = Knob(
        "diameter of the disc; none is N/2", unit="px", rules=(above(0),), phase=Phase.TRAINING
    ).field(None)
    pad_object: bool = Knob("patches end in a margin", effect=Effect.LEGACY).field(True)
    gaussian_smoothing_sigma: float = Knob(
        "smoothing of the illumination", unit="px", rules=(at_least(0),), effect=Effect.LEGACY
    ).field(0.0)


@attrs.frozen(kw_only=True, slots=False)
class Sampling(Record):
    """Which patterns and groups take part."""

    n_subsample: int | None = Knob("patterns drawn before grouping; none takes all", rules=(above(0),)).field(None)
    enable_oversampling: bool = Knob("allow more groups than patterns", phase=Phase.TRAINING).field(False)
    neighbor_pool_size: int | None = Knob(
        "neighbours from which oversampled groups are drawn; none is neighbor_count",
        rules=(above(0),),
        phase=Phase.TRAINING,
    ).field(None)


@attrs.frozen(kw_only=True, slots=False)
class Steps(Record):
    """How a step of the optimiser is scheduled and bounded."""

    scheduler: Scheduler = SCHEDULER.field("Default")
    gradient_clip_val: float | None = GRADIENT_CLIP_VAL.field(None)
    gradient_clip_algorithm: Clipping = Knob("what is bounded: norm, value, or adaptively", phase=Phase.TRAINING).field(
        "norm"
    )


@attrs.frozen(kw_only=True, slots=False)
class Optimisation(Steps):
    """What a training minimises, with what, on which data."""

    train_data_file: Path | None = TRAIN_DATA_FILE.field(None)
    test_data_file: Path | None = TEST_DATA_FILE.field(None)
    output_dir: Path = OUTPUT_DIR.field(Path("training_outputs"))
    batch_size: int = BATCH_SIZE.field(16)
    mae_weight: float = Knob("weight of the mean absolute amplitude error", rules=(within(0, 1),)).field(0.0)
    realspace_mae_weight: float = only_in(
        PATCHWISE, "weight of the absolute error between overlapping patches", at_least(0), phase=Phase.TRAINING
    ).field(0.0)
    realspace_weight: float = only_in(
        PATCHWISE, "weight of agreement between overlapping patches", at_least(0), phase=Phase.TRAINING
    ).field(0.0)
    positions_provided: bool = Knob("the scan has positions", legacy="positions.provided", effect=Effect.LEGACY).field(
        True
    )
    probe_trainable: bool = Knob("refine the probe while training", legacy="probe.trainable").field(True)
    sequential_sampling: bool = Knob("take scan points in order instead of at random").field(False)
    torch_loss_mode: LossMode = LOSS_MODE.field("poisson")
    torch_mae_pred_l2_match_target: bool = Knob(
        "scale the prediction to the measured norm before the amplitude error"
    ).field(False)
    optimizer: Optimizer = Knob("optimiser").field("adam")
    momentum: float = Knob("momentum of sgd", rules=(at_least(0), below(1))).field(0.9)
    weight_decay: float = Knob("weight decay", rules=(at_least(0),)).field(0.0)
    adam_beta1: float = Knob("decay of the first moment", rules=(at_least(0), below(1))).field(0.9)
    adam_beta2: float = Knob("decay of the second moment", rules=(at_least(0), below(1))).field(0.999)
    lr_warmup_epochs: int = Knob("epochs of rising learning rate", rules=(at_least(0),)).field(0)
    lr_min_ratio: float = LR_MIN_RATIO.field(0.1)
    plateau_factor: float = Knob("factor at a plateau", rules=(above(0), below(1))).field(0.5)
    plateau_patience: int = Knob("epochs without progress that make a plateau", rules=(at_least(0),)).field(2)
    plateau_min_lr: float = Knob("lowest learning rate at plateaus", rules=(at_least(0),)).field(5e-5)
    plateau_threshold: float = Knob("smallest change that counts as progress", rules=(at_least(0),)).field(0.0)


@attrs.frozen(kw_only=True, slots=False)
class Loop(Record):
    """How the training loop runs."""

    learning_rate: float = Knob("first learning rate", rules=(above(0),), phase=Phase.TRAINING).field(2e-4)
    accum_steps: int = Knob("batches whose gradients make one step", rules=(above(0),), phase=Phase.TRAINING).field(1)
    num_workers: int = Knob(
        "processes that load batches",
        rules=(at_least(0),),
        phase=Phase.TRAINING,
        unread="its patterns are on the device",
    ).field(0)
    strategy: str = Knob("how several devices share the work", rules=(NOT_EMPTY,), phase=Phase.TRAINING).field("auto")


@attrs.frozen(kw_only=True, slots=False)
class Bottleneck(Record):
    """Spectral bottleneck of generators that have one."""

    spectral_bottleneck_blocks: int = Knob("blocks", rules=(above(0),), effect=Effect.FIXED, why=OTHER_GENERATOR).field(
        6
    )
    spectral_bottleneck_modes: int = Knob(
        "Fourier modes per axis", rules=(above(0),), effect=Effect.FIXED, why=OTHER_GENERATOR
    ).field(12)
    spectral_bottleneck_share_weights: bool = Knob(
        "blocks share weights", effect=Effect.FIXED, why=OTHER_GENERATOR
    ).field(True)
    spectral_bottleneck_gate_init: float = Knob(
        "first value of the gate", effect=Effect.FIXED, why=OTHER_GENERATOR
    ).field(0.1)
    spectral_bottleneck_gate_mode: GateMode = Knob(
        "one gate or one per block", effect=Effect.FIXED, why=OTHER_GENERATOR
    ).field("shared")


@attrs.frozen(kw_only=True, slots=False)
class Evaluation(Record):
    """Trimming of reconstructed patches."""

    middle_trim: int = Knob(
        "border cut from each patch; 0 weights by the probe instead",
        unit="px",
        rules=(at_least(0),),
        effect=Effect.FIXED,
        why="patches are weighted by the probe, nothing is cut",
    ).field(0)
    pad_eval: bool = Knob(
        "pad the canvas; it always covers every patch",
        effect=Effect.FIXED,
        why="the canvas covers every patch already",
    ).field(False)
