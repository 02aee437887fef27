"""MuonAdam's update as published: the oracle for tests and the baseline for benchmarks."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from textflow.training.newton_schulz import COEFFICIENTS


class ReferenceMuon(Optimizer):
    """One parameter after another: Newton-Schulz for each matrix, Nesterov-Adam for the others (ELF).

    Args:
        params: parameters, or pairs (name, parameter).
        lr: learning rate.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr, "k": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update from the current gradients."""
        for group in self.param_groups:
            group["k"] += 1
            for p in group["params"]:
                rule = muon if p.ndim == 2 else adam
                p.sub_(group["lr"] * rule(self.state[p], p.grad, group["k"]))


def muon(state: dict[str, Any], g: Tensor, k: int, beta: float = 0.95) -> Tensor:
    """The orthogonalised momentum, scaled by sqrt(max(1, out / in))."""
    m = state["momentum"] = beta * state.get("momentum", 0 * g) + (1 - beta) * g
    u = beta * m / (1 - beta ** (k + 1)) + (1 - beta) * g / (1 - beta**k)
    return newton_schulz(u) * max(1.0, g.shape[0] / g.shape[1]) ** 0.5


def newton_schulz(u: Tensor, steps: int = 5) -> Tensor:
    """About U V^T of u = U S V^T."""
    a, b, c = COEFFICIENTS
    x = u.T if u.shape[0] > u.shape[1] else u
    x = x / (x.norm() + 1e-8)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if u.shape[0] > u.shape[1] else x


def adam(state: dict[str, Any], g: Tensor, k: int, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Tensor:
    """The mean gradient over its root mean square."""
    m = state["mean"] = b1 * state.get("mean", 0 * g) + (1 - b1) * g
    v = state["square"] = b2 * state.get("square", 0 * g) + (1 - b2) * g**2
    return (b1 * m / (1 - b1 ** (k + 1)) + (1 - b1) * g / (1 - b1**k)) / ((v / (1 - b2**k)).sqrt() + eps)
