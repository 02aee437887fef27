"""The decode-error schedule of one-hot latents in closed form (FLM, 2602.16813)."""

import numpy as np
import torch
from torch import Tensor

from textflow.schedules.base import TimeSchedule


class OneHotDecodeError(TimeSchedule):
    """tau(t) = V / (V - 1) (P - 1 / V), P the probability that argmax z_t is the token, z_t = t onehot + (1 - t) eps.

    P = int phi(x) Phi(x + t / (1 - t))^(V - 1) dx by Gauss-Hermite quadrature, on a table of times that is inverted by
    interpolation. tau is the accuracy of decoding at t, rescaled to 0 for pure noise and 1 for clean latents.

    Args:
        vocab_size: number of tokens V, at least 2.
        num_points: number of times in the table.
        order: number of quadrature points.
    """

    cdf: Tensor

    def __init__(self, vocab_size: int, num_points: int = 1025, order: int = 128) -> None:
        super().__init__()
        if vocab_size < 2:
            raise ValueError(f"OneHotDecodeError got vocab_size {vocab_size}; it needs at least 2 tokens")
        self.vocab_size = vocab_size
        nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(order))
        t = torch.linspace(0, 1, num_points, dtype=torch.float64)[:-1, None]
        log_phi = torch.special.log_ndtr(nodes + t / (1 - t))
        hit = (weights * torch.exp((vocab_size - 1) * log_phi)).sum(-1) / weights.sum()
        tau = vocab_size / (vocab_size - 1) * (hit - 1 / vocab_size)
        tau = torch.cat([tau, tau.new_ones(1)]).clamp(0, 1).cummax(0).values
        tau[0] = 0.0
        self.register_buffer("cdf", tau, persistent=False)

    def icdf(self, q: Tensor) -> Tensor:
        table = self.cdf.to(q.device)
        right = torch.searchsorted(table, q.contiguous()).clamp(1, len(table) - 1)
        low, high = table[right - 1], table[right]
        return ((right - 1 + (q - low) / (high - low).clamp_min(1e-300)) / (len(table) - 1)).clamp(0, 1)
