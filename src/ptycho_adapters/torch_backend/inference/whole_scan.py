"""A generator's pass over a whole scan: every pattern once in each step, one canvas, batches of bounded size."""

from __future__ import annotations

import math
from functools import cached_property
from itertools import islice, repeat
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from torch import Tensor

from ptycho_adapters.common.candidates import COVERED, Judgement
from ptycho_adapters.crew import Crew
from ptycho_adapters.torch_backend.data.resident import Canvas, Gathered, ResidentScan
from ptycho_adapters.torch_backend.execution import network_precision, precision_on
from ptycho_adapters.torch_backend.finish.posterior import Measured
from ptycho_adapters.torch_backend.generators import Generator, View, run_steps
from ptycho_adapters.torch_backend.generators.calling import name_of
from ptycho_adapters.torch_backend.parts import part
from ptycho_adapters.torch_backend.physics.canvas import add_patches, extract
from ptycho_adapters.torch_backend.physics.optics import (
    BACKGROUND_COUNTS,
    expected_counts,
    light_of,
    poisson_deviance,
)
from ptycho_adapters.torch_backend.physics.shot_noise import expected_misfit
from ptycho_adapters.torch_backend.sharing import summed
from ptycho_core.errors import NotFiniteError, Problem
from ptycho_core.measurement.grouping import Grouping, group_positions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from ptycho_adapters.common.bars import Bar
    from ptycho_core.config import PyTorchExecutionConfig, TorchInferenceConfig

STEPS_OF_A_GLANCE = 4
"""Of a generator, whose object they show roughly."""

_BATCH_ON_CPU = 8  # patterns whose fields stay in the processor's cache
_BATCH_ON_GPU = 256
_KEPT_BYTES = 3 * 2**29  # views up to this much are made once, not anew for each step
_KEPT_OF_A_FILE_BYTES = 2**28  # the same where patterns stay in their file, to spare memory
_LIT = 1e-3  # of a probe's peak intensity: darker pixels have no say in an even average


