"""Every setting that changes a run is shown to do so: the table of settings against the tests that show it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from ptycho_core.config.knob import Effect
from ptycho_core.config.table import INFERENCE, OF_ARCHIVE, TRAINING, FieldInfo, fields

TESTS = Path(__file__).parents[1]

SHOWN: dict[str, tuple[str, ...]] = {
    "test_run.py::test_a_training_gives_its_model": ("backend",),
    "test_run.py::test_a_reconstruction_gives_amplitude_and_phase": ("backend",),
    "torch_backend/test_knobs_optimisation.py::test_the_setting_changes_the_training": (
        "learning_rate",
        "optimizer",
        "weight_decay",
        "adam_beta1",
        "adam_beta2",
        "gradient_clip_val",
        "accum_steps",
        "scheduler",
        "lr_warmup_epochs",
        "probe_learning_rate",
        "aberration_learning_rate",
        "probe_trainable",
        "intensity_scale_trainable",
    ),
    "torch_backend/test_knobs_optimisation.py::test_the_optimiser_is_the_one_asked_for": ("optimizer",),
    "torch_backend/test_knobs_optimisation.py::test_the_optimiser_has_its_numbers": (
        "adam_beta1",
        "adam_beta2",
        "weight_decay",
        "learning_rate",
        "probe_learning_rate",
        "aberration_learning_rate",
    ),
    "torch_backend/test_knobs_optimisation.py::test_momentum_moves_on": ("momentum",),
    "torch_backend/test_knobs_optimisation.py::test_accumulated_batches_make_one_step": ("accum_steps",),
    "torch_backend/test_knobs_optimisation.py::test_gradients_are_bounded": (
        "gradient_clip_val",
        "gradient_clip_algorithm",
    ),
    "torch_backend/test_knobs_optimisation.py::test_adaptive_clipping_is_a_bound_of_its_own": (
        "gradient_clip_algorithm",
    ),
    "torch_backend/test_knobs_optimisation.py::test_the_cosine_reaches_the_optimiser": ("scheduler", "lr_min_ratio"),
    "torch_backend/test_knobs_optimisation.py::test_the_warm_up_reaches_the_optimiser": ("lr_warmup_epochs",),
    "torch_backend/test_knobs_optimisation.py::test_plateaus_have_settings": (
        "plateau_patience",
        "plateau_factor",
        "plateau_min_lr",
        "plateau_threshold",
    ),
    "torch_backend/test_knobs_optimisation.py::test_a_fixed_probe_stays_as_it_was": ("probe_trainable",),
    "torch_backend/test_knobs_optimisation.py::test_a_trainable_scale_ends_in_the_probe": (
        "intensity_scale_trainable",
    ),
    "torch_backend/test_knobs_data.py::test_the_setting_changes_the_training": (
        "architecture",
        "gridsize",
        "n_groups",
        "seed",
        "subsample_seed",
        "n_subsample",
        "neighbor_count",
        "sequential_sampling",
        "batch_size",
        "validation_fraction",
        "n_filters_scale",
        "nepochs",
    ),
    "torch_backend/test_knobs_data.py::test_groups_are_what_was_asked_for": (
        "gridsize",
        "n_groups",
        "validation_fraction",
    ),
    "torch_backend/test_knobs_data.py::test_members_come_from_the_nearest_neighbours": ("neighbor_count",),
    "torch_backend/test_knobs_data.py::test_a_subsample_bounds_the_patterns": ("n_subsample",),
    "torch_backend/test_knobs_data.py::test_oversampling_gives_more_groups_than_patterns": (
        "enable_oversampling",
        "neighbor_pool_size",
    ),
    "torch_backend/test_knobs_data.py::test_sequential_sampling_keeps_the_order_of_the_scan": ("sequential_sampling",),
    "torch_backend/test_knobs_data.py::test_batches_have_the_size_asked_for": ("batch_size",),
    "torch_backend/test_knobs_data.py::test_epochs_are_counted": ("nepochs",),
    "torch_backend/test_knobs_data.py::test_patterns_of_another_size_are_refused": ("N",),
    "torch_backend/test_knobs_data.py::test_supervised_training_learns": ("model_type",),
    "torch_backend/test_knobs_data.py::test_the_loader_has_its_settings": (
        "num_workers",
        "pin_memory",
        "persistent_workers",
        "prefetch_factor",
    ),
    "torch_backend/test_starting_point.py::test_a_training_finds_out_what_it_is_asked_to": (
        "beam_search",
        "background_counts",
        "position_refinement",
        "orientation_search",
        "probe_search",
        "flux_search",
        "blur_search",
        "probe_modes",
    ),
    "torch_backend/test_faulty_scans.py::test_blurred_patterns_have_modes": ("blur_search",),
    "torch_backend/test_faulty_scans.py::test_each_frame_has_its_flux": ("flux_search",),
    "torch_backend/test_finish.py::test_a_reconstruction_is_finished_if_asked": ("finish",),
    "torch_backend/test_error_bars.py::test_a_reconstruction_has_error_bars_if_asked": ("error_bars",),
    "torch_backend/test_error_bars.py::test_error_bars_are_checked_if_asked": ("error_bars_check",),
    "torch_backend/test_faulty_scans.py::test_the_focus_is_looked_for_if_asked": ("probe_autofocus",),
    "torch_backend/test_faulty_scans.py::test_a_beam_off_the_middle_is_brought_back": ("beam_search",),
    "torch_backend/test_faulty_scans.py::test_a_background_is_found_or_given": ("background_counts",),
    "torch_backend/test_faulty_scans.py::test_wrong_positions_are_refined_if_they_may": ("position_refinement",),
    "torch_backend/test_faulty_scans.py::test_positions_are_turned_over_where_they_have_to_be": ("orientation_search",),
    "torch_backend/test_faulty_scans.py::test_a_probe_that_explains_nothing_is_replaced": ("probe_search",),
    "torch_backend/test_faulty_scans.py::test_a_beam_that_moves_within_a_frame_has_modes": ("probe_modes",),
    "torch_backend/test_autofocus.py::test_a_training_looks_for_the_focus_if_asked": ("probe_autofocus",),
    "torch_backend/test_generalist.py::test_a_training_starts_from_the_weights_asked_for": ("initial_weights",),
    "torch_backend/test_generalist.py::test_a_training_refines_the_probe_first": ("probe_rounds",),
    "torch_backend/test_reconstruct.py::test_the_probe_is_refined_if_asked": ("probe_rounds",),
    "torch_backend/test_generators.py::test_the_unrolled_generator_has_the_steps_asked_for": (
        "unrolled_steps",
        "unrolled_repeats",
    ),
    "torch_backend/test_generators.py::test_filters_scale_the_number_of_weights": ("n_filters_scale",),
    "torch_backend/test_structure.py::test_the_amplitude_has_the_activation_asked_for": ("amp_activation",),
    "torch_backend/test_structure.py::test_the_setting_changes_the_cnn_and_no_other_has_it": (
        "cbam_encoder",
        "cnn_output_mode",
    ),
    "torch_backend/test_structure.py::test_the_operator_has_the_parts_asked_for": (
        "fno_modes",
        "fno_width",
        "fno_blocks",
        "fno_cnn_blocks",
    ),
    "torch_backend/test_knobs_model.py::test_every_setting_changes_the_training": (
        "torch_loss_mode",
        "torch_mae_pred_l2_match_target",
        "nll_weight",
        "mae_weight",
        "realspace_weight",
        "realspace_mae_weight",
        "unmerged_weight",
        "draft_weight",
        "background_counts",
        "probe_mask",
        "probe_mask_diameter",
        "probe_mask_sigma",
        "probe_mask_tensor",
    ),
    "torch_backend/test_objective.py::test_the_other_mode_is_the_amplitude_error": ("torch_loss_mode",),
    "torch_backend/test_objective.py::test_matched_norms_ignore_the_scale_of_the_prediction": (
        "torch_mae_pred_l2_match_target",
    ),
    "torch_backend/test_objective.py::test_disagreement_is_weighted_by_light": (
        "realspace_weight",
        "realspace_mae_weight",
    ),
    "torch_backend/test_knobs_execution.py::test_the_accelerator_is_the_one_asked_for": ("accelerator",),
    "torch_backend/test_knobs_execution.py::test_devices_are_counted": ("devices",),
    "torch_backend/test_knobs_execution.py::test_the_strategy_is_the_one_asked_for": ("strategy",),
    "torch_backend/test_processes.py::test_two_processes_are_one": ("devices",),
    "torch_backend/test_knobs_execution.py::test_precision_changes_the_arithmetic": ("precision",),
    "torch_backend/test_knobs_execution.py::test_determinism_is_switched_for_the_run": ("deterministic",),
    "torch_backend/test_knobs_execution.py::test_threads_are_lent_to_the_run": ("num_threads",),
    "torch_backend/test_knobs_execution.py::test_the_bar_is_shown_on_standard_error_alone": ("enable_progress_bar",),
    "torch_backend/test_knobs_execution.py::test_checkpoints_are_written_when_asked_for": (
        "enable_checkpointing",
        "output_dir",
    ),
    "torch_backend/test_knobs_execution.py::test_the_best_checkpoints_are_kept": ("checkpoint_save_top_k",),
    "torch_backend/test_knobs_execution.py::test_checkpoints_are_ranked_by_the_metric_asked_for": (
        "checkpoint_monitor_metric",
    ),
    "torch_backend/test_knobs_execution.py::test_the_mode_says_which_end_is_good": ("checkpoint_mode",),
    "torch_backend/test_knobs_execution.py::test_a_training_ends_early_without_progress": ("early_stop_patience",),
    "torch_backend/test_knobs_execution.py::test_the_csv_log_has_the_losses": ("logger_backend", "output_dir"),
    "torch_backend/test_knobs_execution.py::test_gradient_norms_are_logged_when_asked_for": (
        "log_grad_norm",
        "grad_norm_log_freq",
    ),
    "torch_backend/test_time_limit.py::test_a_time_limit_ends_the_run_cleanly": ("max_time",),
    "torch_backend/test_time_limit.py::test_a_run_is_taken_up_where_it_stopped": ("resume",),
    "torch_backend/test_survival.py::test_checkpoints_within_an_epoch_are_as_often_as_asked_for": (
        "checkpoint_every_s",
    ),
    "torch_backend/test_reconstruct.py::test_batches_do_not_matter": ("inference_batch_size",),
    "torch_backend/test_reconstruct.py::test_weights_are_the_light_or_even": ("patch_weighting",),
    "torch_backend/test_reconstruct.py::test_the_probe_is_the_one_asked_for": ("probe_source",),
    "torch_backend/test_reconstruct.py::test_the_better_fitting_probe_is_found": ("probe_source",),
    "torch_backend/test_reconstruct.py::test_fewer_patterns_can_be_used": ("n_subsample", "n_groups", "seed"),
    "torch_backend/test_reconstruct.py::test_the_choice_of_patterns_may_have_a_seed_of_its_own": ("subsample_seed",),
    "torch_backend/test_reconstruct.py::test_a_missing_accelerator_is_refused": ("accelerator",),
    "torch_backend/test_reconstruct.py::test_threads_are_lent": ("num_threads",),
    "command_line/test_run.py::test_a_quiet_reconstruction_says_nothing_on_the_way": ("enable_progress_bar",),
    "command_line/test_run.py::test_a_few_patterns_are_drawn_by_a_seed": ("n_groups", "seed", "subsample_seed"),
    "command_line/test_run.py::test_a_result_is_one_product": ("test_data_file", "output_dir", "model_path"),
    "torch_backend/test_reconstruct.py::test_precision_changes_the_network_s_arithmetic": ("precision",),
    "test_factory.py::test_a_missing_scan_is_an_error": ("train_data_file", "test_data_file"),
    "torch_backend/test_knobs_data.py::test_another_scan_can_be_the_validation": ("test_data_file",),
    "command_line/test_several_scans.py::test_folders_change_the_training": ("training_directories",),
    "test_factory.py::test_a_missing_archive_is_an_error": ("model_path",),
}
OF_RECONSTRUCTION = {
    "torch_backend/test_reconstruct.py",
    "torch_backend/test_faulty_scans.py",
    "torch_backend/test_finish.py",
    "torch_backend/test_error_bars.py",
    "torch_backend/test_processes.py::test_two_processes_are_one",
    "command_line/test_run.py",
    "test_run.py::test_a_reconstruction_gives_amplitude_and_phase",
}


def _chosen() -> list[FieldInfo]:
    """Settings that a user can choose and that change a run."""
    return [i for i in fields() if i.effect is Effect.RUN or len(i.honoured) > 1 or i.knob.part_of]


@cache
def _tests_in(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("info", _chosen(), ids=lambda info: info.key)
def test_every_setting_of_a_run_is_shown_to_work(info: FieldInfo) -> None:
    """A setting that changes a run has a test that shows the change."""
    assert [name for name, keys in SHOWN.items() if info.key in keys]


@pytest.mark.parametrize("info", _chosen(), ids=lambda info: info.key)
def test_it_is_shown_in_every_kind_of_run_that_reads_it(info: FieldInfo) -> None:
    """A setting that a training reads changes one, and so with a reconstruction; what comes with a model is apart."""
    showing = {
        not OF_RECONSTRUCTION.isdisjoint((name, name.partition("::")[0]))
        for name, keys in SHOWN.items()
        if info.key in keys
    }

    if info.key in TRAINING and TRAINING.reads(info):
        assert False in showing
    if info.key in INFERENCE and INFERENCE.reads(info) and info.key not in OF_ARCHIVE:
        assert True in showing


@pytest.mark.parametrize("name", SHOWN)
def test_the_showing_tests_exist(name: str) -> None:
    """They stand where they are said to stand, and show settings that there are."""
    file, test = name.split("::")

    assert test in _tests_in(file)
    assert {*SHOWN[name]} <= {info.key for info in _chosen()}
