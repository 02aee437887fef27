"""Any loss of a linear layer's outputs, some rows at a time, so that no tensor has all of them."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function


class _LinearLoss(Function):
    """Sum of a loss of a linear layer's outputs whose gradient is computed in chunks during the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, weight: Tensor, bias: Tensor, loss: Callable[[Tensor, slice], Tensor], rows: int,
        train: bool,
    ) -> Tensor:  # fmt: skip
        total = h.new_zeros(())
        grads = [torch.zeros_like(p) for p in (h, weight, bias)] if train else []
        for i in range(0, len(h), rows):
            part, at = h[i : i + rows], slice(i, i + rows)
            logits = torch.addmm(bias, part, weight.T).requires_grad_(train)
            with torch.set_grad_enabled(train):
                values = loss(logits, at).sum()
            total += values.detach()
            if train:
                (slope,) = torch.autograd.grad(values, logits)
                grads[0][at] = slope @ weight
                grads[1].addmm_(slope.T, part)
                grads[2].add_(slope.sum(0))
        ctx.grads = grads
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        grads, ctx.grads = ctx.grads, None
        return *(grad.mul_(outer[0]) for grad in grads), None, None, None


def linear_loss(
    h: Tensor, weight: Tensor, bias: Tensor, loss: Callable[[Tensor, slice], Tensor], budget: int = 2**22
) -> Float[Tensor, ""]:
    """Sum of a loss over the logits h W^T + b, with at most `budget` logits in memory at once.

    Args:
        h: features [n, d].
        weight: weight of the linear layer [V, d].
        bias: bias of the linear layer [V].
        loss: logits of some rows [k, V], and which rows they are -> the losses of these rows.
        budget: most logits in a chunk.
    """
    rows = max(budget // len(weight), 1)
    return _LinearLoss.apply(h, weight, bias, loss, rows, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
