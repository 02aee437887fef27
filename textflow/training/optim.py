"""Muon: orthogonalised momentum for matrices, Nesterov-Adam for the rest, in one optimizer (ELF; optax muon)."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from textflow.training.newton_schulz import orthogonalise

Orthogonal = Callable[[Sequence[Tensor], Sequence[Tensor], int], list[Tensor]]  # params, updates, steps -> updates


class MuonAdam(Optimizer):
    """Muon on every matrix, stored (out, in); Nesterov-Adam on everything else. A missing gradient counts as zero.

    Args:
        params: parameters, or pairs (name, parameter).
        lr: learning rate of both rules.
        beta: momentum of the matrices, in [0, 1).
        betas: of Adam, each in [0, 1).
        eps: of Adam, above 0.
        weight_decay: decoupled; a step shrinks a parameter by lr * weight_decay.
        steps: of Newton-Schulz, at least 1.
        adam: a matrix whose name contains this, or one of these, goes to Adam (embeddings, say); this needs names.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        beta: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        steps: int = 5,
        adam: str | Sequence[str] = (),
    ) -> None:
        if lr < 0 or not all(0 <= x < 1 for x in (beta, *betas)) or eps <= 0 or steps < 1:
            raise ValueError(
                f"Muon got lr={lr}, beta={beta}, betas={betas}, eps={eps}, steps={steps};"
                " needs lr >= 0, betas in [0, 1), eps > 0 and steps >= 1"
            )
        adam = [adam] if isinstance(adam, str) else adam
        entries = list(params)
        named = [entry if isinstance(entry, tuple) else ("", entry) for entry in entries]
        if adam and not all(name for name, _ in named):
            raise ValueError(
                f"MuonAdam(adam={list(adam)!r}) chooses by name and needs pairs; pass net.named_parameters()"
            )
        by_muon = [p.ndim == 2 and not any(part in name for part in adam) for name, p in named]
        groups = [
            {"params": [e for e, is_matrix in zip(entries, by_muon, strict=True) if is_matrix], "matrices": True},
            {"params": [e for e, is_matrix in zip(entries, by_muon, strict=True) if not is_matrix], "matrices": False},
        ]
        defaults = dict(
            lr=lr, beta=beta, betas=tuple(betas), eps=eps, weight_decay=weight_decay, steps=steps, matrices=False, k=0
        )
        super().__init__([group for group in groups if group["params"]], defaults)
        self.across: Orthogonal = here  # engines of many processes put theirs here

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; the closure, if any, is called first with gradients on."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            if not group["params"]:  # a sharded engine gives one group after another
                continue
            group["k"] += 1
            updates = self._muon(group) if group["matrices"] else self._adam(group)
            for p, update in updates:
                if group["weight_decay"]:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"])
        return loss

    def _muon(self, group: dict[str, Any]) -> Iterable[tuple[Tensor, Tensor]]:
        beta, k, params, updates = group["beta"], group["k"], group["params"], []
        for p in params:
            m, g = self._moment(p, "momentum"), _gradient(p)
            m.lerp_(g, 1 - beta)
            updates.append(m * (beta / (1 - beta ** (k + 1))) + g * ((1 - beta) / (1 - beta**k)))
        yield from zip(params, self.across(params, updates, group["steps"]), strict=True)

    def _adam(self, group: dict[str, Any]) -> Iterable[tuple[Tensor, Tensor]]:
        (b1, b2), k = group["betas"], group["k"]
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


def here(params: Sequence[Tensor], updates: Sequence[Tensor], steps: int) -> list[Tensor]:
    """Each matrix orthogonalised and scaled by sqrt(max(1, rows / cols)), those of one shape together.

    Args:
        params: whose updates these are.
        updates: matrices, written over.
        steps: of Newton-Schulz, at least 1.
    """
    same: dict[torch.Size, list[int]] = defaultdict(list)
    for i, u in enumerate(updates):
        same[u.shape].append(i)
    for shape, spots in same.items():
        scale = max(1.0, shape[0] / shape[1]) ** 0.5
        for some in batches(spots, updates[spots[0]]):
            ortho = orthogonalise(torch.stack([updates[i] for i in some]), steps) * scale  # [n, rows, cols]
            for i, matrix in zip(some, ortho, strict=True):
                updates[i].copy_(matrix)
    return list(updates)


def batches(spots: list[int], like: Tensor) -> list[list[int]]:
    """As many together as bound the memory; few launches are what a GPU gains by it, a CPU gains nothing."""
    each = max((2**20 if like.is_cpu else 2**25) // max(like.numel(), 1), 1)
    return [spots[i : i + each] for i in range(0, len(spots), each)]


def _gradient(p: Tensor) -> Tensor:
    return torch.zeros_like(p) if p.grad is None else p.grad
