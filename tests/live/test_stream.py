"""Streams: what is known of them, where they come from, and the pictures made of them."""

from __future__ import annotations

import copy
import json
import queue
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from page_commands import code_of, short, steps_of
from ptycho_adapters.cli import main
from ptycho_adapters.files import read_product, write_scan
from ptycho_adapters.live import QueueSource, SwmrSource, Window, pictures, reconstruct_stream
from ptycho_adapters.live import store as kept
from ptycho_adapters.live.engine import Watch
from ptycho_adapters.live.store import FrameStore
from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig
from ptycho_core.errors import ScanError, ScanFileError
from ptycho_core.measurement.stored import stored
from ptycho_core.measurement.stream import FrameBatch, Pace, StreamState
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ptycho_core.measurement.scan import Scan

QUIET = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False)
ONE_PASS = TorchInferenceConfig(probe_rounds=0)


@cache
def scan(object_size_px: int = 100) -> Scan:
    return simulate(SimulationConfig(object_size_px=object_size_px, step_px=6, photons=1e5))


def batch(numbers: list[int], *, own_positions: bool = False, of: Scan | None = None) -> FrameBatch:
    chosen, held = np.array(numbers, dtype=np.int64), scan() if of is None else of
    positions = held.positions_px[chosen] if own_positions else None
    return FrameBatch(numbers=chosen, patterns=held.patterns[chosen], positions_px=positions)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), max_size=8), max_size=8))
def test_a_state_counts_like_a_set(batches: list[list[int]]) -> None:
    """Whatever arrives in whatever order: frames, gaps, repeats and late ones are those that a plain loop counts."""
    state, seen, late, repeated = StreamState(), set[int](), 0, 0
    for second, numbers in enumerate(batches):
        state = state.arrived(np.array(numbers, dtype=np.int64), float(second))
        for number in numbers:
            repeated += number in seen
            late += bool(seen) and number not in seen and number < max(seen)
            seen.add(number)

    assert {n for first, end in state.spans for n in range(first, end)} == seen
    assert (state.frames, state.late, state.repeated) == (len(seen), late, repeated)
    assert state.missing == (max(seen) + 1 - len(seen) if seen else 0)


def test_rate_and_silence_are_those_of_the_last_seconds() -> None:
    """20 frames each tenth of a second are 200 a second; after a silence they are none."""
    state = StreamState()
    for step in range(100):
        state = state.arrived(np.arange(20 * step, 20 * step + 20), 0.1 * step)

    assert state.rate_per_s == pytest.approx(200.0)
    state = state.arrived(np.zeros(0, dtype=np.int64), 60.0)
    assert state.rate_per_s == 0.0
    assert state.silent_s == pytest.approx(50.1)


def test_silence_is_when_a_source_was_found_empty() -> None:
    """Not while a picture is made and nobody looks, nor before the first frame; a frame that comes again is a sign."""
    nothing = np.zeros(0, dtype=np.int64)
    state = StreamState().arrived(nothing, 0.0).arrived(nothing, 9.0)
    assert (state.stalled_s, state.longest_silence_s) == (0.0, 0.0)

    state = state.arrived(np.arange(4), 10.0).arrived(np.arange(4, 8), 30.0)
    assert (state.stalled_s, state.longest_silence_s) == (0.0, 0.0)

    state = state.arrived(nothing, 31.0).arrived(nothing, 34.0)
    assert (state.stalled_s, state.longest_silence_s) == (3.0, 3.0)
    assert state.arrived(np.array([0]), 35.0).stalled_s == 0.0
    state = state.arrived(np.array([8]), 36.0).arrived(nothing, 37.0)
    assert (state.stalled_s, state.longest_silence_s) == (0.0, 5.0)


