"""Every setting that TensorFlow is said to honour is shown to change a run of it: the page against the tests."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from ptycho_core.config.backend_limits import LIMITS
from ptycho_core.config.knob import Effect
from ptycho_core.config.table import INFERENCE, OF_ARCHIVE, TRAINING, FieldInfo, fields

TESTS = Path(__file__).parents[1]
OURS = "tensorflow_backend/"
SHOWN: dict[str, tuple[str, ...]] = {
    "test_knobs.py::test_the_setting_changes_what_the_network_is_given": (
        "gridsize",
        "n_groups",
        "seed",
        "subsample_seed",
        "n_subsample",
        "neighbor_count",
        "sequential_sampling",
        "batch_size",
        "validation_fraction",
        "enable_oversampling",
        "neighbor_pool_size",
        "nepochs",
        "learning_rate",
        "scheduler",
        "lr_min_ratio",
        "lr_warmup_epochs",
        "plateau_patience",
        "plateau_factor",
        "plateau_min_lr",
        "plateau_threshold",
        "background_counts",
        "unrolled_steps",
        "unrolled_repeats",
        "n_filters_scale",
        "initial_weights",
    ),
    "test_knobs_steps.py::test_every_setting_changes_the_steps": (
        "optimizer",
        "weight_decay",
        "adam_beta1",
        "adam_beta2",
        "mae_weight",
        "torch_loss_mode",
        "draft_weight",
        "momentum",
        "nll_weight",
        "gradient_clip_val",
        "gradient_clip_algorithm",
        "torch_mae_pred_l2_match_target",
        "unmerged_weight",
        "realspace_weight",
        "realspace_mae_weight",
        "cnn_output_mode",
        "cbam_encoder",
        "amp_activation",
    ),
    "test_knobs.py::test_a_beam_off_the_middle_is_brought_back_if_asked": ("beam_search",),
    "test_knobs.py::test_another_scan_can_be_the_validation": ("test_data_file",),
    "test_knobs.py::test_patterns_of_another_size_are_refused": ("N",),
    "test_knobs.py::test_the_network_is_the_one_asked_for": ("architecture",),
    "test_knobs.py::test_a_time_limit_ends_the_run_cleanly": ("max_time",),
    "test_knobs.py::test_the_bar_is_shown_on_standard_error_alone": ("enable_progress_bar",),
    "test_knobs.py::test_a_missing_accelerator_is_refused": ("accelerator",),
    "test_knobs.py::test_the_accelerator_is_the_one_asked_for": ("accelerator",),
    "test_knobs.py::test_determinism_is_switched_on_if_asked": ("deterministic",),
    "test_knobs.py::test_another_number_of_threads_than_the_process_has_is_refused": ("num_threads",),
    "test_checkpoints.py::test_a_run_is_taken_up_where_it_stopped": ("resume",),
    "test_survival.py::test_a_killed_run_goes_on_as_if_nothing_had_happened": ("resume", "checkpoint_every_s"),
    "test_checkpoints.py::test_checkpoints_are_written_when_asked_for": ("enable_checkpointing", "output_dir"),
    "test_checkpoints.py::test_the_best_checkpoints_are_kept": ("checkpoint_save_top_k",),
    "test_checkpoints.py::test_checkpoints_are_ranked_by_the_metric_asked_for": ("checkpoint_monitor_metric",),
    "test_checkpoints.py::test_the_mode_says_which_end_is_good": ("checkpoint_mode",),
    "test_checkpoints.py::test_a_training_ends_early_without_progress": ("early_stop_patience",),
    "test_runs.py::test_the_command_line_trains_and_reconstructs": ("backend", "train_data_file"),
}
RECONSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "test_knobs.py::test_fewer_patterns_can_be_used": ("n_subsample", "n_groups", "seed", "subsample_seed"),
    "test_knobs.py::test_probe_and_background_are_those_asked_for": ("probe_source", "background_counts"),
    "test_knobs.py::test_a_moved_beam_is_found_if_asked": ("beam_search",),
    "test_knobs.py::test_batches_have_the_size_asked_for": ("inference_batch_size",),
    "test_knobs.py::test_weights_are_the_light_or_even": ("patch_weighting",),
    "test_knobs.py::test_the_bar_is_shown_on_standard_error_alone": ("enable_progress_bar",),
    "test_knobs.py::test_a_missing_accelerator_is_refused": ("accelerator",),
    "test_knobs.py::test_another_number_of_threads_than_the_process_has_is_refused": ("num_threads",),
    "test_runs.py::test_neither_road_imports_the_other_framework": ("backend",),
    "test_runs.py::test_the_command_line_trains_and_reconstructs": ("test_data_file", "output_dir", "model_path"),
}


def _honoured() -> list[FieldInfo]:
    """Settings that a user can choose between values of which TensorFlow honours more than one in its own way."""
    limits = LIMITS["tensorflow"]
    chosen = [i for i in fields() if i.effect is Effect.RUN or len(i.honoured) > 1 or i.knob.part_of]
    networks = limits["architecture"]
    built = [i for i in chosen if not i.knob.part_of or any(networks.honours(name) for name in i.knob.part_of)]
    # A default, and what means the same.
    return [
        i for i in built if i.key not in limits or (len(limits[i.key].only) != 1 and None not in limits[i.key].only)
    ]


@cache
def _tests_in(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / OURS / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("info", _honoured(), ids=lambda info: info.key)
def test_what_tensorflow_honours_is_shown_in_every_kind_of_run_that_reads_it(info: FieldInfo) -> None:
    """A setting that a training reads changes one, and so with a reconstruction; what comes with a model is apart."""
    if info.key in TRAINING and TRAINING.reads(info):
        assert any(info.key in keys for keys in SHOWN.values())
    if info.key in INFERENCE and INFERENCE.reads(info) and info.key not in OF_ARCHIVE:
        assert any(info.key in keys for keys in RECONSTRUCTIONS.values())


@pytest.mark.parametrize("name", sorted({*SHOWN, *RECONSTRUCTIONS}))
def test_the_showing_tests_exist(name: str) -> None:
    """They stand where they are said to stand, and show settings that TensorFlow honours."""
    file, test = name.split("::")

    assert test in _tests_in(file)
    assert {*SHOWN.get(name, ()), *RECONSTRUCTIONS.get(name, ())} <= {info.key for info in _honoured()}
