"""Rotary positions (RoPE, 2104.09864): queries and keys are rotated by an angle that grows with their position."""

from typing import Any

import torch
from jaxtyping import Complex
from torch import Tensor
from torch.autograd import Function


def rope(
    length: int, width: int, like: Tensor, theta: float = 1e4, stride: float = 1.0
) -> Complex[Tensor, "length half"]:
    """Rotation of each position and pair of coordinates of a head (RoPE), as unit complex numbers, on the device and in
    the precision of `like`; theta is the slowest wavelength over 2 pi, stride the distance of neighbours."""
    real = torch.float64 if like.dtype == torch.float64 else torch.float32
    speed = theta ** (-torch.arange(0, width, 2, device=like.device, dtype=real) / width)
    angle = torch.outer(stride * torch.arange(length, device=like.device, dtype=real), speed)
    return torch.polar(torch.ones_like(angle), angle)


def apply_rope_interleaved(x: Tensor, freqs: Tensor) -> Tensor:
    """Rotate the pairs (0, 1), (2, 3) ... of the last axis; positions before the last len(freqs) are unchanged.

    Args:
        x: queries or keys [..., S, w].
        freqs: unit complex numbers [length, w / 2], or their real and imaginary parts (for compilers).
    """
    free = x.shape[-2] - len(freqs)
    if not freqs.is_complex():
        cos, sin = freqs.unbind(-1)
        a, b = x[..., free:, 0::2].to(freqs.dtype), x[..., free:, 1::2].to(freqs.dtype)
        rotated = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
        return torch.cat([x[..., :free, :], rotated.to(x.dtype)], -2)
    pairs = torch.view_as_complex(x[..., free:, :].to(freqs.real.dtype).unflatten(-1, (freqs.shape[-1], 2)))  # type: ignore[no-untyped-call]
    return torch.cat([x[..., :free, :], torch.view_as_real(pairs * freqs).flatten(-2).to(x.dtype)], -2)


def apply_rope_halves(x: Tensor, freqs: Complex[Tensor, "S half"]) -> Tensor:
    """Rotate the pairs (i, i + w / 2) of the last axis, of queries or keys [..., S, w]."""
    cos, sin = torch.cat([freqs.real, freqs.real], -1), torch.cat([-freqs.imag, freqs.imag], -1)
    if torch.compiler.is_compiling():  # the compiler fuses the passes
        return turn(x, cos, sin)
    return _Turn.apply(x, cos, sin)  # type: ignore[no-untyped-call]


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x cos + (x with its halves exchanged) sin, in the precision of x.

    Args:
        x: queries, keys, or their derivatives [..., S, w].
        cos: real parts of the rotations, twice [S, w].
        sin: imaginary parts, negated in the first half [S, w].
    """
    a, b = x.chunk(2, -1)
    return (x * cos).add_(torch.cat([b, a], -1) * sin).to(x.dtype)


class _Turn(Function):
    """The gradient of a rotation is the rotation back: four passes, a third of the time of automatic differentiation
    through the halves on a CPU."""

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return turn(x, cos, sin)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        cos, sin = ctx.saved_tensors
        return turn(outer[0], cos, -sin), None, None

    @staticmethod
    def jvp(ctx: Any, dx: Any, *_: Any) -> Any:
        return turn(dx, *ctx.saved_tensors)
