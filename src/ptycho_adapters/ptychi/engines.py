"""Settings of a refinement and the options of pty-chi that they become, name by name (docs/refine.md)."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

import attrs

from ptycho_core.errors import ConfigError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType, SimpleNamespace

MOST_MODES = 7


class Engine(StrEnum):
    """Algorithms of pty-chi."""

    LSQML = "lsqml"
    RPIE = "rpie"
    EPIE = "epie"
    DM = "dm"
    AUTODIFF = "autodiff"


_OPTIONS: Mapping[Engine, str] = MappingProxyType(
    {
        Engine.LSQML: "LSQMLOptions",
        Engine.RPIE: "RPIEOptions",
        Engine.EPIE: "EPIEOptions",
        Engine.DM: "DMOptions",
        Engine.AUTODIFF: "AutodiffPtychographyOptions",
    }
)
_RPIE_ALPHA, _RPIE_STEP = 0.5, 0.3  # at its own 0.1 and 1 it diverges where many patterns overlap
_POSITION_STEP, _POSITION_LIMIT_PX = 3.0, 1.0  # at its own 0.3 and 0.1 a pixel takes hundreds of epochs
_ADAM_OBJECT, _ADAM_PROBE, _ADAM_POSITIONS_PX = 0.02, 0.02, 0.05


@attrs.frozen(kw_only=True)
class RefineSettings:
    """How pty-chi runs.

    Attributes:
        engine: its algorithm.
        batch_size: patterns per update; `dm` updates by all patterns and takes as many at a time.
        position_refinement: move the positions too, after `quiet_epochs`.
        quiet_epochs: in which object and probe settle before the positions are moved.
        refine_probe: update the probe too.
        probe_modes: incoherent modes, 1 to 7; those beyond the probe's own start as its derivatives, with little light;
            None for as many as it has.
        noise_model: likelihood of the counts, for `lsqml`.
        rescale_probe: whether `lsqml` spends its first epoch on bringing the probe to the light that was measured, None
            for where the start is cold.
        seed: order of the patterns.

    Raises:
        ConfigError: with every problem there is.
    """

    engine: Engine = attrs.field(default=Engine.LSQML, converter=Engine)
    batch_size: int = 50
    position_refinement: bool = False
    quiet_epochs: int = 10
    refine_probe: bool = True
    probe_modes: int | None = None
    noise_model: Literal["gaussian", "poisson"] = "gaussian"
    rescale_probe: bool | None = None
    seed: int = 0

    def __attrs_post_init__(self) -> None:
        raise_if_any(ConfigError, "these settings cannot be used", _problems(self))


def _problems(settings: RefineSettings) -> Iterator[Problem]:
    if settings.batch_size < 1:
        yield Problem(path="batch_size", expected="a whole number >= 1", found=str(settings.batch_size))
    if settings.quiet_epochs < 0:
        yield Problem(path="quiet_epochs", expected="a whole number >= 0", found=str(settings.quiet_epochs))
    if settings.probe_modes is not None and not 1 <= settings.probe_modes <= MOST_MODES:
        expected = f"a whole number from 1 to {MOST_MODES}"
        yield Problem(path="probe_modes", expected=expected, found=str(settings.probe_modes))


class TaskOptions(Protocol):
    """Options of a task of pty-chi."""

    data_options: SimpleNamespace
    reconstructor_options: SimpleNamespace
    object_options: SimpleNamespace
    probe_options: SimpleNamespace
    probe_position_options: SimpleNamespace


def task_options(api: ModuleType, settings: RefineSettings, *, cold: bool, size: int, probe_rms: float) -> TaskOptions:
    """Give the options of pty-chi.

    Args:
        api: the module `ptychi.api`.
        settings: what is asked for.
        cold: whether the start is a flat object.
        size: side of a pattern in pixels.
        probe_rms: root mean square of the probe's modulus, which sets the step of `autodiff` on it.
    """
    options: TaskOptions = getattr(api, _OPTIONS[settings.engine])()
    options.data_options.fft_shift = False  # it would be one pixel off where N is odd
    _set_reconstructor(api, options, settings, cold=cold)
    options.probe_options.optimizable = settings.refine_probe
    positions = options.probe_position_options
    positions.optimizable = settings.position_refinement
    positions.optimization_plan.start = settings.quiet_epochs
    object_ = options.object_options
    object_.patch_interpolation_method = api.PatchInterpolationMethods.FOURIER
    # The probe owns the scale here: moving light between probe and object would take it away.
    object_.remove_object_probe_ambiguity.enabled = False
    object_.determine_position_origin_coords_by = api.ObjectPosOriginCoordsMethods.SPECIFIED
    object_.position_origin_coords = [(size - 1) / 2] * 2
    _set_steps(api, options, settings.engine, probe_rms)
    return options


def _set_reconstructor(api: ModuleType, options: TaskOptions, settings: RefineSettings, *, cold: bool) -> None:
    reconstructor = options.reconstructor_options
    reconstructor.default_device = api.Devices.CPU
    reconstructor.batch_size = settings.batch_size
    reconstructor.batching_mode = api.BatchingModes.RANDOM
    reconstructor.allow_nondeterministic_algorithms = False
    reconstructor.random_seed = settings.seed
    if settings.engine is Engine.LSQML:
        reconstructor.noise_model = api.NoiseModels(settings.noise_model)
        rescale = cold if settings.rescale_probe is None else settings.rescale_probe
        reconstructor.rescale_probe_intensity_in_first_epoch = rescale
    if settings.engine is Engine.DM:
        reconstructor.chunk_length = settings.batch_size


def _set_steps(api: ModuleType, options: TaskOptions, engine: Engine, probe_rms: float) -> None:
    object_, probe, positions = options.object_options, options.probe_options, options.probe_position_options
    positions.step_size, positions.correction_options.update_magnitude_limit = _POSITION_STEP, _POSITION_LIMIT_PX
    if engine is Engine.RPIE:
        for each in (object_, probe):
            each.alpha, each.step_size = _RPIE_ALPHA, _RPIE_STEP
    if engine is Engine.AUTODIFF:
        steps = (_ADAM_OBJECT, _ADAM_PROBE * probe_rms, _ADAM_POSITIONS_PX)
        for each, step in zip((object_, probe, positions), steps, strict=True):
            each.optimizer, each.step_size = api.Optimizers.ADAM, step
