"""Frames from a detector's socket: every encoding, and what goes wrong on the way."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zmq

from detector_sample import content_of, end, header, image
from ptycho_adapters.cli import main
from ptycho_adapters.files import write_scan
from ptycho_adapters.live import DetectorSource, Window
from ptycho_adapters.live.decoding import decode
from ptycho_adapters.live.detector_messages import Kind, read_message
from ptycho_adapters.live.store import FrameStore
from ptycho_core.errors import ScanError
from ptycho_core.measurement.stream import FrameBatch
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ptycho_core.measurement.stream import StreamState

N = 16
FIRST = b'{"htype":"dimage-1.0","series":1,"frame":0}'


def frames(n: int, dtype: str = "uint16", shape: tuple[int, int] = (N, N)) -> np.ndarray:
    return np.random.default_rng(0).poisson(9.0, (n, *shape)).astype(dtype)


@contextmanager
def detector(*messages: list[bytes]) -> Iterator[str]:
    """The address of a socket that pushes messages as soon as somebody listens."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.linger, push.sndtimeo = 0, 600_000
        port = push.bind_to_random_port("tcp://127.0.0.1")
        sending = threading.Thread(target=lambda: [push.send_multipart(message) for message in messages], daemon=True)
        sending.start()
        yield f"tcp://127.0.0.1:{port}"
        sending.join()


def received(messages: list[list[bytes]], window: Window | None = None) -> list[FrameBatch]:
    """What a source makes of messages that end it."""
    with detector(*messages) as address:
        source = DetectorSource(address=address, window=window or Window(size_px=N))
        return [batch for batch in source if len(batch) or batch.unusable]


def joined(batches: list[FrameBatch]) -> FrameBatch:
    """All of them as one: how they are divided is up to the network."""
    numbers = np.concatenate([batch.numbers for batch in batches])
    return FrameBatch(numbers=numbers, patterns=np.concatenate([batch.patterns for batch in batches]))


