"""The torch-side records: the vocabulary of the PyTorch backend, with what the canonical records do not say."""

# Annotations are read at run time to check values, so they are not postponed here. A knob's field is a declaration,
# not a shared default (RUF009), and its argument is the default itself (FBT003).
# ruff: noqa: RUF009, FBT003
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from ptycho_core.config.execution import Accelerator
from ptycho_core.config.knob import POSITIVE_SIZES, RISING, Effect, Knob, Phase, Rule, Since, above, at_least, within
from ptycho_core.config.shared import (
    ACCELERATOR,
    ACTIVATION,
    BACKEND,
    BACKGROUND_COUNTS,
    BATCH_SIZE,
    BEAM_SEARCH,
    BLUR_SEARCH,
    DEBUG,
    DEVICES,
    FLUX_SEARCH,
    GRADIENT_CLIP_VAL,
    GRIDSIZE,
    INFERENCE_BATCH_SIZE,
    INTENSITY_SCALE_TRAINABLE,
    LOSS_MODE,
    LR_MIN_RATIO,
    MODEL_PATH,
    MODEL_TYPE,
    N_GROUPS,
    NEIGHBOR_COUNT,
    NEPOCHS,
    NLL_WEIGHT,
    ORIENTATION_SEARCH,
    OTHER_GENERATOR,
    OUTPUT_DIR,
    PATCHWISE,
    POSITION_REFINEMENT,
    PROBE_AUTOFOCUS,
    PROBE_MODES,
    PROBE_ROUNDS,
    PROBE_SEARCH,
    SCHEDULER,
    SEED,
    TEST_DATA_FILE,
    TORCH_ACTIVATION,
    Backend,
    Bottleneck,
    Dose,
    Draw,
    Evaluation,
    Frame,
    Loop,
    Network,
    Optimisation,
    Sampling,
    Scheduler,
    only_in,
)
from ptycho_core.errors import Problem

Mode = Literal["Supervised", "Unsupervised"]
TorchActivation = Literal["silu", "sigmoid", "softplus", "relu"]

_GROUPS_BY_DISTANCE = "groups are drawn from the nearest neighbours"
_FLUX_IN_PROBE = "the probe carries the flux; nothing is normalised on the way"
_DOMAIN_OF_SCAN = "the scan states its own domain; say it when the file is read"
_ONE_LOSS = "the likelihood is the whole loss"
_ONE_STAGE = "a training has one stage"
_LIGHTNING = "Lightning runs the loop"
_NO_STATISTICS = "patch statistics are not written"


def _fixed(doc: str, why: str, *rules: Rule) -> Knob:
    return Knob(doc, effect=Effect.FIXED, why=why, rules=rules)


def _generator(doc: str, *rules: Rule) -> Knob:
    return _fixed(doc, OTHER_GENERATOR, *rules)


_OFF_BEFORE_2 = Since(version=2, before=False)
_OFF_BEFORE_3 = Since(version=3, before=False)
_NONE_BEFORE_2 = Since(version=2, before="none")
_NEVER_BEFORE_2 = Since(version=2, before="never")
_NEVER_BEFORE_4 = Since(version=4, before="never")
_UNSAID_BEFORE_2 = Since(version=2, before=None)
_OF_TRAINING_BEFORE_2 = Since(version=2)


