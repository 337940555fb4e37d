"""What pages say to type, and how it is run: as it stands there, made short, on small scans.

Whatever a page says about numbers of groups, epochs and time is replaced by less. Words in capitals and `...` in
prose stand for files that are there. What would take too long all the same has `<!-- not run: reason -->` before its
block.
"""

from __future__ import annotations

import re
import shlex
import shutil
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters import write_scan
from ptycho_core.config import TorchInferenceConfig
from ptycho_core.measurement.scan import ScanMetadata
from ptycho_core.simulation.simulate import SimulationConfig, simulate

if TYPE_CHECKING:
    from pathlib import Path

SHORT = {"--n-groups": "8", "--max-time": "00:00:00:01", "--epochs": "1", "--probe-rounds": "0"}
NEEDED = {"train": ("--max-time", "--probe-rounds")}
STANDS_FOR = {
    "SCAN": "scan.npz",
    "MODEL": "model",
    "D": "halves",
    "IN": "scan.npz",
    "OUT": "converted.cxi",
    "...": "--train-data-file scan.npz --output-dir model --n-groups 8",
}
SHORT_PYTHON = {
    'max_time="00:00:10:00"': 'max_time="00:00:00:01"',
    '"n_groups": scan.n_patterns, "nepochs": 50': '"n_groups": 8, "nepochs": 1, "probe_rounds": 0',
    '"n_groups": 258': '"n_groups": 8, "probe_rounds": 0',
    '"n_groups": scan.n_patterns': '"n_groups": 8, "probe_rounds": 0',
    '"nepochs": 4': '"nepochs": 1, "max_time": "00:00:00:01"',
    "reconstruct(generalist_for(scan), scan)": "reconstruct(generalist_for(scan), scan, inference_config=ONE_PASS)",
    "reconstruct(model, scan)": "reconstruct(model, scan, inference_config=ONE_PASS)",
}
ONE_PASS = TorchInferenceConfig(
    probe_rounds=0,
    probe_autofocus=False,
    beam_search=False,
    background_counts=0.0,
    position_refinement="none",
    orientation_search="never",
    probe_search="never",
    flux_search="never",
    blur_search="never",
)
"""Nothing is looked for: each search has tests of its own, and this is what they would cost here."""
LENGTHS = ScanMetadata(pixel_size_m=1e-8, wavelength_m=1.5e-10, distance_m=2.0)
_NOT_RUN = re.compile(r"^<!-- not run: [^>]+-->\n\n?(?:(?: {4}.*)?\n)+", re.MULTILINE)
_BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)


def lines_of(text: str) -> list[str]:
    """The commands of a text: those of its blocks, and spans in backticks."""
    spans = [" ".join(span.split()) for span in re.findall(r"`(ptycho [^`]+)`", text)]
    return [*steps_of(text), *spans]


def steps_of(text: str) -> list[str]:
    """The commands that a reader types one after the other: whole lines of indented blocks, continuations joined."""
    joined = re.sub(r" *\\\n *", " ", _NOT_RUN.sub("", text))
    return re.findall(r"^ {4}(ptycho .*?)(?: +#.*)?$", joined, flags=re.MULTILINE)


def code_of(text: str) -> list[str]:
    """The blocks of Python in a text, with less to do; they want `ONE_PASS` as a name."""
    blocks = _BLOCK.findall(text)
    for long, less in SHORT_PYTHON.items():
        blocks = [block.replace(long, less) for block in blocks]
    return blocks


def short(line: str) -> list[str]:
    """A command's arguments, with less to do and without words that stand for something."""
    words = shlex.split(" ".join(STANDS_FOR.get(word, word) for word in line.split()))[1:]
    for flag in NEEDED.get(words[0], ()):
        words += [] if flag in words else [flag, SHORT[flag]]
    for flag, value in SHORT.items():
        if flag in words:
            words[words.index(flag) + 1] = value
    return words


def lay_out(folder: Path) -> None:
    """Write the scans that pages name; what is known of the other one is the object that made it."""
    (folder / "other_days").mkdir()
    for seed, name in enumerate(("scan.npz", "other_scan.npz", "monday.npz", "other_days/tuesday.npz")):
        scan = simulate(SimulationConfig(object_size_px=100, step_px=9, seed=seed, photons=1e5))
        write_scan(attrs.evolve(scan, metadata=LENGTHS), folder / name)
    (folder / "night").mkdir()
    for known, name in (("scan.npz", "first.npz"), ("other_scan.npz", "second.npz")):
        shutil.copy(folder / known, folder / "night" / name)
    for known, name in (("other_scan.npz", "known.npz"), ("scan.npz", "a.npz"), ("other_scan.npz", "b.npz")):
        shutil.copy(folder / known, folder / name)