def test_frames_of_a_long_stream_are_kept_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same scan as in memory, without reading all of it; the file has no name and goes with its store."""
    n = scan().n_patterns
    monkeypatch.setattr(kept, "_MOST_IN_MEMORY", 11 * scan().patterns[0].nbytes)
    store = FrameStore(scan(), tmp_path)
    for numbers in (list(range(8, n)), [3], [0, 1, 2], [7, 6, 5, 4]):
        store.add(batch(numbers), 0.0)

    whole = store.scan()
    assert stored(whole.patterns) is not None
    np.testing.assert_array_equal(whole.patterns[:], scan().patterns)
    np.testing.assert_array_equal(whole.positions_px, scan().positions_px)
    np.testing.assert_array_equal(store.latest(n - 4, n).patterns, scan().patterns[[7, 6, 5, 4]])
    assert list(tmp_path.iterdir()) == []


def test_frames_are_added_after_a_rest() -> None:
    """Not before the first ones, not without new ones, and not again at once after a long time."""
    pace, empty = Pace(first_after=16, every_s=0.1, rest=0.25), StreamState()
    few, more = empty.arrived(np.arange(15), 0.0), empty.arrived(np.arange(100), 0.0)

    assert not pace.due(few, 99.0, 0.0)
    assert pace.due(more, 0.0, 0.0)
    assert not pace.due(more.pictured(100), 99.0, 0.0)
    assert not pace.due(more.pictured(80), 0.09, 0.0)
    assert pace.due(more.pictured(80), 0.1, 0.0)
    assert not pace.due(more.pictured(80), 0.4, 2.0)
    assert pace.due(more.pictured(80), 0.5, 2.0)


def test_frames_in_any_order_are_the_scan_that_they_are_of() -> None:
    """Late and repeated ones included, with positions by number or of their own."""
    store = FrameStore(scan())
    n = scan().n_patterns
    store.add(batch([5, 3, 4]), 0.0)
    store.add(batch([4, 1, 0, *range(6, n)], own_positions=True), 1.0)
    store.add(batch([2]), 2.0)

    np.testing.assert_array_equal(store.scan().patterns, scan().patterns)
    np.testing.assert_array_equal(store.scan().positions_px, scan().positions_px)
    assert (store.state.missing, store.state.repeated, store.state.late) == (0, 1, 5)


def test_frames_without_a_measurement_are_left_out_and_counted() -> None:
    """Dark, negative or not finite: they are not taken, the others are."""
    patterns = scan().patterns[:4].astype(np.float64)
    patterns[0], patterns[1, 5, 5], patterns[2, 5, 5] = 0.0, -1.0, np.nan
    store = FrameStore(scan())
    store.add(FrameBatch(numbers=np.arange(4), patterns=patterns), 0.0)

    assert (store.numbers.tolist(), store.state.unusable) == ([3], 3)


def test_frames_that_cannot_be_placed_are_refused() -> None:
    """A number beyond the positions and a frame of another size are named."""
    beyond = FrameBatch(numbers=np.array([10**6]), patterns=scan().patterns[:1])
    small = FrameBatch(numbers=np.array([0]), patterns=np.ones((1, 32, 32)))

    with pytest.raises(ScanError, match=r"a position for every frame.*frame 1000000"):
        FrameStore(scan()).add(beyond, 0.0)
    with pytest.raises(ScanError, match="64 px, as the probe has, found 32 px"):
        FrameStore(scan()).add(small, 0.0)
    with pytest.raises(ScanError, match=r"shape \(1, N, N\)"):
        FrameBatch(numbers=np.array([0]), patterns=np.ones((32, 32)))


def test_the_last_reconstruction_of_a_stream_is_that_of_the_scan() -> None:
    """Through a queue, in the wrong order: the same object to the last bit, and pictures of fewer frames before it."""
    from ptycho_adapters.torch_backend import generalist_for, reconstruct  # noqa: PLC0415 - torch takes seconds

    frames: queue.Queue[FrameBatch | None] = queue.Queue()
    n = scan().n_patterns
    for some in (list(range(10, 30)), list(range(10)), list(range(30, n)), None):
        frames.put(None if some is None else batch(some))
    source = QueueSource(frames=frames, size_px=64)

    results = list(reconstruct_stream(source, scan(), inference_config=ONE_PASS, execution_config=QUIET))

    whole = reconstruct(generalist_for(scan()), scan(), inference_config=ONE_PASS, execution_config=QUIET)
    assert len(results[0].pattern_indices) == 20
    np.testing.assert_array_equal(results[-1].object, whole.object)


@pytest.mark.parametrize(("at_once", "object_size_px"), [(36, 100), (16, 100), (50, 166)])
def test_an_object_that_grew_is_that_of_a_pass_over_all_frames(at_once: int, object_size_px: int) -> None:
    """Within a hundredth, of a contrast of a third, where the steps with weights of their own are all there are.

    Of the larger scan, most frames are settled before the last ones come.
    """
    from ptycho_adapters.torch_backend import generalist_for, reconstruct  # noqa: PLC0415 - torch takes seconds
    from ptycho_adapters.torch_backend.generators.unrolled import Unrolled  # noqa: PLC0415

    made = scan(object_size_px)
    model, n = copy.deepcopy(generalist_for(made)), made.n_patterns
    assert isinstance(model.generator, Unrolled)
    model.generator.repeats = 0
    batches = [batch(list(range(first, min(n, first + at_once))), of=made) for first in range(0, n, at_once)]
    at_each = Watch(pace=Pace(every_s=0.0, rest=0.0))

    *grown, _ = pictures(batches, made, model=model, inference_config=ONE_PASS, execution_config=QUIET, watch=at_each)

    whole = reconstruct(model, made, inference_config=ONE_PASS, execution_config=QUIET)
    found = grown[-1].reconstruction
    lit = whole.coverage > 0.1 * whole.coverage.max()
    turned = np.vdot(found.object[lit], whole.object[lit])
    apart = found.object[lit] * turned / abs(turned) - whole.object[lit]

    assert np.linalg.norm(apart) < 0.01 * np.linalg.norm(whole.object[lit])
    np.testing.assert_allclose(found.coverage, whole.coverage, atol=0.01 * whole.coverage.max())


def test_a_stage_that_waits_holds_no_picture_up() -> None:
    """More frames from one place than are added at a time: they come into a picture with the next ones."""
    small, waited = scan(), 520
    still = np.repeat(small.positions_px[:1], waited, axis=0)
    waiting = FrameBatch(
        numbers=np.arange(waited),
        patterns=np.repeat(small.patterns[:1], waited, axis=0),
        positions_px=still,
    )
    moving = FrameBatch(
        numbers=np.arange(waited, waited + 8), patterns=small.patterns[:8], positions_px=small.positions_px[:8]
    )
    at_each = Watch(pace=Pace(every_s=0.0, rest=0.0))

    first = next(pictures([waiting, moving], small, inference_config=ONE_PASS, execution_config=QUIET, watch=at_each))

    assert first.state.reconstructed == waited + 8
    assert first.scan is None, "the first picture is the last one"


def test_a_stream_without_frames_is_refused() -> None:
    """At its end, with what was expected."""
    with pytest.raises(ScanError, match="frames: expected at least one, found none"):
        list(pictures([FrameBatch.empty(64)], scan()))


class Writer:
    """A file that is written while it is read: each sleep of the reader is a turn of the writer."""

    def __init__(self, path: Path) -> None:
        self.file = h5py.File(path, "w", libver="latest")
        self.frames = self.file.create_dataset(
            "entry/data/data", (0, 64, 64), maxshape=(None, 64, 64), chunks=(1, 64, 64), dtype=scan().patterns.dtype
        )
        self.file.swmr_mode = True
        self.turns = self._turns()
        self.now_s = 0.0

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        next(self.turns, None)
        self.frames.flush()

    def _turns(self) -> Iterator[None]:
        self.frames.resize(4, axis=0)
        self.frames[:3] = scan().patterns[:3]
        yield
        self.frames.resize(6, axis=0)
        self.frames[4:6] = scan().patterns[4:6]
        yield
        self.frames[3] = scan().patterns[3]
        yield


def test_a_growing_file_is_followed(tmp_path: Path) -> None:
    """Room without content is waited for, and comes as a late frame; silence ends the stream."""
    writer = Writer(tmp_path / "scan.h5")
    source = SwmrSource(
        path=tmp_path / "scan.h5", frames_at="entry/data/data", patience_s=1.0, clock=writer.clock, sleep=writer.sleep
    )

    batches = [each for each in source if len(each)]
    writer.file.close()

    assert [each.numbers.tolist() for each in batches] == [[0, 1, 2], [4, 5], [3]]
    windowed = SwmrSource(
        path=tmp_path / "scan.h5", frames_at="entry/data/data", window=Window(size_px=8, centre_px=(30, 32)), expected=6
    )
    np.testing.assert_array_equal(next(iter(windowed)).patterns, scan().patterns[:6, 26:34, 28:36])
    np.testing.assert_array_equal(batches[2].patterns, scan().patterns[3:4])


def test_a_file_without_the_frames_is_refused(tmp_path: Path) -> None:
    """Dataset and file are named."""
    h5py.File(tmp_path / "scan.h5", "w").close()

    with pytest.raises(FileNotFoundError, match="Stream file not found"):
        list(SwmrSource(path=tmp_path / "none.h5", frames_at="data"))
    with pytest.raises(ScanFileError, match=r"data: expected a dataset \(n, H, W\), found nothing"):
        list(SwmrSource(path=tmp_path / "scan.h5", frames_at="data"))


def test_the_command_writes_what_infer_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A complete file is a stream that has ended: product, pictures, report and summary are there; so was the page."""
    write_scan(scan(), tmp_path / "like.npz")
    with h5py.File(tmp_path / "stream.h5", "w", libver="latest") as file:
        file["entry/data/data"] = scan().patterns
    out = tmp_path / "out"

    code = main([
        "live", str(tmp_path / "stream.h5"), "--like", str(tmp_path / "like.npz"), "--output-dir", str(out),
        "--probe-rounds", "0", "--accelerator", "cpu", "--quiet", "--page", "0", "--page-host", "localhost",
    ])  # fmt: skip

    assert code == 0
    assert re.search(r"^the page: http://localhost:\d+/\?token=[\w-]{43}$", capsys.readouterr().err, re.MULTILINE)
    names = ["amplitude.png", "object.h5", "object.tif", "phase.png", "report.html", "summary.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    figures = json.loads((out / "summary.json").read_text())["figures"]
    assert (figures["frames"], figures["frames_missing"]) == (scan().n_patterns, 0)
    assert "finish_steps" in figures  # when the scan has ended the finish runs, of so few frames without being asked to
    assert len(read_product(out / "object.h5").positions_px) == scan().n_patterns


@pytest.mark.parametrize("check", ["mask", "warn"])
def test_what_a_stream_cannot_have_is_refused(check: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Frames that are left out would move the numbers of the others."""
    source, like, out = (str(tmp_path / name) for name in ("stream.h5", "like.npz", "out"))
    Path(source).touch()
    assert main(["live", source, "--like", like, "--output-dir", out, "--detector-check", check]) == 2
    assert f"--detector-check {check}: expected off" in capsys.readouterr().err


def test_what_the_page_says_to_type_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a stream that has ended, with less patience and without a finish; and the block of Python."""
    text = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")
    write_scan(scan(), tmp_path / "earlier.npz")
    with h5py.File(tmp_path / "stream.h5", "w", libver="latest") as file:
        file["entry/data/data"], file["entry/sample/positions_px"] = scan().patterns, scan().positions_px
    monkeypatch.chdir(tmp_path)
    for line in steps_of(text):
        words = [*short(line), "--patience-s", "0.2", "--probe-rounds", "0", "--quiet", "--finish", "none"]
        assert main(words) == 0, f"{line}: {capsys.readouterr().err}"
    frames: queue.Queue[FrameBatch | None] = queue.Queue()
    for each in (batch(list(range(20))), None):
        frames.put(each)
    (code,) = code_of(text)
    exec(compile(code, "live", "exec"), {"frames": frames, "like": scan()})
