"""Optional GPU acceleration: CUDA graphs and the kernels of liger-kernel."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.library import custom_op

Kernels = Literal["torch", "liger"]

SHAPES = {True: 4, False: 16}  # most shapes in training and in evaluation: each is compiled


def cuda(x: Tensor) -> bool:
    """True if x is on a GPU."""
    return x.is_cuda


def on_gpu(x: Tensor, option: str, instead: str) -> bool:
    """True if x is on a GPU, as `option` needs (`instead` does not); False for fake tensors, which only count
    operations."""
    if isinstance(x, FakeTensor):
        return False
    if not cuda(x):
        raise ValueError(f"net has {option}, which needs a GPU, but it runs on {x.device.type}; use {instead}")
    return True


class Graphs:
    """A net's blocks as CUDA graphs, one a shape for forward and backward each (torch.compile, mode reduce-overhead).

    A graph writes to fixed addresses, and torch lets a new pass overwrite the output of an earlier one unless its
    backward pass is pending. So outputs are copied (ELF's first prediction is an input of its second pass), and so are
    gradients (they are accumulated over micro-batches). No pass is marked as the first of a step: a mark would also
    free outputs whose backward pass is pending.
    """

    def __init__(self) -> None:
        self.shapes: dict[bool, set[torch.Size]] = {True: set(), False: set()}

    def __call__(self, net: nn.Module, blocks: nn.ModuleList, x: Tensor, freqs: Tensor) -> Tensor:
        shapes = self.shapes[net.training]
        if x.shape not in shapes:
            shapes.add(x.shape)
            if len(shapes) > SHAPES[net.training]:
                raise ValueError(
                    f"compile_blocks: graphs records each shape separately, and the blocks met {len(shapes)}, such as "
                    f"{' and '.join(str(list(shape)) for shape in sorted(shapes)[-2:])}; fix them (ELFObjective's "
                    "row_assignment: stratified, batches of one size) or use compile_blocks: true"
                )
            refuse_shards(blocks)
        for p in net.parameters() if torch.is_grad_enabled() else ():
            if p.requires_grad and not hasattr(p, "keeps_gradient"):
                p.register_hook(torch.clone)  # type: ignore[no-untyped-call]
                p.keeps_gradient = True  # type: ignore[attr-defined]
        return recorded()(blocks, x, freqs).clone()


def run_blocks(blocks: nn.ModuleList, x: Tensor, freqs: Tensor) -> Tensor:
    """The output of all blocks in sequence."""
    for block in blocks:
        x = block(x, freqs)
    return x


@cache
def recorded() -> Callable[..., Tensor]:
    """`run_blocks`, compiled and recorded for every shape, with and without a backward pass."""
    limits: Any = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, 8 * SHAPES[False])  # past the limit torch runs uncompiled
    return torch.compile(run_blocks, mode="reduce-overhead", dynamic=False, fullgraph=True)


def refuse_shards(blocks: nn.Module) -> None:
    """Raise an error for sharded parameters, which have no fixed address."""
    from torch.distributed.tensor import DTensor

    if any(isinstance(p, DTensor) or hasattr(p, "ds_id") for p in blocks.parameters()):
        raise ValueError(
            "compile_blocks: graphs needs weights at fixed addresses, but FSDP and ZeRO-3 gather them for each "
            "pass; use compile_blocks: true, recipes/strategy/ddp.yaml or recipes/strategy/zero2.yaml"
        )


def refuse_missing() -> None:
    """Raise an error if liger-kernel or Triton is not installed."""
    try:
        import_module("liger_kernel.ops.rms_norm")
        import_module("liger_kernel.ops.swiglu")
    except ImportError as error:
        raise ValueError(
            f"kernels: liger needs the package liger-kernel ({error}): pip install 'textflow[kernels]', or use "
            "kernels: torch"
        ) from error


def fused_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x w (mean x^2 + eps)^(-1/2) in the weight's precision, by one kernel; no forward-mode derivatives."""
    wide = x.to(weight.dtype, memory_format=torch.contiguous_format).contiguous()  # one copy at most
    return _norm(wide, weight, eps)[0]


def fused_swiglu_out(ab: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`functional.swiglu_out` with a fused product, recomputed in the backward pass; no forward-mode derivatives."""
    return _gated(ab.contiguous(), weight.to(ab.dtype), bias.to(ab.dtype))


# As custom operators the kernels are opaque to torch.compile, so they run unchanged inside it.
@custom_op("textflow::norm", mutates_args=())
def _norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    from liger_kernel.ops.rms_norm import rms_norm_forward

    y, _, rate, *_ = rms_norm_forward(x, weight, eps, 0.0, "gemma", None)  # no offset, all in float32
    return y, rate


@custom_op("textflow::norm_back", mutates_args=())
def _norm_back(slope: Tensor, x: Tensor, weight: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    from liger_kernel.ops import rms_norm
    from liger_kernel.ops.utils import calculate_settings

    kind = rms_norm._CASTING_MODE_GEMMA.value
    flat, cut = x.view(-1, x.shape[-1]), calculate_settings(x.shape[-1])
    return rms_norm.rms_norm_backward(slope.contiguous(), flat, weight, rate, 0.0, kind, *cut, False, None)


@custom_op("textflow::gated", mutates_args=())
def _gated(ab: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    from liger_kernel.ops.swiglu import swiglu_fused_gate_up_forward as product

    return F.linear(product(ab)[1], weight, bias)


@custom_op("textflow::gated_back", mutates_args=())
def _gated_back(slope: Tensor, ab: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    from liger_kernel.ops.swiglu import swiglu_fused_gate_up_backward as product_back
    from liger_kernel.ops.swiglu import swiglu_fused_gate_up_forward as product

    flat = slope.flatten(0, -2)
    dab = product_back(ab, (slope @ weight).contiguous()).view_as(ab)
    return dab, flat.T @ product(ab)[1].flatten(0, -2), flat.sum(0)


_norm.register_fake(lambda x, weight, eps: (torch.empty_like(x), x.new_empty(x.numel() // x.shape[-1])))
_norm_back.register_fake(lambda slope, x, weight, rate: (torch.empty_like(x), torch.empty_like(weight)))
_gated.register_fake(lambda ab, weight, bias: ab.new_empty(*ab.shape[:-1], len(weight)))
_gated_back.register_fake(
    lambda slope, ab, weight: (torch.empty_like(ab), torch.empty_like(weight), weight.new_empty(len(weight)))
)
_norm.register_autograd(
    lambda ctx, slope, _: (*_norm_back(slope, *ctx.saved_tensors), None),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs[:2], output[1]),
)
_gated.register_autograd(
    lambda ctx, slope: _gated_back(slope, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs[:2]),
)
