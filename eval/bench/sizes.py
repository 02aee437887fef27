"""Fixed benchmark sizes and run settings."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from .systems import BENCHMARKS


@dataclass(frozen=True)
class ModelSize:
    """Size of a network, its encoder and its batch.

    Args:
        width, depth, heads: network width, number of blocks, attention heads.
        dim: width of the latents and of the encoder.
        bottleneck: width of the network's input bottleneck.
        vocab: number of tokens.
        encoder_layers, encoder_hidden: number of encoder layers, encoder feed-forward width.
        rows, length: batch rows and tokens per row.
    """

    width: int
    depth: int
    heads: int
    dim: int
    bottleneck: int
    vocab: int
    encoder_layers: int
    encoder_hidden: int
    rows: int
    length: int

    @property
    def tokens(self) -> int:
        """Number of tokens in a batch."""
        return self.rows * self.length


SIZES = {
    "P": ModelSize(256, 8, 4, 160, 48, 7_168, 6, 640, 20, 128),
    "R": ModelSize(256, 6, 4, 512, 128, 32_100, 6, 2048, 20, 128),
    "B": ModelSize(768, 12, 12, 512, 128, 32_100, 6, 2048, 10, 256),
}


@dataclass(frozen=True)
class BenchConfig:
    """Size, device and precision of a benchmark run.

    Args:
        size: sizes of the model and the batch.
        device: torch device.
        bf16: run the blocks in bfloat16.
        compile: compile the optimized variant's blocks; graphs: as CUDA graphs.
        activation_checkpointing: store only the block inputs in the optimized variant.
        kernels: fused kernels for the optimized variant's norms and gates.
        steps: teacher steps per student step, or sampling steps.
        tf32: use TF32 for float32 matrix products, except Muon's.
    """

    size: ModelSize
    device: str = "cpu"
    bf16: bool = False
    compile: bool | Literal["graphs"] = False
    activation_checkpointing: bool = False
    kernels: Literal["torch", "liger"] = "torch"
    steps: int = 8
    tf32: bool = False

    def __post_init__(self) -> None:
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device cuda: no GPU is available; measure with --device cpu")


def make_config(
    size_name: str, size_changes: dict[str, int | None] | None = None, benchmark: str = "", **options: Any
) -> BenchConfig:
    """Config with a named size, optionally with some fields changed.

    Args:
        size_name: P, R or B.
        size_changes: changed size fields; None leaves a field unchanged.
        benchmark: name in BENCHMARKS, whose system may set fields too; default: none.
    """
    own = BENCHMARKS[benchmark].size if benchmark in BENCHMARKS else {}
    changes = own | {key: value for key, value in (size_changes or {}).items() if value is not None}
    return BenchConfig(replace(SIZES[size_name], **changes), **options)


def config_from_dict(fields: dict[str, Any]) -> BenchConfig:
    """Config from the dict that `dataclasses.asdict` makes of one."""
    return BenchConfig(**(fields | {"size": ModelSize(**fields["size"])}))
