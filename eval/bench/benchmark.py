"""Benchmark: one computation in several variants whose results must agree."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from textflow.codecs import LatentSpace, T5Codec
from textflow.nets import ELF, Frozen
from textflow.types import Batch

from .sizes import BenchConfig


class Benchmark(ABC):
    """The same work in the optimized and in the reference variant.

    Args:
        config: size, device, precision.
    """

    variants: tuple[str, ...] = ("optimized", "reference")

    def __init__(self, config: BenchConfig) -> None:
        torch.manual_seed(0)
        self.config = config

    @abstractmethod
    def run(self, variant: str) -> None:
        """Run the work once."""

    @abstractmethod
    def result(self, variant: str) -> Tensor:
        """Flat result of a variant, which all variants must agree on."""

    def flops(self, variant: str) -> float | None:
        """FLOPs of one run by formula; None where matrix products do not dominate."""
        return None

    def extra_numbers(self) -> dict[str, float]:
        """Further entries of the record."""
        return {}

    def autocast(self, variant: str = "optimized") -> AbstractContextManager[object]:
        """Autocast context of a variant."""
        enabled = self.config.bf16 and not variant.endswith("fp32")
        return torch.autocast(self.config.device, torch.bfloat16, enabled=enabled)


def make_network(config: BenchConfig, variant: str = "reference") -> ELF:
    """ELF of the given size; its last layer is nonzero, as in a trained network.

    Args:
        config: size and device; compilation, checkpointing and fused kernels apply to the optimized variant.
        variant: optimized or reference; both have the same weights.
    """
    s, how = config.size, optimized_options(config) if variant == "optimized" else {}
    torch.manual_seed(1)
    net = ELF(LatentSpace(s.dim, s.vocab), s.width, s.depth, s.heads, s.bottleneck, **how)
    torch.nn.init.normal_(net.out.weight, std=0.02)
    return net.to(config.device)


def optimized_options(config: BenchConfig) -> dict[str, Any]:
    """The options of the optimized variant's network."""
    return {
        "compile_blocks": config.compile,
        "activation_checkpointing": config.activation_checkpointing,
        "kernels": config.kernels,
    }


def network_pair(config: BenchConfig) -> dict[str, ELF]:
    """Network of each variant; shared where the variants do not differ."""
    reference = make_network(config)
    alike = not config.compile and not config.activation_checkpointing and config.kernels == "torch"
    return {"optimized": reference if alike else make_network(config, "optimized"), "reference": reference}


def make_t5(bench_config: BenchConfig) -> T5Codec:
    """T5 codec of the given size, with random weights."""
    from transformers import T5Config, T5EncoderModel

    s = bench_config.size
    config = T5Config(
        vocab_size=s.vocab, d_model=s.dim, d_kv=s.dim // 8, d_ff=s.encoder_hidden, num_layers=s.encoder_layers,
        num_heads=8, dropout_rate=0.0,
    )  # fmt: skip
    codec = T5Codec(s.vocab, dim=s.dim)
    codec.encoder = Frozen(T5EncoderModel(config))
    return codec.to(bench_config.device)


def random_batch(config: BenchConfig) -> Batch:
    """Random tokens without padding."""
    s = config.size
    ids = torch.randint(s.vocab, (s.rows, s.length), device=config.device)
    return Batch(ids, torch.ones_like(ids, dtype=torch.bool))


def flat_gradients(net: torch.nn.Module) -> Tensor:
    """All gradients as one flat vector."""
    return torch.cat([p.grad.flatten().float() for p in net.parameters() if p.grad is not None])
