"""What a generator is, and how its steps are run on canvases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence  # noqa: TC003 - signatures are read at run time too
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import attrs
import torch
from torch import Tensor, nn

from ptycho_adapters.torch_backend.generators.calling import patches_from
from ptycho_adapters.torch_backend.parts import part
from ptycho_adapters.torch_backend.physics.canvas import add_patches, extract
from ptycho_adapters.torch_backend.physics.data_consistency import Asking
from ptycho_adapters.torch_backend.physics.optics import visible_amplitude

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@attrs.frozen(kw_only=True, eq=False)
class View:
    """Some patterns of each group, as a step sees them; no gradient is wanted through any of it.

    Attributes:
        amplitude: (B, C, N, N) float32, square root of counts, detector order, 0 at bad pixels.
        probes: (B, C, modes, N, N) complex64, in the same unit of flux, moved to their sub-pixel positions.
        weight: (B, C, N, N) float32, what an average of overlapping patches gives to each pixel.
        where: (B, C, N * N) int64, flat canvas indices of the patches.
        good_pixels: (N, N) float32, detector order, or (B, 1, N, N) where groups differ, or None if all are good.
        background: counts per pixel that do not come from the beam; (B, 1, 1, 1) float32 where groups differ.
        company: (B, C, M, N, N) float32, amplitudes of the M patterns that a generator sees beside each one; None where
            it sees none, or groups of its own size.
    """

    amplitude: Tensor
    probes: Tensor
    weight: Tensor
    where: Tensor
    good_pixels: Tensor | None
    background: float | Tensor = 0.0
    company: Tensor | None = None

    @cached_property
    def asking(self) -> Asking:
        """What the patterns ask the object for; kept, as each step asks anew."""
        return Asking(
            amplitude=self.amplitude,
            probes=self.probes,
            good_pixels=self.good_pixels,
            background=self.background,
        )


@attrs.frozen(kw_only=True, eq=False)
class Draft:
    """The object between two steps, one canvas per group.

    Attributes:
        object: (B, H, W) complex64.
        weight: (B, H, W) float32, the summed weight of the views.
        memory: (B, M, H, W) float32, what a step wants the next one to know.
    """

    object: Tensor
    weight: Tensor
    memory: Tensor

    def patches(self, where: Tensor, size: int) -> Tensor:
        """Cut the patches (B, C, size, size) that lie at flat canvas indices (B, C, size²)."""
        return extract(self.object.flatten(1), where, size)


class Step(Protocol):
    """A part of a generator: patterns give contributions, their sum on the canvas gives the next draft."""

    def contribution(self, view: View, patches: Tensor) -> Tensor:
        """Give what each pattern adds to the canvas, (B, C, N, N) complex64, in units of weight times object."""
        ...

    def combine(self, total: Tensor, draft: Draft) -> Draft:
        """Turn summed contributions (B, H, W) into the next draft."""
        ...


class Generator(nn.Module, ABC):
    """A network from diffraction amplitudes to object patches.

    A subclass implements `forward(amplitude, probes)`, which treats each pattern on its own:

    - amplitude: (B, C, N, N) float32, square root of counts, DC at N // 2;
    - probes: (B, C, modes, N, N) complex64, the illumination of each pattern, in the same unit of flux, moved to its
      sub-pixel position; no gradient is wanted through it;
    - result: (B, C, N, N) complex64 object patches on whole pixels, about 1 where the object is transparent.

    No attribute needs to be given; these are there for a network that differs.

    Attributes:
        memory_channels: canvas channels that its steps hand on.
        patchwise: whether patches are made one by one and then averaged.
        at_once_px: canvas pixels that a step treats at once where no gradient is wanted; None means all.
        together: patterns that it sees at once, neighbours on the object; `forward` takes a multiple of them.
        registered_as: name that it was built by; it is set then.
    """

    memory_channels: int = 0
    patchwise: bool = True
    at_once_px: int | None = None
    together: int = 1
    registered_as: str = ""

    @abstractmethod
    def forward(self, amplitude: Tensor, probes: Tensor) -> Tensor:
        """Map amplitudes to patches."""

    def steps(self) -> Sequence[Step]:
        """Parts that are run one after the other; by default one, which averages the patches of `forward`."""
        return (AveragedPatches(self),)


@attrs.frozen(eq=False)
class AveragedPatches:
    """The one step of a generator that makes patches: overlapping ones are averaged.

    Attributes:
        generator: makes the patches.
    """

    generator: Generator

    @part("network")
    def contribution(self, view: View, patches: Tensor) -> Tensor:
        """Give weighted patches, (B, C, N, N)."""
        del patches
        amplitude = visible_amplitude(_beam(view.amplitude, view.background), view.probes, view.good_pixels)
        made: Tensor
        if view.company is None:
            made = patches_from(self.generator, amplitude, view.probes)
        else:
            # The pattern comes first, and its own patch is what counts; a probe's flux does not see its position.
            probes = view.probes.unsqueeze(2)
            beside = visible_amplitude(_beam(view.company, view.background), probes, view.good_pixels)
            groups = torch.cat([amplitude.unsqueeze(2), beside], dim=2).flatten(0, 1)
            whole = patches_from(self.generator, groups, probes.flatten(0, 1).expand(-1, groups.shape[1], -1, -1, -1))
            made = whole[:, 0].reshape(amplitude.shape)
        return view.weight * made

    def combine(self, total: Tensor, draft: Draft) -> Draft:
        """Give the weighted mean, and ones where there is no weight."""
        mean = total / draft.weight.clamp_min(torch.finfo(draft.weight.dtype).tiny)
        return attrs.evolve(draft, object=torch.where(draft.weight > 0, mean, torch.ones_like(mean)))


def _beam(amplitude: Tensor, background: float | Tensor) -> Tensor:
    """Amplitude of what comes from the beam."""
    dark = not isinstance(background, Tensor) and background == 0
    return amplitude if dark else (amplitude.square() - background).clamp_min(0.0).sqrt()


def run_steps(
    generator: Generator,
    views: Callable[[], Iterable[View]],
    weight: Tensor,
    *,
    whole: Callable[[Tensor], Tensor] = lambda own: own,
) -> Iterator[tuple[Draft, Tensor]]:
    """Run a generator's steps on all views, each step once.

    Args:
        generator: the network.
        views: gives the views anew for each step; together they hold every pattern of the groups once.
        weight: (B, H, W) float32, the summed weight of all views.
        whole: makes the sum over all patterns of that over the views (B, H * W), where other processes have the rest.

    Yields:
        After each step the draft and the contributions (B, C, N, N) of the last view.
    """
    groups, height, width = weight.shape
    draft = Draft(
        object=torch.ones_like(weight, dtype=torch.complex64),
        weight=weight,
        memory=weight.new_zeros(groups, generator.memory_channels, height, width),
    )
    for step in generator.steps():
        total, added = torch.zeros_like(draft.object).flatten(1), torch.zeros_like(draft.object)
        for view in views():
            added = step.contribution(view, draft.patches(view.where, view.amplitude.shape[-1]))
            total = add_patches(total, added, view.where)
        draft = step.combine(whole(total).reshape(weight.shape), draft)
        yield draft, added
