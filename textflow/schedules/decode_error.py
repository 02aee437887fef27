"""The readout-aware schedules: uniform in the readout's error rate, measured or in closed form."""

import numpy as np
import torch
from torch import Tensor

from textflow.paths.base import ProbPath
from textflow.schedules.base import Decode, TimeSchedule, argmax_tokens, interpolate_inverse
from textflow.types import Batch, Denoise, Latents


class DecodeError(TimeSchedule):
    """tau(t) = 1 - err(t) / err(0), err the fraction of tokens that the codec misreads from z_t.

    FLM (2602.16813) has it in closed form for one-hot latents; here it is measured, for any codec with a decoder.
    The CDF is (1 - uniform_mix) tau + uniform_mix t, made increasing and inverted by interpolation.

    Args:
        uniform_mix: weight of the uniform schedule, in (0, 1]; 1 is the uniform schedule.
        num_points: number of times at which the error is measured.
    """

    cdf: Tensor

    def __init__(self, uniform_mix: float = 0.1, num_points: int = 65) -> None:
        super().__init__()
        if not 0 < uniform_mix <= 1:
            raise ValueError(f"uniform_mix = {uniform_mix}: the schedule needs a weight of uniform time in (0, 1]")
        self.uniform_mix = uniform_mix
        self.register_buffer("cdf", torch.full((num_points,), torch.nan, dtype=torch.float64))

    @property
    def cache_key(self) -> str:
        return f"{super().cache_key}-{self.uniform_mix:g}"

    def assume_uniform(self) -> None:
        """Use the uniform schedule: for a dry run, whose codec is untrained."""
        self.cdf.copy_(torch.linspace(0, 1, len(self.cdf), dtype=torch.float64))

    @torch.no_grad()
    def fit(self, decode: Decode, path: ProbPath, x: Latents, batch: Batch, denoise: Denoise | None = None) -> None:
        eps, valid = torch.randn_like(x), batch.mask
        times = torch.linspace(0, 1, len(self.cdf), dtype=torch.float64)
        predictions = (argmax_tokens(decode, path.mix(x, eps, t)) for t in times.tolist())
        hits = [(ids == batch.ids)[valid].double().mean() for ids in predictions]
        gain = torch.stack(hits) - hits[0]
        if not gain[-1] > 0:
            raise ValueError(
                f"the codec decodes {hits[-1]:.1%} of the tokens from clean latents and {hits[0]:.1%} from noise: "
                "there is no decode error to follow; train the codec first or use the schedule LogitNormal"
            )
        tau = (gain / gain[-1]).clamp(0, 1).cummax(0).values
        self.cdf.copy_((1 - self.uniform_mix) * tau.to(self.cdf) + self.uniform_mix * times.to(self.cdf))

    def icdf(self, q: Tensor) -> Tensor:
        if not self.fitted:
            raise ValueError("the schedule DecodeError is not measured yet: `textflow fit` measures it before training")
        return interpolate_inverse(self.cdf.to(q.device), q)


class OneHotDecodeError(TimeSchedule):
    """tau(t) = V / (V - 1) (P - 1 / V), P the probability that argmax z_t is the token, z_t = t onehot + (1 - t) eps:
    DecodeError of one-hot latents in closed form (FLM, 2602.16813).

    P = int phi(x) Phi(x + t / (1 - t))^(V - 1) dx by Gauss-Hermite quadrature, on a table of times that is inverted by
    interpolation. tau is the accuracy of decoding at t, rescaled to 0 for pure noise and 1 for clean latents.

    Args:
        vocab_size: number of tokens V, at least 2; default: that of the model's codec.
        num_points: number of times in the table.
        order: number of quadrature points (FLM: 100, which is 8e-5 from tau at 50,257 tokens).
    """

    cdf: Tensor

    def __init__(self, vocab_size: int | None = None, num_points: int = 1025, order: int = 128) -> None:
        super().__init__()
        self.vocab_size: int | None = None
        self.num_points, self.order = num_points, order
        self.register_buffer("cdf", torch.full((num_points,), torch.nan, dtype=torch.float64), persistent=False)
        if vocab_size is not None:
            self.build(vocab_size)

    def build(self, vocab_size: int) -> None:
        if self.vocab_size is not None:  # a given number stays
            return
        if vocab_size < 2:
            raise ValueError(f"OneHotDecodeError got vocab_size {vocab_size}; it needs at least 2 tokens")
        self.vocab_size = vocab_size
        nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(self.order))
        t = torch.linspace(0, 1, self.num_points, dtype=torch.float64, device="cpu")[:-1, None]  # the nodes are there
        log_phi = torch.special.log_ndtr(nodes + t / (1 - t))
        hit = (weights * torch.exp((vocab_size - 1) * log_phi)).sum(-1) / weights.sum()
        tau = vocab_size / (vocab_size - 1) * (hit - 1 / vocab_size)
        tau = torch.cat([tau, tau.new_ones(1)]).clamp(0, 1).cummax(0).values
        tau[0] = 0.0
        self.cdf = tau

    def icdf(self, q: Tensor) -> Tensor:
        if self.vocab_size is None:
            raise ValueError("OneHotDecodeError has no vocab_size: give it, or make the schedule a part of a Generator")
        return interpolate_inverse(self.cdf.to(q.device), q)
