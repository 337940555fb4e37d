"""What the tests of the pretraining draw groups from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ptycho_adapters.pretraining.material import Material
    from ptycho_adapters.pretraining.resident import ResidentMaterial


@pytest.fixture(scope="session")
def material() -> Material:
    """A little of everything."""
    from pretraining_sample import little_material  # noqa: PLC0415 - torch takes seconds

    return little_material()


@pytest.fixture(scope="session")
def resident(material: Material) -> ResidentMaterial:
    """The same as tensors."""
    import torch  # noqa: PLC0415 - see above

    from ptycho_adapters.pretraining.resident import to_device  # noqa: PLC0415 - see above

    return to_device(material, torch.device("cpu"))
