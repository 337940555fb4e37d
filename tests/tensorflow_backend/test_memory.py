"""Memory of the TensorFlow backend: read off a graph, and refused before it is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
import torch

from ptycho_adapters import tensorflow_backend
from ptycho_adapters.common.groups import training_set_for
from ptycho_adapters.tensorflow_backend.memory import residence
from ptycho_adapters.tensorflow_backend.patterns import Patterns
from ptycho_adapters.tensorflow_backend.training.memory import kept_for_group, sizes_of
from ptycho_adapters.tensorflow_backend.training.start import arms_of, starting_generator
from ptycho_adapters.torch_backend.training.memory import kept_for_gradient
from ptycho_adapters.torch_backend.training.trainer import build_module
from ptycho_core.config import TorchInferenceConfig
from ptycho_core.memory import MemoryShortageError
from tensorflow_sample import AS_GIVEN, payload_for, quietly, tiny_scan
from tensorflow_training import minute_payload, observed, small_scan

if TYPE_CHECKING:
    from pathlib import Path

RUN = "ptycho_adapters.tensorflow_backend.memory.available_memory"
TRAINING = "ptycho_adapters.tensorflow_backend.training.memory.available_memory"
# 36 patterns of 16 px in float32: three copies while they are prepared.
PREPARED = 3 * 36 * 16 * 16 * 4


@pytest.mark.parametrize(
    "settings", [{"unrolled_steps": 2, "unrolled_repeats": 1}, {"architecture": "cnn"}], ids=["unrolled", "cnn"]
)
def test_what_is_kept_is_about_what_torch_keeps(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Measured there while it runs; here from a graph that is not run."""
    ours, theirs = payload_for("tensorflow", tmp_path, **settings), payload_for("pytorch", tmp_path, **settings)
    data = training_set_for(ours, tiny_scan())
    groups = torch.tensor(data.groups[0].train[:1], dtype=torch.int64)

    sizes = sizes_of(data, arms_of(ours, data))
    kept = kept_for_group(ours.pt_training_config, starting_generator(ours), sizes)

    assert 0.7 < kept / kept_for_gradient(build_module(theirs, data), groups) < 1.8


def test_a_batch_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what is needed and which batch size would fit; that one trains."""
    settings: dict[str, object] = {"n_groups": 16, "batch_size": 16}
    payload = minute_payload(tmp_path, settings)
    data = training_set_for(payload, small_scan())
    generator = starting_generator(payload)
    kept = kept_for_group(payload.pt_training_config, generator, sizes_of(data, arms_of(payload, data)))
    weights = 20 * sum(value.size for value in generator.weights.values())
    monkeypatch.setattr(TRAINING, lambda: max(PREPARED, round(2.2 * 4.5 * kept) + weights))

    with pytest.raises(MemoryShortageError, match="a batch kept for its gradient") as caught:
        observed(payload, counts_memory=True)

    assert caught.value.problems[0].fix.startswith("--batch-size 4 ")
    fitting = minute_payload(tmp_path, {**settings, "batch_size": 4})
    assert observed(fitting, counts_memory=True).model.history


def test_patterns_that_do_not_fit_are_refused_before_they_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training and reconstruction both look at the patterns first, and name a number that fits."""
    model = observed(minute_payload(tmp_path)).model
    for name in (RUN, TRAINING):
        monkeypatch.setattr(name, lambda: PREPARED - 1)
    monkeypatch.setattr(Patterns, "__init__", lambda *_, **__: pytest.fail("they were copied"))

    with pytest.raises(MemoryShortageError, match="training does not fit") as training:
        observed(minute_payload(tmp_path, {"n_groups": 36, "gridsize": 1}))
    with pytest.raises(MemoryShortageError, match="reconstruction does not fit") as reconstruction:
        tensorflow_backend.reconstruct(model, small_scan())

    assert training.value.problems[0].fix.startswith("--n-groups 32 --n-subsample 32 ")
    assert reconstruction.value.problems[0].fix.startswith("--n-subsample 32 ")


@pytest.mark.usefixtures("eagerly")
def test_a_reconstruction_that_does_not_fit_names_a_smaller_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fields of all patterns are too much; with the number of patterns that is proposed it works."""
    model = observed(minute_payload(tmp_path)).model
    monkeypatch.setattr(RUN, lambda: 1_400_000)

    with pytest.raises(MemoryShortageError, match="fields of the patterns") as caught:
        tensorflow_backend.reconstruct(model, small_scan(), execution_config=quietly())

    flag, number = caught.value.problems[0].fix.split(" ")[:2]
    assert flag == "--n-subsample"
    settings = TorchInferenceConfig(**AS_GIVEN, n_subsample=int(number))  # type: ignore[arg-type]
    result = tensorflow_backend.reconstruct(model, small_scan(), execution_config=quietly(), inference_config=settings)
    assert len(result.pattern_indices) == int(number) < 36


@pytest.mark.parametrize("masked", [False, True])
def test_a_training_keeps_no_pattern_that_it_does_not_use(tmp_path: Path, masked: bool) -> None:
    """Only what a group uses is converted, and is found by its scan index; the flux is that of the whole scan."""
    bad = np.zeros((16, 16), bool)
    bad[3, 5] = masked
    scan = attrs.evolve(small_scan(), bad_pixels=bad)
    payload = minute_payload(tmp_path, {"n_subsample": 16, "n_groups": 4})
    data = training_set_for(payload, scan)
    (groups,) = data.groups

    kept, whole = arms_of(payload, data).training.patterns, Patterns(scan)

    assert kept.flux == whole.flux
    for indices in (groups.train, groups.validation):
        found, expected = kept.gather(indices), whole.gather(indices)
        np.testing.assert_array_equal(found.counts, expected.counts)
        np.testing.assert_array_equal(found.starts, expected.starts)
    unused = np.setdiff1d(np.arange(36), np.union1d(groups.train, groups.validation))
    with pytest.raises(IndexError):
        kept.gather(unused[:1])
    assert residence(scan).demand([9]).total == PREPARED / 4
