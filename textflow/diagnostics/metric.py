"""DiagnosticMetric: a diagnostic's sums over batches and processes, as a torchmetrics Metric."""

from collections.abc import Callable
from typing import Any

import torch
from torchmetrics import Metric


class DiagnosticMetric(Metric):
    """Metric that concatenates named tuples of tensors over rows, and computes the result of all.

    `DiagnosticMetric(FlipCounts, lambda counts: {"flips": rollin_rates(counts, t).flip_rate})` measures a roll-in at t.

    Args:
        sums_type: named tuple type of a batch: Response, TubePositions, FlipCounts.
        compute_fn: concatenated named tuple -> values by name.
    """

    full_state_update = False

    def __init__(self, sums_type: Any, compute_fn: Callable[[Any], dict[str, Any]]) -> None:
        super().__init__()
        self.sums_type, self.compute_fn = sums_type, compute_fn
        for name in sums_type._fields:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, sums: tuple[torch.Tensor, ...]) -> None:
        """Add the named tuple of a batch."""
        for name, tensor in zip(self.sums_type._fields, sums, strict=True):
            getattr(self, name).append(tensor)

    def compute(self) -> dict[str, Any]:
        """Values over all batches of all processes."""
        rows = [getattr(self, name) for name in self.sums_type._fields]
        return self.compute_fn(self.sums_type(*(torch.cat(part) if isinstance(part, list) else part for part in rows)))
