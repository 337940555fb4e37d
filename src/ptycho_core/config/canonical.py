"""The canonical records: one vocabulary for every backend."""

# Annotations are read at run time to check values, so they are not postponed here. A knob's field is a declaration,
# not a shared default (RUF009), and its argument is the default itself (FBT003).
# ruff: noqa: RUF009, FBT003
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import attrs

from ptycho_core.callers import warn_caller
from ptycho_core.config.frame_sides import side_problems
from ptycho_core.config.record import Record
from ptycho_core.config.shared import (
    ACTIVATION,
    BACKEND,
    CANONICAL_ACTIVATION,
    CANONICAL_MODE,
    DEBUG,
    GRIDSIZE,
    INTENSITY_SCALE_TRAINABLE,
    MODEL_PATH,
    MODEL_TYPE,
    N_GROUPS,
    NEIGHBOR_COUNT,
    NEPOCHS,
    NLL_WEIGHT,
    OUTPUT_DIR,
    TEST_DATA_FILE,
    Backend,
    Dose,
    Draw,
    Frame,
    Network,
    Optimisation,
    Sampling,
)
from ptycho_core.errors import Problem

ModelType = Literal["pinn", "supervised"]
Activation = Literal["sigmoid", "swish", "softplus", "relu"]
DEFAULT_N_GROUPS = 512


@attrs.frozen(kw_only=True, slots=False)
class ModelConfig(Frame, Network):
    """What the model is.

    Raises:
        ConfigError: a field is not valid; every such field is listed.
    """

    gridsize: int = GRIDSIZE.field(1)
    model_type: ModelType = MODEL_TYPE.field("pinn", codec=CANONICAL_MODE)
    amp_activation: Activation = ACTIVATION.field("sigmoid", codec=CANONICAL_ACTIVATION)

    @property
    def C(self) -> int:  # noqa: N802 - the field's own name
        """Patterns per group."""
        return self.gridsize**2

    def _contradictions(self) -> Iterator[Problem]:
        yield from side_problems(self.architecture, self.N)


@attrs.frozen(kw_only=True, slots=False)
class _Counted(Record):
    """Accepts the deprecated `n_images` for `n_groups` and forgets it once it has been read."""

    n_images: int | None = None

    def _contradictions(self) -> Iterator[Problem]:
        n_groups = getattr(self, "n_groups")  # noqa: B009 - the subclasses declare it
        if self.n_images is not None and self.n_images != n_groups:
            yield Problem(
                path="n_images", expected=f"the same as n_groups, {n_groups}", found=str(self.n_images), fix="drop it"
            )

    def _consequences(self) -> Mapping[str, object]:
        if self.n_images is None:
            return {}
        warn_caller("n_images is deprecated, use n_groups", DeprecationWarning)
        return {"n_images": None}


def _training_groups(record: _Counted) -> int:
    return DEFAULT_N_GROUPS if record.n_images is None else record.n_images


def _inference_groups(record: _Counted) -> int | None:
    return record.n_images


@attrs.frozen(kw_only=True, slots=False)
class TrainingConfig(_Counted, Optimisation, Sampling, Dose, Draw):
    """A training, for any backend.

    Raises:
        ConfigError: a field is not valid; every such field is listed.
    """

    model: ModelConfig
    nepochs: int = NEPOCHS.field(50)
    nll_weight: float = NLL_WEIGHT.field(1.0)
    n_groups: int = attrs.field(
        default=attrs.Factory(_training_groups, takes_self=True),
        metadata=N_GROUPS.metadata(),
    )
    neighbor_count: int = NEIGHBOR_COUNT.field(4)
    intensity_scale_trainable: bool = INTENSITY_SCALE_TRAINABLE.field(True)
    backend: Backend = BACKEND.field("tensorflow")


@attrs.frozen(kw_only=True, slots=False)
class InferenceConfig(_Counted, Sampling, Draw):
    """A reconstruction with a trained model, for any backend.

    Raises:
        ConfigError: a field is not valid; every such field is listed.
    """

    model: ModelConfig
    model_path: Path = attrs.field(metadata=MODEL_PATH.metadata())
    test_data_file: Path = attrs.field(metadata=TEST_DATA_FILE.metadata())
    n_groups: int | None = attrs.field(
        default=attrs.Factory(_inference_groups, takes_self=True), metadata=N_GROUPS.metadata()
    )
    neighbor_count: int = NEIGHBOR_COUNT.field(4)
    debug: bool = DEBUG.field(False)
    output_dir: Path = OUTPUT_DIR.field(Path("inference_outputs"))
    backend: Backend = BACKEND.field("tensorflow")
