"""Batch normalisation over the valid positions of rows."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class MaskedBatchNorm(nn.BatchNorm1d):
    """Each coordinate normalised over valid positions, with running statistics and without learned scales.

    Args:
        dim: number of coordinates.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, affine=False, momentum=0.01)

    def forward(self, x: Float[Tensor, "B S d"], valid: Bool[Tensor, "B S"]) -> Float[Tensor, "B S d"]:  # type: ignore[override]
        """x normalised by the statistics of valid positions, with BatchNorm's update of the running statistics. Shapes
        do not depend on the number of valid positions, so the host does not wait for a GPU."""
        if not self.training:
            return self.by_running(x)
        each, n = valid[..., None], valid.sum().clamp_min(1)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        mean = torch.where(each, x, 0.0).sum((0, 1)) / n
        var = torch.where(each, x - mean, 0.0).square().sum((0, 1)) / n
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1).clamp_min(1), self.momentum)
            self.num_batches_tracked.add_(1)
        return (x - mean) * (var + self.eps).rsqrt()

    def by_running(self, x: Float[Tensor, "B S d"]) -> Float[Tensor, "B S d"]:
        """x normalised by the running statistics, which stay as they are."""
        return nn.functional.batch_norm(x.flatten(0, 1), self.running_mean, self.running_var, eps=self.eps).view_as(x)
