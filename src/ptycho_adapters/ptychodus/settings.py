"""From the client's settings to those of a training.

What the client's windows show and a run here can do is taken as it stands there. What the client always sends and no
run here does is without effect as long as it has the client's default, and refused by name once somebody changed it.
Learning rate and its course at the client's default are those of this library: the client's are meant for random
weights and spoil the ones in the package. The client keeps probe and positions as it has them, so none of them is moved
unless the probe is asked to be trained.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from ptycho_core.config.backend_limits import LIMITS
from ptycho_core.config.table import TRAINING
from ptycho_core.config.types import shown
from ptycho_core.errors import ConfigError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ptycho_adapters.ptychodus import tensorflow_configs, torch_configs

UNATTENDED: Final[Mapping[str, object]] = MappingProxyType(
    {
        "enable_progress_bar": False,
        "logger_backend": None,
        "position_refinement": "none",
        "orientation_search": "never",
        "probe_search": "never",
    }
)
"""Settings of every training for the client: nobody looks at its terminal, and positions are the client's to move."""

_PATHS = frozenset({"train_data_file", "test_data_file", "output_dir"})
_HONOURED: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "DataConfig": MappingProxyType({"N": "N", "K": "neighbor_count", "probe_scale": "probe_scale"}),
        "ModelConfig": MappingProxyType(
            {
                "mode": "mode",
                "object_big": "object_big",
                "probe_big": "probe_big",
                "loss_function": "loss_function",
                "amp_activation": "amp_activation",
                "intensity_scale_trainable": "intensity_scale_trainable",
                "n_filters_scale": "n_filters_scale",
            }
        ),
        "TrainingConfig": MappingProxyType(
            {
                "epochs": "nepochs",
                "batch_size": "batch_size",
                "n_devices": "devices",
                "accum_steps": "accum_steps",
                "gradient_clip_val": "gradient_clip_val",
                "warmup_epochs": "lr_warmup_epochs",
                "min_lr_ratio": "lr_min_ratio",
                "notes": "notes",
                "model_name": "model_name",
            }
        ),
        "InferenceConfig": MappingProxyType({}),
    }
)
_OWN_UNLESS_CHANGED = ("learning_rate", "scheduler")
_HANDLED = frozenset(
    {*_OWN_UNLESS_CHANGED, "C", "grid_size", "C_model", "C_forward", "device", "nll", "finetune_val_split"}
)
WITHOUT_EFFECT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "num_workers": "the patterns are on the device",
        "strategy": "one device needs none; several take the one that is set",
        "decoder_last_amp_channels": "the network has no such layer; the client makes it follow num_channels",
        "batch_size": "a reconstruction takes as many patterns at a time as fit",
        "finetune_stage1_epochs": "read with enable_staged_finetuning alone",
        "finetune_stage2_epochs": "read with enable_staged_finetuning alone",
        "finetune_stage3_epochs": "read with enable_staged_finetuning alone",
        "finetune_stage1_lr_decoder": "read with enable_staged_finetuning alone",
        "finetune_stage2_lr_encoder_top": "read with enable_staged_finetuning alone",
        "finetune_stage2_lr_decoder": "read with enable_staged_finetuning alone",
        "finetune_stage2_lr_phase_head": "read with enable_staged_finetuning alone",
        "finetune_stage3_lr_encoder_bottom": "read with enable_staged_finetuning alone",
        "finetune_stage3_lr_encoder_top": "read with enable_staged_finetuning alone",
        "finetune_stage3_lr_decoder": "read with enable_staged_finetuning alone",
        "finetune_stage3_lr_phase_head": "read with enable_staged_finetuning alone",
        "finetune_skip_stage3": "read with enable_staged_finetuning alone",
        "finetune_early_stop_patience": "read with enable_staged_finetuning alone",
    }
)
"""Settings of PtychoPINN-Torch that change nothing here, whatever their value, with the reason."""

_SCHEDULERS = MappingProxyType({"Cosine": "WarmupCosine"})
_DEVICES = MappingProxyType({"cuda": "auto", "gpu": "auto"})
_NO_SUCH_THING = MappingProxyType(
    {
        "probe_ramp_removal": "no ramp is removed from the probe: the client keeps its own",
        "probe_reference_coeff": "the probe is not drawn towards the one it started from",
        "amplitude_variance_loss": "the likelihood is the whole loss",
        "amplitude_variance_coeff": "the likelihood is the whole loss",
        "enable_staged_finetuning": "a training has one stage, from the weights in the package",
    }
)


