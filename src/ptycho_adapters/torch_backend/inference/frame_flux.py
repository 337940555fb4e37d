"""Flux that differs from frame to frame, found by what an object explains of each frame's light.

A source that flickers, a late shutter: a frame is as a whole brighter or darker than those that see the same part
of the object. Given an object, the most likely flux of a frame is its light over the light that is expected. The object
has taken over what the frames around share of the difference; so network and flux take turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from ptycho_adapters.torch_backend.inference.whole_scan import STEPS_OF_A_GLANCE
from ptycho_adapters.torch_backend.parts import part
from ptycho_adapters.torch_backend.physics.canvas import extract
from ptycho_adapters.torch_backend.physics.optics import detected_rate, exit_waves

if TYPE_CHECKING:
    from ptycho_adapters.torch_backend.inference.whole_scan import WholeScan

_PATTERNS = 128  # around the middle say whether there is anything
_LEAST_SPREAD, _CLEAR_NOISES = 0.02, 3.0  # of the logarithm: of all, and of what shot noise leaves
_ROUNDS = 4
_LEAST_LIGHT = 1.0  # photons of a frame, so that a dark one has a logarithm
_FARTHEST = 30.0  # a factor, beyond which a frame's flux is not believed


@attrs.frozen(kw_only=True, eq=False)
class FrameLight:
    """The light of frames beside that which an object lets expect.

    Attributes:
        ratio: (n,) float64, measured over expected; the present flux of the frames is in the latter.
        noise: (n,) float64, standard deviation of its logarithm by shot noise alone.
    """

    ratio: Tensor
    noise: Tensor

    @property
    def clear(self) -> bool:
        """Whether the ratios differ by more than shot noise and the little that a rough object gets wrong."""
        spread = float(self.ratio.log().std())
        noise = float(self.noise.square().mean().sqrt())
        return spread > max(_LEAST_SPREAD, _CLEAR_NOISES * noise)


@part("frame flux")
def frame_light(scan_pass: WholeScan, object_: Tensor) -> FrameLight:
    """Compare the light of each frame, less the background, with that under an object.

    Args:
        scan_pass: patterns, probe and background.
        object_: (pixels,) complex64 on the pass' canvas.
    """
    scan, measured, expected = scan_pass.scan, [], []
    pixels = scan.size**2 if scan.good_pixels is None else scan.good_pixels.sum()
    for _, group in scan.gathered(scan_pass.indices, scan_pass.batch_size):
        where = scan_pass.canvas.indices(group.starts, scan_pass.origin, scan.size)
        rate = detected_rate(exit_waves(extract(object_[None], where, scan.size), group.probes(scan_pass.probe)))
        rate = rate if scan.good_pixels is None else rate * scan.good_pixels
        measured.append(group.counts[0].sum(dim=(-2, -1), dtype=torch.float64))
        expected.append(rate[0].sum(dim=(-2, -1), dtype=torch.float64))
    counts = torch.cat(measured)
    light = (counts - scan_pass.background * pixels).clamp_min(_LEAST_LIGHT)
    return FrameLight(
        ratio=light / torch.cat(expected).clamp_min(_LEAST_LIGHT), noise=counts.clamp_min(_LEAST_LIGHT).sqrt() / light
    )


def flux_step(scan_pass: WholeScan, object_: Tensor) -> WholeScan:
    """Give each frame the flux that is most likely under an object; their mean is 1."""
    return _brighter(scan_pass, frame_light(scan_pass, object_).ratio)


def flux_spread(scan_pass: WholeScan) -> float:
    """Standard deviation of the frames' flux over its mean; 0 where all are taken to be alike."""
    flux = scan_pass.scan.relative_flux
    return 0.0 if flux is None else float(flux[scan_pass.indices].double().std(correction=0))


def with_frame_flux(run: WholeScan, share: float) -> WholeScan:
    """Give each frame a flux of its own, if that explains the patterns clearly better.

    Args:
        run: a pass; flux that it has already is found anew.
        share: of the deviance above shot noise that has to go away; 0 looks for it even where the light differs by no
            more than shot noise.
    """
    even = attrs.evolve(run, scan=run.scan.lit(None))
    few = even.around_the_middle(_PATTERNS)
    object_, _ = few.stitch(STEPS_OF_A_GLANCE)
    light = frame_light(few, object_)
    if share and not light.clear:
        return even
    before = few.judge(object_)
    found = _in_turns(_brighter(few, light.ratio))
    after = found.glance()
    if before.deviance - after.deviance <= share * before.excess:
        return even
    if few is even:
        return found
    object_, _ = even.stitch(STEPS_OF_A_GLANCE)
    return _in_turns(flux_step(even, object_))


def _in_turns(run: WholeScan) -> WholeScan:
    for _ in range(_ROUNDS - 1):
        object_, _ = run.stitch(STEPS_OF_A_GLANCE)
        run = flux_step(run, object_)
    return run


def _brighter(run: WholeScan, ratio: Tensor) -> WholeScan:
    scan, own = run.scan, run.indices
    flux = torch.ones(len(scan.starts), device=ratio.device) if scan.relative_flux is None else scan.relative_flux
    new = flux[own].double() * ratio
    new = (new / new.median()).clamp(1.0 / _FARTHEST, _FARTHEST)
    return attrs.evolve(run, scan=scan.lit(flux.index_copy(0, own, (new / new.mean()).float())))