@attrs.frozen(kw_only=True, slots=False)
class DataConfig(Frame, Dose, Draw):
    """What the measured data are and how groups are drawn from them.

    Raises:
        ConfigError: a field is not valid; every such field is listed.
    """

    scale_contract_version: Literal["ci_intensity_v2", "legacy_v1"] = _fixed(
        "meaning of the counts", _DOMAIN_OF_SCAN
    ).field("ci_intensity_v2")
    measurement_domain: Literal["count_intensity", "normalized_amplitude"] = _fixed(
        "what the numbers in the file are", _DOMAIN_OF_SCAN
    ).field("count_intensity")
    K: int = NEIGHBOR_COUNT.field(10)
    K_quadrant: int = _fixed("neighbours per quadrant", _GROUPS_BY_DISTANCE, above(0)).field(30)
    n_subsample: int = Knob(
        "draws of neighbours per scan point",
        key="coordinate_subsampling",
        rules=(above(0),),
        effect=Effect.FIXED,
        why="n_groups says how many groups are drawn",
    ).field(7)
    grid_size: tuple[int, int] = attrs.field(
        default=(3, 3), metadata=attrs.evolve(GRIDSIZE, rules=(POSITIVE_SIZES,)).metadata()
    )
    neighbor_function: Literal["Nearest", "Min_dist", "4_quadrant"] = _fixed(
        "rule for neighbours", _GROUPS_BY_DISTANCE
    ).field("Nearest")
    min_neighbor_distance: float = _fixed("nearest neighbour taken", _GROUPS_BY_DISTANCE, at_least(0)).field(0.0)
    max_neighbor_distance: float = _fixed("farthest neighbour taken", _GROUPS_BY_DISTANCE, at_least(0)).field(3.0)
    scan_pattern: Literal["Isotropic", "Rectangular"] = _fixed("shape of the scan", _GROUPS_BY_DISTANCE).field(
        "Isotropic"
    )
    normalize: Literal["Group", "Batch", "Each"] | None = _fixed("what is normalised together", _FLUX_IN_PROBE).field(
        None
    )
    probe_normalize: bool = _fixed("normalise the probe", _FLUX_IN_PROBE).field(False)
    data_scaling: Literal["Parseval", "Max"] = _fixed("norm of the patterns", _FLUX_IN_PROBE).field("Parseval")
    phase_subtraction: bool = _fixed("remove the mean phase of known objects", _FLUX_IN_PROBE).field(False)
    x_bounds: tuple[float, float] = Knob(
        "part of the scan used, across",
        unit="fraction",
        rules=(RISING,),
        effect=Effect.FIXED,
        why="every scan point is used",
    ).field((0.0, 1.0))
    y_bounds: tuple[float, float] = Knob(
        "part of the scan used, down",
        unit="fraction",
        rules=(RISING,),
        effect=Effect.FIXED,
        why="every scan point is used",
    ).field((0.0, 1.0))

    @property
    def C(self) -> int:  # noqa: N802 - the field's own name
        """Patterns per group."""
        return self.grid_size[0] * self.grid_size[1]

    def _contradictions(self) -> Iterator[Problem]:
        pairs = {"ci_intensity_v2": "count_intensity", "legacy_v1": "normalized_amplitude"}
        expected = pairs[self.scale_contract_version]
        if self.measurement_domain != expected:
            yield Problem(
                path="measurement_domain",
                expected=f"{expected!r}, which the scale contract {self.scale_contract_version!r} implies",
                found=repr(self.measurement_domain),
                fix="scale_contract_version and measurement_domain must be supplied together",
            )


