"""The uniform process of Duo: lost tokens become uniform ones."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from textflow.discrete.process import Process
from textflow.noise import Noise
from textflow.types import Ids, Logits, Times


@dataclass(frozen=True)
class UniformProcess(Process):
    """A lost token becomes a token drawn uniformly (Duo, 2506.10892, log-linear noise)."""

    def num_states(self, vocab_size: int) -> int:
        return vocab_size

    def stationary(self, ids: Ids, num_states: int, noise: Noise | None = None) -> Ids:
        if noise is None:
            return torch.randint_like(ids, num_states)
        return (noise.uniform(ids.shape[1]) * num_states).long().clamp_max(num_states - 1).to(ids)


def nelbo(log_p: Logits, ids: Ids, corrupted: Ids, alpha: Times, rate: Times) -> Float[Tensor, "B L"]:
    """Density of the bound on -log p(text) at one time, a number per token (Duo, Rao-Blackwellised).

    It is rate / (alpha N) times the sum over y != z of r'_y - r_y + r_y log(r_y / r'_y), where r_y = q(y | x) /
    q(z | x), q(y | x) = alpha [y = x] + (1 - alpha) / N, and r' has p in place of x.

    Args:
        log_p: log p(clean token | corrupted tokens) [B, L, N].
        ids: clean token ids x [B, L].
        corrupted: token ids z at this time [B, L].
        alpha: probability that a token is unchanged [B], in (0, 1).
        rate: d alpha / dt towards text [B].
    """
    n = log_p.shape[-1]
    alpha, rate = alpha[:, None].to(log_p), rate[:, None].to(log_p)
    rest = (1 - alpha) / n
    q = alpha[..., None] * log_p.exp() + rest[..., None]  # [B, L, N]
    log_q, q_z = q.log(), q.gather(-1, corrupted[..., None])[..., 0]
    log_q_z, log_q_x = (log_q.gather(-1, index[..., None])[..., 0] for index in (corrupted, ids))
    sum_log = log_q.sum(-1)
    is_same = (ids == corrupted).to(log_p)
    ratio = rest / (alpha + rest)  # q(y | x) / q(x | x) at y != x
    r_sum = is_same * (n - 1) * ratio + (1 - is_same) * (n - 2 + 1 / ratio)
    entropy = is_same * (n - 1) * ratio * ratio.log() - (1 - is_same) * ratio.log() / ratio
    # sum over y != z of r_y log r'_y, with log r'_y = log q_y - log q_z
    unchanged = ratio * (sum_log - log_q_z - (n - 1) * log_q_z)
    changed = sum_log - log_q_z - log_q_x + log_q_x / ratio - (n - 2 + 1 / ratio) * log_q_z
    cross = is_same * unchanged + (1 - is_same) * changed
    return rate / (alpha * n) * ((1 - q_z) / q_z - r_sum + entropy - cross)


def gaussian_survival(gamma: Times, num_states: int) -> Times:
    """alpha(gamma) = (N P - 1) / (N - 1), P = int phi(x - e^(-gamma / 2)) Phi(x)^(N - 1) dx: the argmax of a one-hot
    vector in Gaussian noise is a token of the uniform process with this survival (Duo, eq. 11); float64.

    Args:
        gamma: log noise-to-signal ratio [B].
        num_states: number of token states N.
    """
    x = torch.linspace(-12, 12, 2401, dtype=torch.float64, device=gamma.device)  # trapezoids; the ends are 0
    shift = torch.exp(-gamma.double() / 2)[:, None]
    log_density = (num_states - 1) * torch.special.log_ndtr(x + shift) - x.square() / 2
    hit = log_density.exp().sum(-1) * (x[1] - x[0]) / math.sqrt(2 * math.pi)
    return (num_states * hit - 1) / (num_states - 1)


def posterior(probs: Logits, ids: Ids, alpha: float, alpha_next: float) -> Logits:
    """q(token one step later | corrupted token, clean law), float64 (Duo, eq. 6).

    Args:
        probs: probabilities of the clean token [B, L, N].
        ids: corrupted token ids [B, L].
        alpha: probability that a token is unchanged at this time.
        alpha_next: probability that a token is unchanged one step later, above alpha.
    """
    probs, n = probs.double(), probs.shape[-1]
    one_hot, ratio = F.one_hot(ids, n).double(), alpha / alpha_next
    stay = alpha * n * probs + (ratio - alpha)
    law = stay * one_hot + (alpha_next - alpha) * probs + (1 - ratio) * (1 - alpha_next) / n
    return law / (alpha * n * probs.gather(-1, ids[..., None]) + 1 - alpha)
