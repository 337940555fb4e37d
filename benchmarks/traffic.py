"""Bytes that the operations of a piece of work read and write, had each of them all its data from memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Callable


class Traffic(TorchDispatchMode):
    """Counts what passes by.

    Attributes:
        bytes: read and written so far; a view moves none.
        operations: that moved some.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.operations = 0, 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 - whatever the operation gives
        """Run an operation and count its tensors."""
        del types
        made = func(*args, **(kwargs or {}))
        given = [each for each in tree_leaves((args, kwargs or {})) if isinstance(each, torch.Tensor)]
        results = [each for each in tree_leaves(made) if isinstance(each, torch.Tensor)]
        lent = {each.untyped_storage().data_ptr() for each in given}
        new = [each for each in results if each.untyped_storage().data_ptr() not in lent]
        in_place = func.__name__.split(".")[0].endswith("_")
        if new or in_place:
            self.bytes += sum(each.numel() * each.element_size() for each in (*given, *(new or results)))
            self.operations += 1
        return made
