"""Nets of FLM's family from tensors of the published code, told the recorded tau in place of t."""

from typing import Any

import torch
from torch import Tensor

from textflow.codecs import OneHot
from textflow.nets.base import Denoiser
from textflow.nets.dit import DiT
from textflow.paths import ProbPath
from textflow.paths.base import broadcast_time
from textflow.schedules import OneHotDecodeError, TimeSchedule
from textflow.types import Conditioning, Latents, Posterior, Times

NAMES = {
    "vocab_embed.embedding": "embed",
    "sigma_map_prime.": "end_t_embed.",
    "sigma_map.": "t_embed.",
    "learnable_loss_weighting.s_embed.": "loss_weighting.t_embed.",
    "learnable_loss_weighting.": "loss_weighting.",
    "output_layer.norm_final.": "norm.",
    "output_layer.adaLN_modulation.": "out_modulation.",
    "output_layer.linear.": "out.",
}
INNER = {"attn_qkv": "qkv", "attn_out": "proj"}


def dit_name(official: str) -> str:
    """Our name of a parameter of FLM, FMLM or MDLM."""
    for old, new in NAMES.items():
        if official.startswith(old):
            return new + official[len(old) :]
    for old, new in INNER.items():
        official = official.replace(old, new)
    return official


def dit(official: dict[str, Tensor], **options: Any) -> DiT:
    """The published net."""
    tokens, width = official["vocab_embed.embedding"].shape
    heads = width // (2 * official["rotary_emb.inv_freq"].numel())
    depth = 1 + max(int(name.split(".")[1]) for name in official if name.startswith("blocks."))
    cond = official["sigma_map.mlp.0.bias"].numel()
    spans, weighting = (any(part in name for name in official) for part in ("_prime", "learnable"))
    net = DiT(OneHot(tokens), width, depth, heads, cond, spans, loss_weighting=weighting, **options)
    net.load_state_dict({dit_name(n): t for n, t in official.items() if "inv_freq" not in n})
    return net


def decode_error_schedule(vocab: int) -> OneHotDecodeError:
    """The published decode error, of 100 quadrature points: more points move t by up to 5e-4 in large vocabularies."""
    return OneHotDecodeError(vocab, 16_385, order=100)


class Told(Denoiser):
    """A net that is told tau_i + slope_i (t - t_i) at the nearest recorded t_i."""

    def __init__(self, net: Denoiser, t: Tensor, tau: Tensor, slope: Tensor | None = None) -> None:
        super().__init__()
        self.net, self.dim = net, net.dim
        self.t, self.tau, self.slope = t, tau, torch.zeros_like(t) if slope is None else slope

    def tell(self, t: Times) -> Times:
        near = (t[:, None] - self.t).abs().argmin(1)
        return self.tau[near] + self.slope[near] * (t - self.t[near])

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        until = None if cond.end_time is None else self.tell(cond.end_time)
        return self.net(z, self.tell(t), cond._replace(end_time=until))


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


class Shifted(ProbPath):
    """FLM's path: z_t = t x + (1 - t) eps, with velocities over 1 - t + 1e-5."""

    def alpha(self, t: Tensor) -> Tensor:
        return t

    def sigma(self, t: Tensor) -> Tensor:
        return 1 - t

    def velocity(self, z: Tensor, x: Tensor, t: float | Tensor) -> Tensor:
        return (x - z) / (1 - broadcast_time(t, z) + 1e-5)

    def step(self, z: Tensor, x: Tensor, t: float | Tensor, u: float | Tensor) -> Tensor:
        return z + (broadcast_time(u, z) - broadcast_time(t, z)) * self.velocity(z, x, t)
