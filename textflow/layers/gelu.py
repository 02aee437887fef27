"""A linear layer after gelu, gelu(x) W^T + bias, that saves x alone where x is large; it has forward-mode derivatives
too."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

SMALL = 2**22  # numbers; below, a CPU has the memory to keep the activation, which costs more time than it saves


class _GELUOut(Function):
    """The activation is recomputed in the backward pass."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(F.gelu(x, approximate="tanh"), weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        x, weight, _ = ctx.saved_tensors
        flat = outer[0].flatten(0, -2)
        dweight = flat.T @ F.gelu(x, approximate="tanh").flatten(0, -2)
        return slope_times(outer[0] @ weight, x), dweight, flat.sum(0)

    @staticmethod
    def jvp(ctx: Any, dx: Any, dweight: Any, dbias: Any) -> Any:
        x, weight, _ = ctx.saved_tensors
        out = torch.zeros_like(x[..., :1] @ weight[:, :1].T) if dx is None else slope_times(dx, x) @ weight.T
        if dweight is not None:
            out = out + F.gelu(x, approximate="tanh") @ dweight.T
        return out if dbias is None else out + dbias


def slope_times(outer: Tensor, x: Tensor) -> Tensor:
    """outer times the derivative of gelu at x."""
    return torch.ops.aten.gelu_backward(outer, x, approximate="tanh")


def gelu_out(x: Tensor, out: nn.Module) -> Tensor:
    """out(gelu(x)), with the tanh form of gelu.

    Args:
        x: input of the activation [..., h].
        out: linear layer with a bias, of inputs h wide.
    """
    assert isinstance(out, nn.Linear) and out.bias is not None
    if torch.compiler.is_compiling() or (x.is_cpu and x.numel() < SMALL):  # a compiler decides what to recompute
        return out(F.gelu(x, approximate="tanh"))
    return _GELUOut.apply(x, out.weight.to(x.dtype), out.bias.to(x.dtype))  # type: ignore[no-untyped-call]