@attrs.frozen(kw_only=True, slots=False)
class TorchModelConfig(Network, Bottleneck):
    """What the network is.

    Raises:
        ConfigError: a field is not valid; every such field is listed.
    """

    mode: Mode = MODEL_TYPE.field("Unsupervised")
    amp_activation: TorchActivation = ACTIVATION.field("silu", codec=TORCH_ACTIVATION)
    unrolled_steps: int = only_in(
        ("unrolled",),
        "steps of the unrolled generator, each a move towards the data and a network on the canvas",
        above(0),
    ).field(6)
    unrolled_repeats: int = only_in(
        ("unrolled",), "how often the later half of the unrolled steps is gone through again", at_least(0)
    ).field(2)
    cnn_output_mode: Literal["amp_phase", "real_imag"] = only_in(
        ("cnn",), "what the two decoders give: amplitude and phase, or bounded real and imaginary part"
    ).field("amp_phase")
    use_shared_decoder: bool = _generator("one decoder for amplitude and phase").field(False)
    intensity_scale_trainable: bool = INTENSITY_SCALE_TRAINABLE.field(False)
    intensity_scale: float = _fixed("scale of the patterns", _FLUX_IN_PROBE, above(0)).field(1.0)
    max_position_jitter: int = _generator("margin for positions", at_least(0)).field(10)
    num_datasets: int = _generator("scans that share a model", above(0)).field(1)
    batch_norm: bool = _generator("normalise over the batch").field(False)
    probe_mask_tensor: NDArray[np.float32] | None = attrs.field(
        default=None,
        eq=attrs.cmp_using(eq=np.array_equal),
        hash=False,
        metadata=Knob("mask multiplied to the probe, (N, N); implies probe_mask", phase=Phase.TRAINING).metadata(),
    )
    edge_pad: int = _generator("margin of the decoder", at_least(0)).field(10)
    decoder_last_c_outer_fraction: float = _generator("outer channels of the last layer", within(0, 1)).field(0.125)
    decoder_last_amp_channels: int = _generator("amplitude channels of the last layer", above(0)).field(1)
    use_legacy_decoder_channel_override: bool = _generator("old channel count of the last layer").field(False)
    eca_encoder: bool = _generator("channel attention in the encoder").field(False)
    cbam_encoder: bool = only_in(("cnn",), "channel and spatial attention in the encoder").field(True)
    cbam_bottleneck: bool = _generator("block attention in the middle").field(False)
    cbam_decoder: bool = _generator("block attention in the decoder").field(False)
    eca_decoder: bool = _generator("channel attention in the decoder").field(False)
    spatial_decoder: bool = _generator("spatial attention in the decoder").field(False)
    decoder_spatial_kernel: int = _generator("kernel of the spatial attention", above(0)).field(7)
    offset: int = _generator("shift between group members", at_least(0)).field(6)
    training_patch_weighting: Literal["central_mask", "probe", "uniform"] = Knob(
        "weight of overlapping patches while training",
        effect=Effect.FIXED,
        why="overlapping patches are weighted by the probe",
    ).field("probe")
    physics_forward_mode: Literal["amplitude", "rectangular_scaled"] = _fixed("forward model", _FLUX_IN_PROBE).field(
        "amplitude"
    )
    rect_s1s2_trainable: bool = _fixed("learn the scales of the forward model", _FLUX_IN_PROBE).field(True)
    rect_s1s2_init: Literal["ones", "data"] = _fixed("first scales of the forward model", _FLUX_IN_PROBE).field("ones")
    amplitude_physics_gain: float = _fixed("gain of the forward model", _FLUX_IN_PROBE, above(0)).field(1.0)
    loss_function: Literal["MAE", "Poisson"] = LOSS_MODE.field("Poisson")
    amp_loss: Literal["Total_Variation", "Mean_Deviation"] | None = _fixed("prior on the amplitude", _ONE_LOSS).field(
        None
    )
    phase_loss: Literal["Total_Variation", "Mean_Deviation"] | None = _fixed("prior on the phase", _ONE_LOSS).field(
        None
    )
    amp_loss_coeff: float = _fixed("weight of the prior on the amplitude", _ONE_LOSS, at_least(0)).field(1.0)
    phase_loss_coeff: float = _fixed("weight of the prior on the phase", _ONE_LOSS, at_least(0)).field(1.0)

    def _consequences(self) -> Mapping[str, object]:
        return {} if self.probe_mask_tensor is None else {"probe_mask": True}


def _weight_of_switch(record: "TorchTrainingConfig") -> float:
    nll: object = record.nll  # not checked yet
    return 0.0 if isinstance(nll, bool | np.bool_) and not nll else 1.0


