"""A trained model as a value."""

from __future__ import annotations

import attrs

from ptycho_adapters.common.model import ModelRecord
from ptycho_adapters.torch_backend.generators import Generator


@attrs.frozen(kw_only=True, eq=False)
class TrainedModel(ModelRecord):
    """What a training with torch leaves behind.

    Attributes:
        generator: the network, in evaluation mode, on the CPU.
    """

    generator: Generator

    @property
    def n_weights(self) -> int:
        """Number of weights of the network."""
        return sum(parameter.numel() for parameter in self.generator.parameters())

    @classmethod
    def of(cls, record: ModelRecord, generator: Generator) -> TrainedModel:
        """Put a network to what is known about it."""
        known = {field.name: getattr(record, field.name) for field in attrs.fields(ModelRecord)}
        return cls(**known, generator=generator)