@pytest.mark.parametrize(
    ("dtype", "encoding"),
    [
        *(("uint16", "bs16-lz4<"), ("uint32", "bs32-lz4<"), ("uint8", "bs8-lz4<"), ("uint16", "lz4<")),
        *(("uint32", "lz4<"), ("uint32", "<"), ("uint16", ">"), ("uint16", "bs16-lz4>")),
    ],
)
def test_frames_arrive_as_they_were(dtype: str, encoding: str) -> None:
    """In the machine's byte order, with their numbers; the axis that runs fastest is the last."""
    sent = frames(5, dtype, (N, 3 * N))
    messages = [header(), *(image(k, frame, encoding) for k, frame in enumerate(sent)), end()]

    batch = joined(received(messages, Window(size_px=N, centre_px=(N // 2, 20))))

    np.testing.assert_array_equal(batch.patterns, sent[:, :, 12 : 12 + N])
    assert batch.numbers.tolist() == [0, 1, 2, 3, 4]
    assert batch.patterns.dtype == ("uint16" if dtype == "uint8" else dtype)


def test_gaps_late_frames_and_broken_ones_are_told() -> None:
    """A frame that never comes, one out of turn, one that comes twice, and two that cannot be decoded."""
    sent = simulate(SimulationConfig(object_size_px=100, step_px=6, photons=1e5))
    patterns = sent.patterns.astype(np.uint16)
    messages = [image(k, patterns[k], "bs16-lz4<") for k in (0, 1, 4, 3, 4, 6)]
    broken = [image(k, patterns[k], "bs16-lz4<") for k in (7, 8)]
    broken[0][2] = broken[0][2][:12] + b"\xff" * 40
    broken[1][2] = b""
    store = FrameStore(sent)

    for batch in received([header(), *messages, *broken, end()], Window(size_px=sent.N)):
        store.add(batch, 0.0)

    state: StreamState = store.state
    assert store.numbers.tolist() == [0, 1, 4, 3, 6]
    assert (state.missing, state.late, state.repeated, state.unusable) == (2, 1, 1, 2)
    np.testing.assert_array_equal(store.scan().patterns, patterns[[0, 1, 3, 4, 6]])


@pytest.mark.parametrize(("lz4", "shuffled"), [(False, False), (True, False), (True, True)])
def test_broken_frames_may_come_alone(lz4: bool, shuffled: bool) -> None:
    """Where none of those that arrived together can be read, none is good, and the run goes on."""
    kind = Kind(shape=(4, 6), dtype=np.dtype("<u2"), lz4=lz4, shuffled=shuffled)

    found, good = decode([b"", b""], kind)

    assert (found.shape, good.tolist()) == ((2, 4, 6), [False, False])


def test_only_the_first_series_is_followed() -> None:
    """What is left of an earlier one comes before it; the beginning of the next one ends it, were its end lost."""
    sent = frames(4)
    messages = [end(6), header(7), image(0, sent[0]), image(1, sent[1]), header(8), image(0, sent[2], series=8)]

    batch = joined(received(messages))

    np.testing.assert_array_equal(batch.patterns, sent[:2])


def test_silence_ends_a_stream_that_has_begun() -> None:
    """Before the first frame it is waited for as long as it takes, and empty batches tell that time goes by."""
    clock = iter(range(10**6))
    with detector(image(0, frames(1)[0])) as address:
        source = DetectorSource(
            address=address,
            window=Window(size_px=N),
            patience_s=3.0,
            clock=lambda: float(next(clock)),
        )
        lengths = [len(batch) for batch in source]

    came = lengths.index(1)
    assert sum(lengths) == 1
    assert lengths[came + 1 :] == [0, 0], "the silence was not told"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            [b"\xd9\xd9\xf7\xa1dtypeeimage"],
            "found CBOR, as version 2 of the stream has it; set the",
        ),
        ([b"hello"], r"expected a JSON header.*found b'hello'"),
        ([FIRST], "message dimage: expected headers with series"),
        ([FIRST, b'{"shape":[2,2],"type":"uint16","encoding":"zstd<"}', b""], "encoding: expected"),
        ([FIRST, b'{"shape":[2,2],"type":"float32","encoding":"<"}', b""], "type: expected one of"),
        ([FIRST, b'{"shape":[2],"type":"uint16","encoding":"<"}', b""], r"shape: expected \[width"),
    ],
)
def test_what_is_not_of_the_protocol_is_refused(message: list[bytes], said: str) -> None:
    """With what was expected, and what to set where that is known."""
    with pytest.raises(ScanError, match=said):
        read_message(message, "tcp://detector:9999")


def test_frames_that_do_not_fit_are_refused() -> None:
    """Frames of another size need a centre, and a square about it has to lie within them."""
    message = [image(0, frames(1, shape=(20, 30))[0])]  # (H, W), told as [W, H]

    with pytest.raises(ScanError, match=r"found \(20, 30\); --centre ROW,COLUMN"):
        received(message)
    with pytest.raises(ScanError, match=r"16 px about \(10, 25\) within the frame, found frames \(20, 30\)"):
        received(message, Window(size_px=N, centre_px=(10, 25)))
    with pytest.raises(ScanError, match="address: expected tcp://HOST:PORT"):
        list(DetectorSource(address="tcp://nowhere", window=Window(size_px=N)))


def test_an_encoding_is_really_smaller() -> None:
    """The sample that the other tests send is compressed, so that they say something."""
    frame = frames(1)[0]
    assert len(content_of(frame, "bs16-lz4<")) < frame.nbytes


def test_the_command_follows_a_detector(tmp_path: Path) -> None:
    """From the socket to the usual files; the series ends the scan, and the address stands in the summary."""
    scan = simulate(SimulationConfig(object_size_px=100, step_px=6, photons=1e5))
    write_scan(scan, tmp_path / "like.npz")
    patterns = np.pad(scan.patterns.astype(np.uint16), ((0, 0), (3, 9), (5, 2)))
    sent = [image(k, frame, "bs16-lz4<") for k, frame in enumerate(patterns[:-1])]
    with detector(header(), *sent, end()) as address:
        code = main([
            "live", address, "--like", str(tmp_path / "like.npz"), "--output-dir", str(tmp_path / "out"),
            "--centre", "35,37", "--probe-rounds", "0", "--accelerator", "cpu", "--quiet",
        ])  # fmt: skip

    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert code == 0
    assert summary["figures"]["frames"] == scan.n_patterns - 1
    assert summary["inputs"]["source"] == address


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frames-at", "a"], "--frames-at: a detector sends frames alone"),
        (["--centre", "3"], "--centre 3: expected ROW,COLUMN in whole pixels"),
        (["--page-host", "0.0.0.0"], "--page-host without --page"),
        (["--page", "70000"], "--page 70000: expected a port from 0 to 65535"),
    ],
)
def test_flags_that_mean_nothing_are_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its name, before anything is waited for."""
    write_scan(simulate(SimulationConfig(object_size_px=90, step_px=9)), tmp_path / "like.npz")
    line = ["live", "tcp://127.0.0.1:9", "--like", str(tmp_path / "like.npz"), "--output-dir", str(tmp_path / "out")]

    assert main([*line, *words]) == 2
    assert said in capsys.readouterr().err