@attrs.frozen(kw_only=True, eq=False)
class WholeScan:
    """One pass: network, patterns, probe and canvas on a device.

    Attributes:
        generator: the network.
        scan: the patterns.
        probe: (modes, N, N) complex64 at the scan's flux.
        canvas: holds every patch.
        origin: (2,) int64, object pixel of the canvas' corner.
        indices: (n,) int64, the patterns that take part.
        batch_size: patterns at a time.
        precision: of the network.
        uniform: average overlapping patches evenly over what is lit, not by the light on them.
        background: counts per pixel that do not come from the beam.
        crew: the processes of which each goes through its part of the patterns; their canvases are added up once in
            each step. What is not `stitch` or `judge`, every process does by itself.
    """

    generator: Generator
    scan: ResidentScan
    probe: Tensor
    canvas: Canvas
    origin: Tensor
    indices: Tensor
    batch_size: int
    precision: str
    uniform: bool
    background: float = 0.0
    crew: Crew = attrs.field(factory=Crew)

    @property
    def looks(self) -> int:
        """Batches that all steps of the network look at, one after the other, in this process."""
        return len(self.generator.steps()) * self.n_batches

    @property
    def n_batches(self) -> int:
        """Batches that this process' patterns make."""
        return -(-len(self._own) // self.batch_size)

    def stitch(self, steps: int | None = None, *, bar: Bar | None = None) -> tuple[Tensor, Tensor]:
        """Run the generator's steps.

        Args:
            steps: how many, for a rough look; None runs all.
            bar: counts the batches along.

        Returns:
            The object and the summed probe intensity on it, both flat (pixels,).
        """
        views = self._views if bar is None else lambda: bar.along(self._views())
        shape = (1, self.canvas.height, self.canvas.width)
        weight = self._summed((self._weight(light), where) for light, where in self._lights()).reshape(shape)
        coverage = self._summed(self._lights()).reshape(shape) if self.uniform else weight
        object_ = torch.ones_like(weight, dtype=torch.complex64)
        with network_precision(self.precision, self.probe.device):
            for draft, _ in islice(run_steps(self.generator, views, weight, whole=self._over_all), steps):
                object_ = draft.object
        return object_.reshape(-1), coverage.reshape(-1)

    @part("misfit")
    def judge(self, object_: Tensor, *, bar: Bar | None = None) -> Judgement:
        """Compare the counts that an object (pixels,) implies with the measured ones, without a truth.

        Args:
            object_: what is judged.
            bar: counts the batches along.

        Raises:
            NotFiniteError: the object has values that are not finite.
        """
        check_finite(object_, self.generator)
        n_patterns, device = len(self.indices), object_.device
        own = self.crew.share(n_patterns)
        n_batches = self.n_batches
        # Places for all of them: small pieces by the hundred thousand would take far more.
        deviance, floors = (
            torch.zeros(n_batches, device=device),
            torch.zeros(n_batches, 2, dtype=torch.float64, device=device),
        )
        difference, measured = (torch.zeros(n_patterns, device=device) for _ in range(2))
        good = self.scan.good_pixels
        for number, view in enumerate(self._views() if bar is None else bar.along(self._views())):
            first = own.start + number * self.batch_size
            some = slice(first, first + view.amplitude.shape[1])
            patches = extract(object_[None], view.where, self.scan.size)
            expected = expected_counts(patches, view.probes, self.background + BACKGROUND_COUNTS)
            patterns = view.amplitude.shape[1]
            deviance[number] = poisson_deviance(expected, view.amplitude.square(), good) * patterns
            floors[number] = torch.stack([_good_sum(each, good) for each in expected_misfit(expected)])
            gap = (expected.sqrt() - view.amplitude).abs()
            difference[some] = (gap if good is None else gap * good)[0].sum(dim=(-2, -1))
            measured[some] = view.amplitude[0].sum(dim=(-2, -1))
        gaps, amplitudes = (self._over_all(each).cpu().double() for each in (difference, measured))
        pixels = self.scan.size**2 if good is None else float(good.sum())
        floor_deviance, floor_gap = self._over_all(floors.sum(dim=0)).cpu().tolist()
        return Judgement(
            metrics={
                "deviance_per_px": float(self._over_all(deviance.sum()) / n_patterns),
                "r_factor": float(gaps.sum() / amplitudes.sum()),
                "expected_deviance_per_px": floor_deviance / (n_patterns * pixels),
                "expected_r_factor": floor_gap / float(amplitudes.sum()),
            },
            r_factors=(gaps / amplitudes).numpy(),
        )

    def amplitudes_at_a_glance(self) -> tuple[Tensor, Tensor]:
        """Roots of the counts that the object which the generator's first steps make implies, and of the measured ones.

        Returns:
            Both (n, N, N) float32, 0 where a pixel is bad.
        """
        object_, good = self.stitch(STEPS_OF_A_GLANCE)[0], self.scan.good_pixels
        check_finite(object_, self.generator)
        expected, measured = [], []
        for view in self._views():
            patches = extract(object_[None], view.where, self.scan.size)
            expected.append(expected_counts(patches, view.probes, self.background + BACKGROUND_COUNTS).sqrt()[0])
            measured.append(view.amplitude[0])
        both = torch.cat(expected), torch.cat(measured)
        return both if good is None else (both[0] * good, both[1] * good)

    def judge_itself(self, steps: int | None = None) -> Judgement:
        """Judge the object that the generator makes now, in all of its steps or in the first ones."""
        return self.judge(self.stitch(steps)[0])

    def glance(self) -> Judgement:
        """Judge the object after the generator's first steps, for comparison with other glances alone.

        What is wrong with a scan costs as much of the misfit after a third of the shipped network's steps as after all.
        """
        return self.judge_itself(STEPS_OF_A_GLANCE)

    def around_the_middle(self, patterns: int) -> WholeScan:
        """The same pass over so many patterns, those nearest to the mean position, on a canvas of their own.

        Half as many again are left as they are: going through all of them costs less than going through some twice.
        """
        if len(self.indices) <= patterns + patterns // 2:
            return self
        starts = self.scan.starts[self.indices]
        distance = (starts - starts.double().mean(dim=0)).square().sum(dim=1)
        near = torch.sort(distance.argsort(stable=True)[:patterns]).values
        return _on_its_canvas(attrs.evolve(self, indices=self.indices[near], crew=Crew()))

    def moved(self, moves_px: Tensor) -> WholeScan:
        """The same pass with its patterns moved by (n, 2) pixels, on a canvas that holds them."""
        return _on_its_canvas(attrs.evolve(self, scan=self.scan.moved(self.indices, moves_px)))

    def measured(self) -> Measured:
        """The patterns of the pass, and where they lie on its canvas, as a finish takes them."""
        return Measured(
            scan=self.scan,
            indices=self.indices,
            canvas=self.canvas,
            origin=self.origin,
            batch_size=self.batch_size,
            background=self.background,
        )

    def positions_px(self) -> Tensor:
        """Positions (n, 2) float64 of the patterns that take part, (y, x) in object pixels."""
        return self.scan.positions_px(self.indices)

    def _views(self) -> Iterable[View]:
        """Views of all patterns, kept where there is room, else made anew each time."""
        return self._kept_views if self._views_fit else self.made_views()

    @property
    def _views_fit(self) -> bool:
        modes, size = self.probe.shape[0], self.scan.size
        # Probes and what they bring back, amplitudes, measured moduli, weight, canvas indices.
        bytes_per_pixel = 16 * modes + 4 * self.generator.together + 4 + 4 + 8
        most = _KEPT_OF_A_FILE_BYTES if self.scan.reads else _KEPT_BYTES
        return len(self._own) * size * size * bytes_per_pixel <= most

    def _lights(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the light (1, b, N, N) on batches of patches with where they lie; no pattern is looked at."""
        if self._views_fit:
            yield from ((light_of(view.probes), view.where) for view in self._kept_views)
            return
        own = self._own
        for first in range(0, len(own), self.batch_size):
            batch = own[None, first : first + self.batch_size]
            probes = self.scan.probes(self.probe, batch)
            yield light_of(probes), self.canvas.indices(self.scan.starts[batch], self.origin, self.scan.size)

    def _weight(self, light: Tensor) -> Tensor:
        """Say what an average of overlapping patches gives to each pixel, by the light on it."""
        return _lit(light) if self.uniform else light

    @cached_property
    def _kept_views(self) -> tuple[View, ...]:
        return tuple(self.made_views())

    def made_views(self) -> Iterator[View]:
        """Make views of this process' patterns, a batch each."""
        batches = self.scan.gathered(self._own, self.batch_size)
        company = repeat(None) if self._company is None else self._company.split(self.batch_size)
        for (_, group), beside in zip(batches, company, strict=False):
            yield self._view(group, beside)

    @part("data")
    def _view(self, group: Gathered, company: Tensor | None) -> View:
        probes = group.probes(self.probe)
        return View(
            amplitude=group.counts.sqrt(),
            probes=probes,
            weight=self._weight(light_of(probes)),
            where=self.canvas.indices(group.starts, self.origin, self.scan.size),
            good_pixels=self.scan.good_pixels,
            background=self.background,
            company=None if company is None else self._beside(company),
        )

    @property
    def _own(self) -> Tensor:
        """The patterns that this process goes through."""
        own = self.crew.share(len(self.indices))
        return self.indices[own.start : own.stop]

    def _over_all(self, own: Tensor) -> Tensor:
        return summed(own, self.crew)

    @cached_property
    def _company(self) -> Tensor | None:
        """Scan indices (m, M) of some patterns nearest to each own one, for a network that sees several together."""
        together = self.generator.together
        if together == 1:
            return None
        nearest = Grouping(
            n_groups=len(self.indices),
            gridsize=math.isqrt(together),
            neighbor_count=together,
            seed=0,
            sequential_sampling=True,
        )
        groups = group_positions(self.positions_px().cpu().numpy(), nearest)
        own = self.crew.share(len(self.indices))
        beside = torch.tensor(groups.indices[own.start : own.stop, 1:], dtype=torch.int64, device=self.indices.device)
        return self.indices[beside]

    def _beside(self, company: Tensor) -> Tensor:
        """Amplitudes (1, b, M, N, N) of the company (b, M) of a batch."""
        size = self.scan.size
        return self.scan.gather(company).counts.sqrt().reshape(1, *company.shape, size, size)

    def _summed(self, patches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        total = torch.zeros(1, self.canvas.pixels, device=self.probe.device)
        for values, where in patches:
            add_patches(total, values, where)
        return self._over_all(total)


def check_finite(object_: Tensor, generator: Generator) -> None:
    """Refuse an object (pixels,) that is not finite everywhere, by the name of the network that made it.

    Raises:
        NotFiniteError: it is not.
    """
    finite = object_.isfinite()
    if bool(finite.all()):
        return
    share = 1.0 - float(finite.float().mean())
    problem = Problem(
        path="object",
        expected=f"finite values of {name_of(generator)}",
        found=f"{share:.0%} of the pixels NaN or infinite",
        fix="train it again with a lower --learning-rate, or look at what its forward makes of these patterns",
    )
    raise NotFiniteError("reconstruction", [problem])


def where_lit(object_: Tensor, coverage: Tensor) -> tuple[Tensor, Tensor]:
    """Transparency and no coverage where too little light fell, in the network's scale, which is that of every scan."""
    lit = coverage > COVERED * coverage.max()
    return torch.where(lit, object_, torch.ones_like(object_)), torch.where(lit, coverage, torch.zeros_like(coverage))


def _on_its_canvas(run: WholeScan) -> WholeScan:
    """The same pass on the smallest canvas that holds its patches."""
    starts = run.scan.starts[run.indices]
    lowest, highest = starts.amin(dim=0), starts.amax(dim=0)
    height, width = (highest - lowest + run.scan.size).tolist()
    return attrs.evolve(run, canvas=Canvas(height=int(height), width=int(width)), origin=lowest)


def _lit(light: Tensor) -> Tensor:
    """1 where a pixel (..., N, N) is lit, else 0."""
    return (light > _LIT * light.amax(dim=(-2, -1), keepdim=True)).to(light.dtype)


def _good_sum(values: Tensor, good: Tensor | None) -> Tensor:
    return (values if good is None else values * good).sum(dtype=torch.float64)


class PassFactory:
    """Builds passes that differ only in probe and patterns.

    Attributes:
        scan: the patterns.
        chosen: (n,) those that take part.
        batch_size: patterns at a time.
    """

    def __init__(
        self,
        generator: Generator,
        scan: ResidentScan,
        chosen: NDArray[np.int64],
        execution: PyTorchExecutionConfig,
        settings: TorchInferenceConfig,
    ) -> None:
        self._generator = generator
        self.scan = scan
        self.chosen = chosen
        self._precision = precision_on(execution)
        self._device = scan.device
        default = _BATCH_ON_CPU if self._device.type == "cpu" else _BATCH_ON_GPU
        self.batch_size = execution.inference_batch_size or settings.batch_size or default
        self._uniform = settings.patch_weighting == "uniform"

    def __call__(self, probe: NDArray[np.complex64], indices: NDArray[np.int64], background: float = 0.0) -> WholeScan:
        """Build a pass with a probe (modes, N, N) over some scan indices."""
        starts = self.scan.starts_on_host()[indices]
        height, width = np.ptp(starts, axis=0) + self.scan.size
        return WholeScan(
            generator=self._generator,
            scan=self.scan,
            probe=torch.tensor(probe, device=self._device),
            canvas=Canvas(height=int(height), width=int(width)),
            origin=torch.tensor(starts.min(axis=0), device=self._device),
            indices=torch.tensor(indices, device=self._device),
            batch_size=self.batch_size,
            precision=self._precision,
            uniform=self._uniform,
            background=background,
        )
