"""Meter: a diagnostic's sums over many batches and many processes, as a torchmetrics Metric."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torchmetrics import Metric

Part = TypeVar("Part", bound=tuple[Any, ...])
Result = TypeVar("Result")


class Meter(Metric, Generic[Part, Result]):
    """Collects named tuples of tensors whose first dimension counts rows, and says what they come to together.

    `Meter(Response, partial(summary, f=1.0, draws=8))` is DABI, `Meter(Flips, partial(rates, t=t))` a roll-in.

    Args:
        part: the named tuple of a batch: Response, Positions, Flips.
        finish: all rows as one part -> the result.
    """

    full_state_update = False

    def __init__(self, part: type[Part], finish: Callable[[Part], Result]) -> None:
        super().__init__()
        self.part, self.finish = part, finish
        for name in self.names:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors of a part."""
        return self.part._fields  # type: ignore[attr-defined]

    def update(self, seen: Part) -> None:
        """Adds a batch.

        Args:
            seen: its part.
        """
        for name, tensor in zip(self.names, seen, strict=True):
            getattr(self, name).append(tensor)

    def compute(self) -> Result:
        """The result of all batches of all processes."""
        held = [getattr(self, name) for name in self.names]
        return self.finish(self.part(*(torch.cat(rows) if isinstance(rows, list) else rows for rows in held)))
