"""Nets of FLM's family from tensors of the published code, at the recorded tau in place of t."""

from typing import Any

import torch
from torch import Tensor

from tests.helpers.recordings import constant
from textflow.codecs import OneHot
from textflow.convert.dit_layout import infer_sizes, map_weights
from textflow.nets.base import Denoiser
from textflow.nets.dit import DiT
from textflow.paths import LinearPath
from textflow.schedules import OneHotDecodeError, TimeSchedule
from textflow.types import Conditioning, Latents, Posterior, Times


def dit(official: dict[str, Tensor], **options: Any) -> DiT:
    """The published net."""
    sizes = infer_sizes(official)
    spans, weighting = (any(part in name for name in official) for part in ("_prime", "learnable"))
    net = DiT(OneHot(sizes.pop("vocab_size")), **sizes, two_time=spans, loss_weighting=weighting, **options)
    net.load_state_dict(map_weights(official))
    return net


def decode_error_schedule(config: dict[str, Any], vocab: int | None = None) -> OneHotDecodeError:
    """The recorded decode error: more quadrature points than the published 100 move t by up to 5e-4 in large
    vocabularies. The table is so fine that its interpolation adds nothing."""
    return OneHotDecodeError(vocab or config["V"], num_points=16_385, order=constant(config, "clock_order"))


def flm_path(config: dict[str, Any]) -> LinearPath:
    """The recorded path, t x + (1 - t) eps with velocities over 1 - t + velocity_eps."""
    return LinearPath(1.0, 0.0, constant(config, "velocity_eps"))


class AtRecordedTau(Denoiser):
    """A net at tau_i + slope_i (t - t_i) at the nearest recorded t_i."""

    def __init__(self, net: Denoiser, t: Tensor, tau: Tensor, slope: Tensor | None = None) -> None:
        super().__init__()
        self.net, self.dim = net, net.dim
        self.t, self.tau, self.slope = t, tau, torch.zeros_like(t) if slope is None else slope

    def tau_at(self, t: Times) -> Times:
        near = (t[:, None] - self.t).abs().argmin(1)
        return self.tau[near] + self.slope[near] * (t - self.t[near])

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        until = None if cond.end_time is None else self.tau_at(cond.end_time)
        return self.net(z, self.tau_at(t), cond._replace(end_time=until))


class Knots(TimeSchedule):
    """The law of time that has recorded shares tau at recorded times t, and is straight between them."""

    def __init__(self, t: Tensor, tau: Tensor) -> None:
        super().__init__()
        pairs = {0.0: 0.0, 1.0: 1.0} | dict(zip(t.tolist(), tau.tolist(), strict=True))
        self.t, self.tau = torch.tensor(sorted(pairs.items()), dtype=torch.float64).T.contiguous()

    def icdf(self, q: Tensor) -> Tensor:
        right = torch.searchsorted(self.tau, q.contiguous()).clamp(1, len(self.tau) - 1)
        low, high = self.tau[right - 1], self.tau[right]
        return torch.lerp(self.t[right - 1], self.t[right], (q - low) / (high - low))
