"""Muon: orthogonalised momentum for matrices, Nesterov-Adam for the rest, in one optimizer (ELF; optax muon)."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from textflow.training.newton_schulz import orthogonalize

OrthogonalizeFn = Callable[[Sequence[Tensor], Sequence[Tensor], int], list[Tensor]]  # params, updates, steps -> updates


class MuonAdam(Optimizer):
    """Muon on every matrix, stored (out, in); Nesterov-Adam on everything else. A missing gradient counts as zero.

    Args:
        params: parameters, or pairs (name, parameter).
        lr: learning rate of both rules.
        momentum: momentum of the matrices, in [0, 1).
        adam_betas: decay rates of the Adam moments, each in [0, 1).
        eps: constant added to the Adam denominator, above 0.
        weight_decay: decoupled weight decay; a step scales a parameter by 1 - lr * weight_decay.
        ns_steps: number of Newton-Schulz iterations, at least 1.
        adam_names: substring or substrings of the names of matrices to update with Adam, such as embeddings; requires
            named parameters.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.95,
        adam_betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        ns_steps: int = 5,
        adam_names: str | Sequence[str] = (),
    ) -> None:
        if lr < 0 or not all(0 <= x < 1 for x in (momentum, *adam_betas)) or eps <= 0 or ns_steps < 1:
            raise ValueError(
                f"MuonAdam got lr={lr}, momentum={momentum}, adam_betas={adam_betas}, eps={eps}, ns_steps={ns_steps};"
                " needs lr >= 0, momentum and adam_betas in [0, 1), eps > 0 and ns_steps >= 1"
            )
        adam_names = [adam_names] if isinstance(adam_names, str) else adam_names
        entries = list(params)
        named = [entry if isinstance(entry, tuple) else ("", entry) for entry in entries]
        if adam_names and not all(name for name, _ in named):
            raise ValueError(
                f"MuonAdam(adam_names={list(adam_names)!r}) selects by name and needs pairs (name, parameter); pass "
                "net.named_parameters()"
            )
        by_muon = [p.ndim == 2 and not any(part in name for part in adam_names) for name, p in named]
        groups = [
            {"params": [e for e, muon in zip(entries, by_muon, strict=True) if muon is matrices], "matrices": matrices}
            for matrices in (True, False)
        ]
        defaults = dict(lr=lr, momentum=momentum, adam_betas=tuple(adam_betas), eps=eps, weight_decay=weight_decay)
        defaults |= dict(ns_steps=ns_steps, matrices=False, k=0)
        super().__init__([group for group in groups if group["params"]], defaults)
        self.orthogonalize: OrthogonalizeFn = orthogonalize_local  # distributed engines replace it

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one optimizer step; a closure is called first with gradients enabled."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            if not group["params"]:  # a sharded engine steps one group at a time
                continue
            group["k"] += 1
            updates = self._muon(group) if group["matrices"] else self._adam(group)
            for p, update in updates:
                if group["weight_decay"]:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"])
        return loss

    def _muon(self, group: dict[str, Any]) -> Iterable[tuple[Tensor, Tensor]]:
        beta, k, params, updates = group["momentum"], group["k"], group["params"], []
        for p in params:
            m, g = self._moment(p, "momentum"), _gradient(p)
            m.lerp_(g, 1 - beta)
            updates.append(m * (beta / (1 - beta ** (k + 1))) + g * ((1 - beta) / (1 - beta**k)))
        yield from zip(params, self.orthogonalize(params, updates, group["ns_steps"]), strict=True)

    def _adam(self, group: dict[str, Any]) -> Iterable[tuple[Tensor, Tensor]]:
        (b1, b2), k = group["adam_betas"], group["k"]
        for p in group["params"]:
            m, v, g = self._moment(p, "mean"), self._moment(p, "square"), _gradient(p)
            m.lerp_(g, 1 - b1)
            v.mul_(b2).addcmul_(g, g, value=1 - b2)
            mean = m * (b1 / (1 - b1 ** (k + 1))) + g * ((1 - b1) / (1 - b1**k))
            yield p, mean / ((v / (1 - b2**k)).sqrt() + group["eps"])

    def _moment(self, p: Tensor, name: str) -> Tensor:
        if name not in self.state[p]:
            self.state[p][name] = torch.zeros_like(p)
        return self.state[p][name]


def orthogonalize_local(params: Sequence[Tensor], updates: Sequence[Tensor], ns_steps: int) -> list[Tensor]:
    """Orthogonalise each update in place and scale it by sqrt(max(1, rows / cols)), batched by shape."""
    by_shape: dict[torch.Size, list[int]] = defaultdict(list)
    for i, u in enumerate(updates):
        by_shape[u.shape].append(i)
    for shape, indices in by_shape.items():
        scale = max(1.0, shape[0] / shape[1]) ** 0.5
        for batch in memory_batches(indices, updates[indices[0]]):
            ortho = orthogonalize(torch.stack([updates[i] for i in batch]), ns_steps) * scale  # [n, rows, cols]
            for i, matrix in zip(batch, ortho, strict=True):
                updates[i].copy_(matrix)
    return list(updates)


def memory_batches(indices: list[int], like: Tensor) -> list[list[int]]:
    """Split indices into batches of bounded memory; larger batches save kernel launches on a GPU."""
    batch_size = max((2**20 if like.is_cpu else 2**25) // max(like.numel(), 1), 1)
    return [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]


def _gradient(p: Tensor) -> Tensor:
    return torch.zeros_like(p) if p.grad is None else p.grad
