"""What a program is told of long work: the bars' own progress, whether bars are shown or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import torch_sample
from ptycho_adapters import Progress, on_progress
from ptycho_adapters.common import bars
from ptycho_adapters.common.bars import Bar, bars_drawn, counted
from ptycho_adapters.torch_backend import generalist_for, reconstruct, train
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig

if TYPE_CHECKING:
    from pathlib import Path

_QUIET = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False)
_QUICK = TorchInferenceConfig(probe_rounds=1, finish=1)


class CancelledError(Exception):
    """What a program raises to stop the work."""


def test_what_is_counted_is_told_to_whoever_listens(capsys: pytest.CaptureFixture[str]) -> None:
    """From nothing to all of it; listeners within listeners are told both; afterwards nobody is told."""
    outer: list[Progress] = []
    inner: list[Progress] = []
    with bars_drawn(wanted=False), on_progress(outer.append):
        with on_progress(inner.append):
            assert list(counted(4, "work")) == [0, 1, 2, 3]
        list(counted(1, "more"))
    with bars_drawn(wanted=False):
        list(counted(1, "unheard"))

    assert [told.fraction for told in inner] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert outer[:5] == inner
    assert [told.work for told in outer] == ["work"] * 5 + ["more"] * 2
    assert not capsys.readouterr().err


def test_thousands_of_pieces_are_told_by_the_percent() -> None:
    """A callback that draws is not called for every batch of a million patterns."""
    told: list[Progress] = []
    with on_progress(told.append), Bar("pass", of=5000) as bar:
        pieces = list(bar.along(range(5000)))

    assert pieces == list(range(5000))
    assert len(told) == 101
    assert told[-1] == Progress(work="pass", fraction=1.0)


def test_a_reconstruction_tells_how_far_it_is() -> None:
    """Preparation, pass, judgement and finish in their order; each fraction grows to the end of the pass."""
    told: list[Progress] = []
    scan = torch_sample.tiny_scan()
    with on_progress(told.append):
        reconstruct(generalist_for(scan), scan, execution_config=_QUIET, inference_config=_QUICK)

    works = list(dict.fromkeys(each.work for each in told))
    assert works == ["probe and positions, 36 patterns", "network and stitching", "finish", "judgement"]
    of_pass = [each.fraction for each in told if each.work == "network and stitching"]
    assert of_pass == sorted(of_pass)
    assert (of_pass[0], of_pass[-1]) == (0.0, 1.0)


def test_what_a_listener_raises_stops_the_work() -> None:
    """As a button that cancels does."""

    def cancel(progress: Progress) -> None:
        if progress.work == "network and stitching" and progress.fraction > 0.3:
            raise CancelledError

    scan = torch_sample.tiny_scan()
    with pytest.raises(CancelledError), on_progress(cancel):
        reconstruct(generalist_for(scan), scan, execution_config=_QUIET, inference_config=_QUICK)


def test_a_training_tells_how_far_it_is(tmp_path: Path) -> None:
    """Without a bar, too; from the start to the end."""
    told: list[Progress] = []
    with on_progress(told.append):
        train(torch_sample.payload_for(tmp_path, {"epochs": 2}), torch_sample.tiny_scan())

    of_training = [each.fraction for each in told if each.work == "training"]
    assert (of_training[0], of_training[-1]) == (0.0, 1.0)
    assert len(of_training) > 2


def test_the_first_epoch_shows_a_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who watches a long first epoch sees the loss of the step that was made last."""
    shown: list[str] = []
    monkeypatch.setattr(bars, "_LOG_INTERVAL_S", 0.0)
    payload = torch_sample.payload_for(tmp_path, {"epochs": 1}, enable_progress_bar=True)
    with on_progress(lambda _: shown.append(capsys.readouterr().err)):
        train(payload, torch_sample.tiny_scan())

    before_the_end = "".join(shown)
    assert "epoch=1" in before_the_end
    assert "now=" in before_the_end
