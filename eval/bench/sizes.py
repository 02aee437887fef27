"""The fixed sizes of the benchmarks, and how they are run."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Size:
    """A network, its encoder and its batch.

    Args:
        width, depth, heads: of the network.
        dim: width of the latents and of the encoder.
        bottleneck: of the network's input.
        vocab: number of tokens.
        layers, hidden: of the encoder.
        rows, length: of the batch.
    """

    width: int
    depth: int
    heads: int
    dim: int
    bottleneck: int
    vocab: int
    layers: int
    hidden: int
    rows: int
    length: int

    @property
    def tokens(self) -> int:
        """Of a batch."""
        return self.rows * self.length


SIZES = {
    "P": Size(256, 8, 4, 160, 48, 7_168, 6, 640, 20, 128),
    "R": Size(256, 6, 4, 512, 128, 32_100, 6, 2048, 20, 128),
    "B": Size(768, 12, 12, 512, 128, 32_100, 6, 2048, 10, 256),
}


@dataclass(frozen=True)
class Setting:
    """What is run, and how.

    Args:
        size: of network and batch.
        device: cpu or cuda.
        bf16: whether the blocks run in bfloat16.
        compiled: whether the lean form's blocks are compiled; graphs: as CUDA graphs.
        recompute: whether the lean form keeps the inputs of its blocks alone (activation checkpointing).
        kernels: of the lean form's norms and gates.
        steps: of a teacher on one step of its student, or of a sample.
        tf32: whether what is in float32 is multiplied as TF32, Muon's products excepted.
    """

    size: Size
    device: str = "cpu"
    bf16: bool = False
    compiled: bool | Literal["graphs"] = False
    recompute: bool = False
    kernels: Literal["torch", "liger"] = "torch"
    steps: int = 8
    tf32: bool = False

    def __post_init__(self) -> None:
        if self.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                raise ValueError("device cuda: no GPU is at hand here; measure with --device cpu")


def setting(name: str, change: dict[str, int | None] | None = None, **how: Any) -> Setting:
    """A size by its letter, with other values for some of its fields.

    Args:
        name: P, R or B.
        change: fields of the size; None leaves one as it is.
        how: fields of the setting.
    """
    given = {key: value for key, value in (change or {}).items() if value is not None}
    return Setting(replace(SIZES[name], **given), **how)


def from_words(words: dict[str, Any]) -> Setting:
    """What `asdict` made of a setting, read back."""
    return Setting(**(words | {"size": Size(**words["size"])}))


def words(one: Setting) -> dict[str, Any]:
    """A setting as JSON can hold it."""
    return asdict(one)
