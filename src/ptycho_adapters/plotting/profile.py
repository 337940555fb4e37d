"""Where the time of a run went, as numbers and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.atomic import atomic_path, write_bytes
from ptycho_adapters.plotting.figures import blank, write_png

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

_LEAST_SHARE = 0.001  # of all: what is less is not drawn
_MOST_STAGES = 14


@attrs.frozen(kw_only=True, eq=False)
class Profile:
    """Seconds of a run.

    Attributes:
        wall_s: from its first to its last moment, without the watching.
        watching_s: that the watching itself took.
        host_s: on the processor, by what for.
        device_s: on a GPU, by what for; empty without one.
        device: name of the GPU.
        stages: what each stage said when it ended, without the watching.
    """

    wall_s: float
    watching_s: float
    host_s: Mapping[str, float]
    device_s: Mapping[str, float]
    device: str | None
    stages: tuple[Mapping[str, str | int | float], ...]


def write_profile_json(profile: Profile, path: Path) -> None:
    """Write a profile as JSON, atomically."""
    write_bytes(path, json.dumps(attrs.asdict(profile), indent=2, ensure_ascii=False).encode() + b"\n")


def write_profile_png(profile: Profile, path: Path) -> None:
    """Draw what the time was for beside how long the stages took.

    Args:
        profile: of a run.
        path: PNG file; written atomically.
    """
    panels = [("on the processor", profile.host_s)]
    if profile.device_s:
        panels.append((f"on {profile.device}", profile.device_s))
    panels.append(("stages; one that is within another stands before it", _stages(profile)))
    figure = blank((6.0 * len(panels), 4.6), dpi=120)
    for axes, (title, seconds) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _bars(axes, seconds, profile.wall_s, title)
    figure.suptitle(f"{profile.wall_s:.3g} s; the watching took another {profile.watching_s:.3g} s")
    with atomic_path(path) as partial:
        write_png(figure, partial)


def _stages(profile: Profile) -> dict[str, float]:
    """Sum up the stages of one name within one other, the longest of them, in the order of their first ends."""
    seconds: dict[str, float] = {}
    for each in profile.stages:
        within = f"{each['within']} / " if each.get("within") not in (None, "run") else ""
        name = f"{within}{each['stage']}"
        seconds[name] = seconds.get(name, 0.0) + float(each["seconds"])
    longest = sorted(seconds, key=lambda name: -seconds[name])[:_MOST_STAGES]
    return {name: seconds[name] for name in seconds if name in longest}


def _bars(axes: Axes, seconds: Mapping[str, float], wall_s: float, title: str) -> None:
    shown = {name: value for name, value in seconds.items() if value > _LEAST_SHARE * wall_s}
    bars = axes.barh(list(shown), list(shown.values()), color="tab:blue")
    axes.bar_label(bars, [f" {value:.2g} s, {value / wall_s:.0%}" for value in shown.values()], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_xlabel("seconds")
    axes.set_title(title, fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
