"""Meter: a diagnostic's sums over many batches and many processes, as a torchmetrics Metric."""

from collections.abc import Callable
from typing import Any

import torch
from torchmetrics import Metric


class Meter(Metric):
    """Collects named tuples of tensors whose first dimension counts rows, and says what they come to together.

    `Meter(Flips, lambda seen: {"flips": rates(seen, t).flip})` measures a roll-in at t.

    Args:
        part: the named tuple of a batch: Response, Positions, Flips.
        finish: all rows as one part -> numbers by name.
    """

    full_state_update = False

    def __init__(self, part: Any, finish: Callable[[Any], dict[str, Any]]) -> None:
        super().__init__()
        self.part, self.finish = part, finish
        for name in self.names:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors of a part."""
        return self.part._fields

    def update(self, seen: tuple[torch.Tensor, ...]) -> None:
        """Adds a batch.

        Args:
            seen: its part.
        """
        for name, tensor in zip(self.names, seen, strict=True):
            getattr(self, name).append(tensor)

    def compute(self) -> dict[str, Any]:
        """The numbers of all batches of all processes."""
        held = [getattr(self, name) for name in self.names]
        return self.finish(self.part(*(torch.cat(rows) if isinstance(rows, list) else rows for rows in held)))