@attrs.frozen(kw_only=True, slots=False)
class TorchTrainingConfig(Loop, Optimisation, Sampling):
    """A training with the PyTorch backend.

    Raises:
        ConfigError: a field is not valid; every such field is listed.
    """

    epochs: int = NEPOCHS.field(50)
    batch_size: int = BATCH_SIZE.field(1)
    scheduler: Scheduler = SCHEDULER.field("WarmupCosine")
    lr_min_ratio: float = LR_MIN_RATIO.field(0.01)
    gradient_clip_val: float | None = GRADIENT_CLIP_VAL.field(1.0)
    n_groups: int | None = N_GROUPS.field(None)
    nll: bool = NLL_WEIGHT.field(True)
    nll_weight: float = attrs.field(
        default=attrs.Factory(_weight_of_switch, takes_self=True), metadata=NLL_WEIGHT.metadata()
    )
    backend: Backend = BACKEND.field("pytorch")
    device: Accelerator = ACCELERATOR.field("auto")
    n_devices: int | Literal["auto"] = DEVICES.field(1)
    seed: int = SEED.field(42)
    validation_fraction: float = Knob(
        "share of the scan held out, by region; 0 holds out none", unit="fraction", rules=(within(0, 0.5),)
    ).field(0.1)
    probe_learning_rate: float | None = Knob(
        "first learning rate of the probe; none is learning_rate", rules=(above(0),)
    ).field(1e-3)
    probe_autofocus: bool = PROBE_AUTOFOCUS.field(True)
    probe_rounds: int | None = PROBE_ROUNDS.field(None)
    initial_weights: Literal["auto", "generalist", "random"] = Knob(
        "weights that a training starts from: the package's own or random ones; auto takes the package's own where "
        "they fit the network"
    ).field("auto")
    aberration_learning_rate: float = Knob(
        "step of the probe's focus, astigmatism, coma and spherical aberration", unit="rad", rules=(above(0),)
    ).field(5e-3)
    unmerged_weight: float = only_in(
        PATCHWISE,
        "weight of the likelihood of single patches beside that of merged ones",
        at_least(0),
        phase=Phase.TRAINING,
    ).field(0.05)
    draft_weight: float = only_in(
        ("unrolled",),
        "weight of the likelihood after each step of the generator but the last",
        at_least(0),
        phase=Phase.TRAINING,
    ).field(0.0)
    background_counts: float | None = BACKGROUND_COUNTS.field(None)
    beam_search: bool = BEAM_SEARCH.field(True, since=_OFF_BEFORE_2)
    position_refinement: Literal["none", "affine", "each"] = POSITION_REFINEMENT.field("each", since=_NONE_BEFORE_2)
    orientation_search: Literal["auto", "always", "never"] = ORIENTATION_SEARCH.field("auto", since=_NEVER_BEFORE_2)
    probe_search: Literal["auto", "always", "never"] = PROBE_SEARCH.field("auto", since=_NEVER_BEFORE_2)
    flux_search: Literal["auto", "always", "never"] = FLUX_SEARCH.field("auto", since=_NEVER_BEFORE_4)
    blur_search: Literal["auto", "always", "never"] = BLUR_SEARCH.field("auto", since=_NEVER_BEFORE_4)
    probe_modes: int | None = PROBE_MODES.field(None, since=_UNSAID_BEFORE_2)
    training_directories: tuple[Path, ...] = Knob(
        "folders whose scan files are trained on together with train_data_file, each under a probe of its own",
        phase=Phase.TRAINING,
    ).field(())
    framework: Literal["Default", "Lightning"] = _fixed("training loop", _LIGHTNING).field("Lightning")
    orchestrator: Literal["Mlflow", "Lightning"] = _fixed("who starts the loop", _LIGHTNING).field("Lightning")
    epochs_fine_tune: int = _fixed("epochs of fine tuning", _ONE_STAGE, at_least(0)).field(0)
    fine_tune_gamma: float = _fixed("learning rate factor of fine tuning", _ONE_STAGE, above(0)).field(0.1)
    log_grad_norm: bool = Knob("log the norm of the gradient").field(False)
    grad_norm_log_freq: int = Knob("steps between logged gradient norms", rules=(above(0),)).field(1)
    stage_1_epochs: int = _fixed("epochs of the first stage", _ONE_STAGE, at_least(0)).field(0)
    stage_2_epochs: int = _fixed("epochs of the second stage", _ONE_STAGE, at_least(0)).field(0)
    stage_3_epochs: int = _fixed("epochs of the third stage", _ONE_STAGE, at_least(0)).field(0)
    physics_weight_schedule: str = _fixed("course of the likelihood's weight", _ONE_STAGE).field("cosine")
    stage_3_lr_factor: float = _fixed("learning rate factor of the third stage", _ONE_STAGE, above(0)).field(0.1)
    experiment_name: str = Knob("experiment in the log", effect=Effect.RECORD).field("Synthetic_Runs")
    notes: str = Knob("free text", effect=Effect.RECORD).field("")
    model_name: str = Knob("name of the model", effect=Effect.RECORD).field("PtychoPINNv2")

    def _contradictions(self) -> Iterator[Problem]:
        if self.nll != (self.nll_weight > 0):
            yield Problem(
                path="nll", expected=f"{self.nll_weight > 0}, as nll_weight={self.nll_weight} says", found=str(self.nll)
            )


