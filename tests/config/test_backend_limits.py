"""What each backend honours: the table of settings, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ptycho_core.config import (
    DataConfig,
    PyTorchExecutionConfig,
    TorchInferenceConfig,
    TorchModelConfig,
    TorchTrainingConfig,
)
from ptycho_core.config.backend_limits import LIMITS, Limit, beyond_records
from ptycho_core.config.backend_table import backend_table
from ptycho_core.config.overrides import Layer
from ptycho_core.config.payload import (
    ArchiveFacts,
    InferenceFacts,
    InferencePayload,
    ScanFacts,
    TrainingPayload,
    resolve_inference,
    resolve_training,
)
from ptycho_core.config.table import ALL, INFERENCE, OF_ARCHIVE, TRAINING
from ptycho_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ptycho_core.config.record import Record

SCAN = ScanFacts(path=Path("scan.npz"), N=64, n_patterns=500)
PAGE = Path(__file__).parents[2] / "docs" / "backends.md"
BEYOND: dict[str, object] = {
    "architecture": "unet",
    "model_type": "supervised",
    "probe_trainable": True,
    "probe_learning_rate": 0.5,
    "aberration_learning_rate": 0.5,
    "probe_rounds": 3,
    "probe_autofocus": True,
    "probe_search": "auto",
    "probe_mask": True,
    "probe_mask_sigma": 2.0,
    "probe_mask_diameter": 20.0,
    "probe_modes": 2,
    "position_refinement": "each",
    "finish": 3,
    "orientation_search": "auto",
    "flux_search": "auto",
    "blur_search": "auto",
    "background_counts": None,
    "intensity_scale_trainable": True,
    "training_directories": (Path("more"),),
    "accelerator": "mps",
    "devices": 2,
    "strategy": "ddp",
    "precision": "bf16-mixed",
    "deterministic": "warn",
    "accum_steps": 2,
    "num_workers": 2,
    "pin_memory": True,
    "logger_backend": "csv",
    "log_grad_norm": True,
    "grad_norm_log_freq": 2,
}
CALLED_WITH = (DataConfig, TorchModelConfig, TorchTrainingConfig, TorchInferenceConfig, PyTorchExecutionConfig)
EXPLICIT = {info.key: Layer.EXPLICIT for info in ALL}
DEFAULTS = {info.key: Layer.CANONICAL_DEFAULT for info in ALL}
# These are wrong without loader processes or a finish, or need an array.
NEED_COMPANY = {"persistent_workers", "prefetch_factor", "probe_mask_tensor", "error_bars", "error_bars_check"}


def trained(**settings: object) -> TrainingPayload:
    return resolve_training(SCAN, {"n_groups": 4, "architecture": "cnn", **settings}, output_dir=Path("out"))


def inferred(**settings: object) -> InferencePayload:
    facts = InferenceFacts(scan=SCAN, archive=ArchiveFacts(path=Path("model"), training=trained()))
    return resolve_inference(facts, {"n_groups": 4, **settings}, output_dir=Path("out"))


def test_every_limit_has_a_value_beyond_it() -> None:
    """So that no cell of the table goes unproved, and no limit is about nothing."""
    assert {*BEYOND} | NEED_COMPANY == {*LIMITS["tensorflow"]}
    assert LIMITS["pytorch"] == {}
    assert {*LIMITS["tensorflow"]} <= {info.key for info in ALL}


@pytest.mark.parametrize("key", sorted(BEYOND))
def test_a_value_beyond_the_limit_is_refused_by_name_with_the_reason(key: str) -> None:
    """In whatever kind of run reads it; and the other backend takes it."""
    limit, value = LIMITS["tensorflow"][key], BEYOND[key]
    makers = [
        make for make, table in ((trained, TRAINING), (inferred, INFERENCE)) if key in table and table.reads(table[key])
    ]
    assert makers
    for make in makers:
        if make is inferred and key in OF_ARCHIVE:
            continue  # held against the archive
        make(backend="pytorch", **{key: value})
        with pytest.raises(ConfigError, match=rf"\.{key}: .*backend tensorflow cannot honour it: ") as caught:
            make(backend="tensorflow", **{key: value})
        assert limit.why in str(caught.value)


def test_error_bars_are_refused_by_name_where_no_finish_is_made() -> None:
    """Beside the finish that they need; the other backend takes both."""
    inferred(backend="pytorch", finish=3, error_bars=True)
    with pytest.raises(ConfigError, match=r"\.error_bars: .*backend tensorflow cannot honour it: "):
        inferred(backend="tensorflow", finish=3, error_bars=True)


@pytest.mark.parametrize("make", [trained, inferred])
def test_what_nobody_chose_is_as_the_backend_can(make: object) -> None:
    """A run that asks for TensorFlow and nothing else can be planned, and says what it will not do."""
    payload = trained(backend="tensorflow") if make is trained else inferred(backend="tensorflow")

    assert payload.pt_inference_config.probe_rounds == 0
    assert payload.pt_inference_config.background_counts == 0.0
    assert payload.provenance["probe_rounds"] is Layer.BACKEND
    assert payload.provenance["probe_rounds"].default
    assert "probe_rounds" not in payload.overrides_applied


def test_a_chosen_value_within_the_limit_stays() -> None:
    """A number of background counts is honoured, whatever it is."""
    assert inferred(backend="tensorflow", background_counts=0.3).pt_inference_config.background_counts == 0.3


def test_a_limit_tells_true_from_one() -> None:
    """Equal values of different types are different values."""
    limit = Limit(only=(1,), why="")

    assert (limit.honours(1), limit.honours(True)) == (True, False)


def test_the_page_is_the_table() -> None:
    """`python -m ptycho_core.config.backend_table` writes it."""
    assert backend_table() in PAGE.read_text()


def test_the_table_has_a_row_for_every_setting() -> None:
    """And says of each what either backend does with it."""
    rows = [line for line in backend_table().splitlines() if line.startswith("| `")]

    assert [row.split("`")[1] for row in rows] == sorted(info.key for info in ALL)
    assert all(len(row.split(" | ")) == 3 for row in rows)


@pytest.mark.parametrize("key", sorted(BEYOND))
def test_records_that_a_run_is_called_with_are_held_to_the_same_table(key: str) -> None:
    """What somebody chose is refused, by where it came from or by being no default; a default gives way."""
    reading = [table for table in (INFERENCE, TRAINING) if key in table and table.reads(table[key])]
    assert reading
    pairs = [(table, owner) for table in reading for owner in table[key].owners if owner.record in CALLED_WITH]
    for table, owner in pairs:
        make: Callable[..., Record] = owner.record  # any setting may be given
        record = make(**{owner.attribute: owner.codec.encode(BEYOND[key])})
        chosen = list(beyond_records("tensorflow", [record], table, EXPLICIT))
        alone = list(beyond_records("tensorflow", [record], table))
        unread = list(beyond_records("tensorflow", [record], table, DEFAULTS))
        elsewhere = list(beyond_records("pytorch", [record], table, EXPLICIT))

        path = f"{owner.record.__name__}.{key}"
        assert path in [problem.path for problem in chosen]
        assert [problem.path for problem in alone] == ([] if BEYOND[key] == table[key].default else [path])
        assert unread == elsewhere == []
