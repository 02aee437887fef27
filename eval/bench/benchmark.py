"""Benchmark: one computation in several variants whose results must agree."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import Tensor

from textflow.codecs import LatentSpace, T5Codec
from textflow.nets import ELF, Frozen
from textflow.types import Batch

from .sizes import BenchConfig
from .systems import BENCHMARKS

Module = TypeVar("Module", bound=torch.nn.Module)


class Benchmark(ABC):
    """The same work in the optimized and in the reference variant."""

    variants: tuple[str, ...] = ("optimized", "reference")
    all_logits: bool = False  # whether the reference has float32 numbers of all positions and tokens in memory

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


def make_benchmark(name: str, config: BenchConfig) -> Benchmark:
    """Benchmark with the given name; its module is imported on demand, since some need more than torch."""
    module, kind = BENCHMARKS[name].benchmark.split(".")
    benchmark: Benchmark = getattr(import_module(f".{module}", __package__), kind)(config)
    return benchmark


def make_network(config: BenchConfig, variant: str = "reference") -> ELF:
    """ELF of the given size; its last layer is nonzero, as in a trained network.

    Args:
        config: size and device; compilation, checkpointing and fused kernels apply to the optimized variant.
        variant: optimized or reference; both have the same weights.
    """
    s, options = config.size, dict[str, Any]()
    if variant == "optimized":
        options = {"compile_blocks": config.compile, "kernels": config.kernels}
        options["activation_checkpointing"] = config.activation_checkpointing
    torch.manual_seed(1)
    net = ELF(LatentSpace(s.dim, s.vocab), s.width, s.depth, s.heads, s.bottleneck, **options)
    torch.nn.init.normal_(net.out.weight, std=0.02)
    return net.to(config.device)


def network_pair(config: BenchConfig) -> dict[str, ELF]:
    """Network of each variant; shared where the variants do not differ."""
    reference = make_network(config)
    differ = config.compile or config.activation_checkpointing or config.kernels != "torch"
    return {"optimized": make_network(config, "optimized") if differ else reference, "reference": reference}


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


def fill_zero_weights(net: Module) -> Module:
    """The net with small random numbers for weights that begin at zero, as if it were trained."""
    for p in net.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.02)
    return net


def flat_gradients(net: torch.nn.Module) -> Tensor:
    """All gradients as one flat vector."""
    return torch.cat([p.grad.flatten().float() for p in net.parameters() if p.grad is not None])
