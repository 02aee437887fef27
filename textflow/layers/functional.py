"""Operations that save less for the backward pass than torch's own, with equal values, so that larger batches fit.

Each has forward-mode derivatives too, for mean flows and the stiffness of a sampler.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function

from textflow.layers.kernels import Kernels, cuda, fused_norm


class RMSNorm(nn.RMSNorm):
    """RMSNorm that saves only its input and one number per row for the backward pass."""

    kernels: Kernels = "torch"

    def forward(self, x: Tensor) -> Tensor:
        if self.kernels == "liger" and cuda(x):
            return fused_norm(x, self.weight, self.eps or 0.0)
        if not x.is_cpu or torch.compiler.is_compiling():  # a fused kernel of one dtype saves as little
            return F.rms_norm(x.to(self.weight.dtype), self.normalized_shape, self.weight, self.eps)
        return _RMSNorm.apply(x, self.weight, self.eps)[0]  # type: ignore[no-untyped-call]


class _RMSNorm(Function):
    """x r w, r = (mean x^2 + eps)^(-1/2)."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        wide = x.to(weight.dtype)
        rate = (torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_() / x.shape[-1]).add_(eps).rsqrt_()
        return (wide * rate).mul_(weight), rate

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs[:2], output[1])
        ctx.save_for_forward(*inputs[:2], output[1])

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        x, weight, rate = ctx.saved_tensors
        unit = x.to(weight.dtype) * rate
        slope = outer[0] * unit
        dweight = slope.flatten(0, -2).sum(0)
        along = (slope @ weight)[..., None] / x.shape[-1]
        return (outer[0] * weight).sub_(unit.mul_(along)).mul_(rate).to(x.dtype), dweight, None

    @staticmethod
    def jvp(ctx: Any, dx: Any, dweight: Any, _: Any) -> Any:
        x, weight, rate = ctx.saved_tensors
        unit = x.to(weight.dtype) * rate
        out = torch.zeros_like(unit)
        if dx is not None:
            out = out + weight * rate * (dx - unit * (unit * dx).mean(-1, keepdim=True))
        return out if dweight is None else out + unit * dweight, None


class _SwiGLUOut(Function):
    """(silu(a) b) W^T + bias of the concatenated (a, b); the product is recomputed in the backward pass."""

    @staticmethod
    def forward(ab: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        a, b = ab.chunk(2, -1)
        return F.linear(F.silu(a).mul_(b), weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        ab, weight, _ = ctx.saved_tensors
        (a, b), flat = ab.chunk(2, -1), outer[0].flatten(0, -2)
        smooth = F.silu(a)
        dweight = flat.T @ (smooth * b).flatten(0, -2)
        dproduct, dab = outer[0] @ weight, torch.empty_like(ab)
        da, db = dab.chunk(2, -1)
        torch.mul(smooth, dproduct, out=db)
        da.copy_(torch.ops.aten.silu_backward(dproduct.mul_(b), a))
        return dab, dweight, flat.sum(0)

    @staticmethod
    def jvp(ctx: Any, dab: Any, dweight: Any, dbias: Any) -> Any:
        ab, weight, _ = ctx.saved_tensors
        a, b = ab.chunk(2, -1)
        share = torch.sigmoid(a)
        smooth, slope = a * share, share + a * share * (1 - share)  # silu(a) and its derivative
        dab = torch.zeros_like(ab) if dab is None else dab
        dweight = torch.zeros_like(weight) if dweight is None else dweight
        da, db = dab.chunk(2, -1)
        out = (slope * b * da + smooth * db) @ weight.T + (smooth * b) @ dweight.T
        return out if dbias is None else out + dbias


def swiglu_out(ab: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(silu(a) b) W^T + bias, for (a, b) concatenated [..., 2 h]."""
    kind = ab.dtype
    if torch.compiler.is_compiling():  # the compiler decides what to recompute
        a, b = ab.chunk(2, -1)
        return F.linear(F.silu(a) * b, weight.to(kind), bias.to(kind))
    return _SwiGLUOut.apply(ab, weight.to(kind), bias.to(kind))  # type: ignore[no-untyped-call]


class _LinearNLL(Function):
    """Cross-entropy of a linear layer whose gradient is computed in chunks during the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, weight: Tensor, bias: Tensor, ids: Tensor, each: Tensor | None, cap: float | None,
        rows: int, train: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        total, terms = h.new_zeros(()), h.new_empty(len(h))
        grads = [torch.zeros_like(p) for p in (h, weight, bias)] if train else []
        for i in range(0, len(h), rows):
            part, at = h[i : i + rows], ids[i : i + rows, None]
            logits = torch.addmm(bias, part, weight.T)
            if cap is not None:
                logits = logits.div_(cap).tanh_().mul_(cap)
                steepness = 1 - (logits / cap) ** 2 if train else logits
            lse = logits.logsumexp(-1, keepdim=True)
            counts = None if each is None else each[i : i + rows, None]
            nll = lse - logits.gather(1, at)
            terms[i : i + rows] = nll[:, 0]
            total += weighted(nll, counts).sum()
            if train:
                slope = logits.sub_(lse).exp_().scatter_add_(1, at, -torch.ones_like(lse))  # softmax - one-hot
                slope = slope if cap is None else slope.mul_(steepness)
                grads[0][i : i + rows] = weighted(slope @ weight, counts)  # d numbers per row, slope has V
                grads[1].addmm_(slope.T, weighted(part, counts))
                grads[2].add_(slope.sum(0) if counts is None else slope.T @ counts[:, 0])
        ctx.grads = grads
        ctx.mark_non_differentiable(terms)
        return total, terms

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        grads, ctx.grads = ctx.grads, None  # scaled in place, without a second copy of [V, d]
        return *(grad.mul_(outer[0]) for grad in grads), None, None, None, None, None


def weighted(values: Tensor, weights: Tensor | None) -> Tensor:
    """values [n, k] times the rows' weights [n, 1]; None is 1."""
    return values if weights is None else values * weights


def linear_nll(
    h: Tensor, weight: Tensor, bias: Tensor, ids: Tensor, budget: int = 2**22, weights: Tensor | None = None,
    cap: float | None = None,
) -> Float[Tensor, ""]:  # fmt: skip
    """Sum of -log softmax(h W^T + b)[ids] with at most `budget` logits in memory at once.

    Args:
        h: features [n, d].
        weight: weight of the linear layer [V, d].
        bias: bias of the linear layer [V].
        ids: target token ids [n].
        budget: most logits in a chunk.
        weights: weight of each row in the sum [n]; default: 1.
        cap: soft limit of the logits, which become cap tanh(logits / cap), > 0; default: none.
    """
    return linear_nll_each(h, weight, bias, ids, budget, weights, cap)[0]


def linear_nll_each(
    h: Tensor, weight: Tensor, bias: Tensor, ids: Tensor, budget: int = 2**22, weights: Tensor | None = None,
    cap: float | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, " n"]]:  # fmt: skip
    """The sum of `linear_nll`, and -log softmax(h W^T + b)[ids] of each row without weight and gradient [n]. Arguments
    as in `linear_nll`."""
    rows = max(budget // len(weight), 1)
    return _LinearNLL.apply(h, weight, bias, ids, weights, cap, rows, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
