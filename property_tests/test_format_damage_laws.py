"""Whatever bytes change in a file of any format, reading and inspecting it end well or in our own error."""

from __future__ import annotations

import tempfile
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from format_samples import SAMPLES, Sample
from ptycho_adapters.cli import parse
from ptycho_adapters.command_line.scan_source import read_source
from ptycho_adapters.commands.inspect import look_at
from ptycho_adapters.files.raw.frames import raw_frames
from ptycho_core.errors import PtychoError

# Each example is read three times, in every format.
_EXAMPLES = max(1, (settings.default or settings()).max_examples // 10)
_HEADS = (64, 600, 4096, 1 << 30)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The same bytes, a few changed, mostly where files say what they are, a number made extreme, or the end cut."""
    made = bytearray(content)
    within = st.integers(0, min(len(made), draw(st.sampled_from(_HEADS))) - 1)
    match draw(st.sampled_from(("bytes", "number", "cut"))):
        case "bytes":
            for place in draw(st.lists(within, min_size=1, max_size=8)):
                made[place] = draw(st.integers(0, 255))
        case "number":
            place, width = draw(within), draw(st.sampled_from((2, 4, 8)))
            made[place : place + width] = draw(st.sampled_from((b"\xff", b"\0", b"\x7f"))) * width
        case _:
            del made[draw(st.integers(0, len(made) - 1)) :]
    return bytes(made)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
@given(data=st.data())
@settings(max_examples=_EXAMPLES)
def test_damage_ends_in_one_kind_of_error(sample: Sample, data: st.DataObject) -> None:
    """Nothing but our own errors comes out, and the file stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        path = sample.save(Path(folder))
        typed = parse(["inspect", str(path), *sample.typed(Path(folder))])[1]
        files = [path] if path.is_file() else sorted(path.iterdir())
        file = data.draw(st.sampled_from(files))
        content = data.draw(damaged(file.read_bytes()))
        file.write_bytes(content)

        for attempt in (
            lambda: read_source(typed, path),
            lambda: look_at(path, typed),
            lambda: deque(raw_frames(path).read(), maxlen=0),
        ):
            try:
                attempt()
            except PtychoError as error:
                assert path.name in str(error)  # noqa: PT017 - success is fine too
        assert file.read_bytes() == content