def tensorflow_settings(config: tensorflow_configs.TrainingConfig) -> dict[str, object]:
    """Give the settings of a training that the client's PtychoPINN library asks for, by canonical name."""
    own = attrs.asdict(config, recurse=False, filter=lambda field, _: field.name not in {*_PATHS, "model"})
    return {**UNATTENDED, **attrs.asdict(config.model), **own}


def as_tensorflow_takes_them(settings: Mapping[str, object]) -> tuple[dict[str, object], dict[str, str]]:
    """Give the settings of a training without what TensorFlow does its own way, and what it cannot do, with the reason.

    The client asks for a trainable intensity scale unless somebody says otherwise; the measured flux is taken then.
    """
    own = dict(settings)
    if own.get("intensity_scale_trainable") is True:
        del own["intensity_scale_trainable"]
    limits = LIMITS["tensorflow"]
    beyond = {
        name: limits[name].why for name, value in own.items() if name in limits and not limits[name].honours(value)
    }
    return own, beyond


def torch_settings(
    data: torch_configs.DataConfig,
    model: torch_configs.ModelConfig,
    training: torch_configs.TrainingConfig,
    inference: torch_configs.InferenceConfig,
) -> dict[str, object]:
    """Give the settings of a training that the client's PtychoPINN-Torch library asks for, by canonical name.

    Raises:
        ConfigError: somebody changed a setting that no run here honours; all of them at once, with the reason.
    """
    problems = [
        *_channel_problems(data, model),
        *(p for each in (data, model, training, inference) for p in _asked(each)),
    ]
    raise_if_any(ConfigError, "settings of PtychoPINN-Torch", problems)
    said: dict[str, object] = {**UNATTENDED, "probe_trainable": False, "gridsize": data.grid_size[0]}
    for record in (data, model, training):
        names = _HONOURED[type(record).__name__]
        said |= {key: getattr(record, name) for name, key in names.items()}
    said |= _course_of_learning(training)
    said["accelerator"] = _DEVICES.get(training.device, training.device)
    said["strategy"] = "auto" if training.n_devices == 1 else training.strategy
    if training.finetune_val_split != type(training)().finetune_val_split:
        said["validation_fraction"] = training.finetune_val_split
    if not training.nll:
        said |= {"nll_weight": 0.0, "mae_weight": 1.0, "loss_function": "MAE"}
    return said


def _course_of_learning(training: torch_configs.TrainingConfig) -> dict[str, object]:
    """Give learning rate and scheduler where somebody changed them."""
    default = type(training)()
    said = {name: getattr(training, name) for name in _OWN_UNLESS_CHANGED}
    changed = {name: value for name, value in said.items() if value != getattr(default, name)}
    return {name: _SCHEDULERS.get(value, value) for name, value in changed.items()}


def _asked(record: attrs.AttrsInstance) -> Iterator[Problem]:
    """Name what was changed in vain."""
    owner = type(record).__name__
    left = {*_HONOURED[owner], *_HANDLED}
    for field in attrs.fields(type(record)):
        value = getattr(record, field.name)
        idle = field.name in WITHOUT_EFFECT and not (owner == "TrainingConfig" and field.name == "batch_size")
        if field.name in left or idle or value == field.default:
            continue
        info = TRAINING[_key(field.name)] if _key(field.name) in TRAINING.names.values() else None
        if info is not None and value in info.honoured:
            continue
        why = _NO_SUCH_THING.get(field.name) or ("" if info is None else info.knob.why) or "no run here does that"
        yield Problem(
            path=f"{owner}.{field.name}",
            expected=f"{shown(field.default)}, the client's default",
            found=shown(value),
            fix=f"no run here can honour this: {why}",
        )


def _key(name: str) -> str:
    """Give the key of a setting that the client calls by the name of a torch-side field."""
    return "coordinate_subsampling" if name == "n_subsample" else TRAINING.names.get(name, name)


def _channel_problems(data: torch_configs.DataConfig, model: torch_configs.ModelConfig) -> Iterator[Problem]:
    rows, columns = data.grid_size
    if rows != columns or rows < 1:
        yield Problem(path="DataConfig.grid_size", expected="as many rows as columns", found=f"{rows} x {columns}")
        return
    channels = {"DataConfig.C": data.C, "ModelConfig.C_model": model.C_model, "ModelConfig.C_forward": model.C_forward}
    for path, value in channels.items():
        if value != rows * columns:
            yield Problem(
                path=path,
                expected=f"{rows * columns}, the patterns of a group of {rows} x {columns}",
                found=str(value),
                fix="set num_channels to grid_size_y times grid_size_x",
            )
