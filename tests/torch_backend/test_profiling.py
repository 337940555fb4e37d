"""Times of operations, without those within them, under the names of their parts."""

from __future__ import annotations

from collections import Counter

import pytest

from ptycho_adapters.torch_backend.profiling import own_times


def event(name: str, ts: float, dur: float, number: int = 0) -> dict[str, object]:
    """An operation of a trace, in microseconds."""
    return {"name": name, "ts": ts, "dur": dur, "args": {"External id": number}}


def test_each_moment_counts_once_and_for_the_innermost_name() -> None:
    """A convolution within the network is the network's; a transform is one wherever it is made."""
    events = [
        event("ptycho: network", 0, 100, 1),
        event("aten::conv2d", 10, 60, 2),
        event("aten::fft_fft2", 80, 10, 3),
        event("aten::_fft_c2c", 82, 6, 4),
        event("aten::add", 200, 5, 5),
        event("autograd::engine::evaluate_function: ConvolutionBackward0", 300, 20, 6),
        event("aten::mul", 305, 5, 7),
    ]
    names: dict[object, str] = {}
    found: Counter[str] = Counter()
    for name, seconds in own_times(reversed(events), names):
        found[name] += 1e6 * seconds  # type: ignore[assignment]  # seconds are no whole numbers

    assert dict(found) == pytest.approx(
        {"network": 90.0, "transforms": 10.0, "other operations": 5.0, "gradients": 20.0}
    )
    assert names[2] == "network"
    assert names[4] == "transforms"