@attrs.frozen(kw_only=True, slots=False)
class TorchInferenceConfig(Evaluation, Sampling):
    """A reconstruction with the PyTorch backend.

    Raises:
        ConfigError: a field is not valid; every such field is listed.
    """

    batch_size: int | None = INFERENCE_BATCH_SIZE.field(None)
    model_path: Path | None = MODEL_PATH.field(None)
    test_data_file: Path | None = TEST_DATA_FILE.field(None)
    output_dir: Path = OUTPUT_DIR.field(Path("inference_outputs"))
    n_groups: int | None = N_GROUPS.field(None)
    debug: bool = DEBUG.field(False)
    backend: Backend = BACKEND.field("pytorch")
    seed: int = SEED.field(42)
    probe_source: Literal["auto", "model", "scan"] = Knob(
        "probe of the reconstruction: the trained one, the scan's own, or the better fitting one",
        phase=Phase.RECONSTRUCTION,
    ).field("auto")
    probe_rounds: int | None = PROBE_ROUNDS.field(None)
    probe_autofocus: bool = PROBE_AUTOFOCUS.field(True, since=_OF_TRAINING_BEFORE_2)
    background_counts: float | None = BACKGROUND_COUNTS.field(None, since=_OF_TRAINING_BEFORE_2)
    beam_search: bool = BEAM_SEARCH.field(True, since=_OFF_BEFORE_2)
    position_refinement: Literal["none", "affine", "each"] = POSITION_REFINEMENT.field("each", since=_NONE_BEFORE_2)
    orientation_search: Literal["auto", "always", "never"] = ORIENTATION_SEARCH.field("auto", since=_NEVER_BEFORE_2)
    probe_search: Literal["auto", "always", "never"] = PROBE_SEARCH.field("auto", since=_NEVER_BEFORE_2)
    flux_search: Literal["auto", "always", "never"] = FLUX_SEARCH.field("auto", since=_NEVER_BEFORE_4)
    blur_search: Literal["auto", "always", "never"] = BLUR_SEARCH.field("auto", since=_NEVER_BEFORE_4)
    probe_modes: int | None = PROBE_MODES.field(None, since=_UNSAID_BEFORE_2)
    finish: int | Literal["auto", "none"] = Knob(
        "steps from the network's object to the most likely one under the counts; auto makes them as long as pixels "
        "left out of the fit agree",
        rules=(above(0),),
        phase=Phase.RECONSTRUCTION,
    ).field("none", since=_NONE_BEFORE_2)
    error_bars: bool = Knob(
        "standard deviations of phase and amplitude of each pixel that a finish came to, given the probe",
        phase=Phase.RECONSTRUCTION,
    ).field(False, since=_OFF_BEFORE_2)
    error_bars_check: bool = Knob(
        "error bars held against how far two independent halves of the counts lead apart; takes two finishes more",
        phase=Phase.RECONSTRUCTION,
    ).field(False, since=_OFF_BEFORE_3)
    experiment_number: int = _fixed("scan of a folder", "a reconstruction reads one scan", at_least(0)).field(0)
    window: int = _fixed("border left out of figures", "figures use the covered area", at_least(0)).field(20)
    patch_weighting: Literal["uniform", "probe"] = only_in(
        PATCHWISE, "weight of overlapping patches", phase=Phase.RECONSTRUCTION
    ).field("probe")
    varpro_scaling: bool = _fixed("rescale the object to the counts", _FLUX_IN_PROBE).field(False)
    log_patch_stats: bool = _fixed("write patch statistics", _NO_STATISTICS).field(False)
    patch_stats_limit: int | None = _fixed("patches in the statistics", _NO_STATISTICS, above(0)).field(None)

    def _contradictions(self) -> Iterator[Problem]:
        if self.error_bars and self.finish == "none":
            yield Problem(
                path="error_bars",
                expected="False, as finish='none' says: error bars belong to a finish",
                found="True",
                fix="set finish to 'auto' or a number of steps",
            )
        if self.error_bars_check and not self.error_bars:
            yield Problem(
                path="error_bars_check",
                expected="False, as error_bars=False says: there are none to check",
                found="True",
                fix="set error_bars to True",
            )
