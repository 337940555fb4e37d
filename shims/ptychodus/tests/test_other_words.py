"""The same scan in other words is the same object, and patterns that are no scan for us say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import inside
import numpy as np
import pytest

from ptycho_adapters.ptychodus.models import write_shipped_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


SCAN = inside.made_scan().subset(np.arange(16))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that stands for the weights in the package."""
    path = tmp_path_factory.mktemp("model") / "model.zip"
    write_shipped_model(path)
    return path


@pytest.fixture(scope="session")
def reference(model: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The object of the scan as it is."""
    return _answer(inside.staged(SCAN, tmp_path_factory.mktemp("scan") / "in"), model)


def _answer(folder: Path, model: Path) -> np.ndarray:
    with inside.client(folder) as (core, product):
        core.processing_core.processing_api.load_model_from_file(model, algorithm="ptychopinn_pinn")
        done = product.reconstruct_local(algorithm="ptychopinn_pinn", block=True).get_product()
    answer: np.ndarray = done.object_.get_layer(0)
    return answer


def _real_counts(folder: Path) -> None:
    inside.staged(inside.evolve(SCAN, patterns=SCAN.patterns.astype(np.float32)), folder)


def _three_modes(folder: Path) -> None:
    probe = np.concatenate([SCAN.probe * weight for weight in (0.8, 0.48j, -0.36)])
    inside.staged(inside.evolve(SCAN, probe=probe), folder)


def _moved_stage(folder: Path) -> None:
    inside.move_stage(inside.staged(SCAN, folder), y_m=-3e-4, x_m=7e-4)


def _shuffled_positions(folder: Path) -> None:
    order = np.random.default_rng(0).permutation(SCAN.n_patterns)
    inside.keep_positions(inside.staged(SCAN, folder), order)


@pytest.mark.parametrize("say", [_real_counts, _three_modes, _moved_stage, _shuffled_positions])
def test_the_same_scan_in_other_words_is_the_same_object(
    say: Callable[[Path], None], reference: np.ndarray, model: Path, tmp_path: Path
) -> None:
    """Number format, modes that share the light, the stage's origin and the order of positions change nothing."""
    say(tmp_path / "in")

    np.testing.assert_allclose(_answer(tmp_path / "in", model), reference, atol=1e-3)


def test_patterns_without_a_position_are_left_out(model: Path, tmp_path: Path) -> None:
    """Positions of a part of the scan give the object that this part alone gives."""
    part = np.arange(4, 12)
    folder = inside.staged(SCAN, tmp_path / "whole")
    inside.keep_positions(folder, part)
    alone = inside.staged(SCAN.subset(part), tmp_path / "part")

    np.testing.assert_allclose(_answer(folder, model), _answer(alone, model), atol=1e-3)


def test_what_stands_under_the_mask_changes_nothing(model: Path, tmp_path: Path) -> None:
    """Whether a bad pixel holds zero or the largest number."""
    mask = np.zeros((64, 64), dtype=bool)
    mask[20, 30] = mask[40, 41] = True
    answers = []
    for sentinel in (0, 65535):
        folder = inside.staged(inside.evolve(SCAN, bad_pixels=mask), tmp_path / str(sentinel))
        inside.replace_patterns(folder, np.where(mask, np.uint16(sentinel), SCAN.patterns))
        answers.append(_answer(folder, model))

    np.testing.assert_allclose(answers[1], answers[0], atol=1e-3)


def test_rectangular_patterns_are_refused_with_both_shapes(tmp_path: Path) -> None:
    """The message of the child process reaches the user; for PtychoPINN the client itself refuses them."""
    folder = inside.staged(SCAN, tmp_path / "in")
    inside.crop_columns(folder, slice(2, 62))
    write_shipped_model(tmp_path / "model.ckpt")
    name = "ptychopinn-torch_unsupervised"
    with inside.client(folder) as (core, product):
        core.processing_core.processing_api.load_model_from_file(tmp_path / "model.ckpt", algorithm=name)
        with pytest.raises(RuntimeError, match=r"(?s)ScanError.*\(16, 64, 60\).*\(1, 64, 64\)"):
            product.reconstruct_local(algorithm=name, block=True)


@pytest.mark.parametrize("algorithm", ["ptychopinn_pinn", "ptychopinn-torch_unsupervised"])
def test_the_client_itself_wants_a_model(algorithm: str, tmp_path: Path) -> None:
    """Before it calls us, which is why a file stands for the weights in the package."""
    folder = inside.staged(SCAN, tmp_path / "in")
    with inside.client(folder) as (_, product), pytest.raises(RuntimeError, match=r"Cannot reconstruct: no .*loaded"):
        product.reconstruct_local(algorithm=algorithm, block=True)
