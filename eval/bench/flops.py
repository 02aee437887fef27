"""FLOPs of training and sampling by formula: matrix products only; backward counts twice forward."""

import re
from dataclasses import dataclass

from .sizes import ModelSize

PREFIX_TOKENS = 12  # time, guidance and mode tokens of the published network
NUM_FREQUENCIES = 256  # sinusoids of a scalar

# Dense bf16 FLOPs per second from vendor data sheets, without sparsity (T4: fp16); the first matching name counts.
PEAK_FLOPS = {
    "H200 NVL": 836e12, "H200": 989e12, "H100 NVL": 836e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12,
    "L40S": 362e12, "L40": 181e12, "L4": 121e12, "RTX 4090": 165e12, "T4": 65e12,
}  # fmt: skip
EXCLUDED_WORDS = {"mig", "laptop", "d"}  # a slice of a card, or a lesser one of its name


@dataclass(frozen=True)
class Flops:
    """FLOPs of forward passes over a batch."""

    size: ModelSize

    @property
    def forward_hidden(self) -> float:
        """FLOPs of input projection, prefix and blocks for all rows."""
        s, n = self.size, self.size.length + PREFIX_TOKENS
        block = 2 * (4 * s.width**2 + 3 * s.width * int(8 * s.width / 3)) + 4 * n * s.width
        into = 2 * (2 * s.dim**2 + s.dim * s.bottleneck + s.bottleneck * s.width)
        scalars = 2 * 2 * (NUM_FREQUENCIES * s.width + s.width**2)  # a row: time and guidance
        return float(s.rows * (s.depth * n * block + s.length * into + scalars))

    @property
    def predict_x0(self) -> float:
        """FLOPs of the clean prediction for all tokens."""
        return float(2 * self.size.tokens * self.size.width * self.size.dim)

    @property
    def decode_logits(self) -> float:
        """FLOPs of the logits for all tokens."""
        s = self.size
        return float(2 * s.tokens * (s.width * s.dim + s.dim * s.vocab))

    @property
    def encoder(self) -> float:
        """FLOPs of the frozen T5 encoder."""
        s = self.size
        return float(
            s.encoder_layers * s.tokens * (2 * (4 * s.dim**2 + 2 * s.dim * s.encoder_hidden) + 4 * s.length * s.dim)
        )

    @property
    def row_fractions(self) -> tuple[float, float, float]:
        """Fractions of decoding rows, denoising rows, and denoising rows with self-conditioning."""
        rows = self.size.rows
        decode = round(0.2 * rows)
        return decode / rows, 1 - decode / rows, round(0.5 * (rows - decode)) / rows

    def training_step(self, variant: str) -> float:
        """FLOPs of a training step with the encoder: as published, or the minimum for the same gradient."""
        decode, denoise, self_cond = self.row_fractions if variant == "optimized" else (1.0, 1.0, 1.0)
        no_grad_passes = 1 if variant == "optimized" else 2
        with_gradient = 3 * (self.forward_hidden + denoise * self.predict_x0 + decode * self.decode_logits)
        return self.encoder + with_gradient + no_grad_passes * self_cond * (self.forward_hidden + self.predict_x0)

    def distillation_step(self, variant: str, substeps: int) -> float:
        """FLOPs of a progressive distillation step: as published, or the minimum for the same gradient."""
        decode, denoise, self_cond = self.row_fractions if variant == "optimized" else (1.0, 1.0, 1.0)
        teacher_passes = denoise * substeps + self_cond
        with_gradient = 3 * (self.forward_hidden + denoise * self.predict_x0 + decode * self.decode_logits)
        return self.encoder + with_gradient + teacher_passes * (self.forward_hidden + self.predict_x0)

    def sampling(self, steps: int) -> float:
        """FLOPs of sampling a batch: one pass per step and one decoding pass."""
        return steps * (self.forward_hidden + self.predict_x0) + self.forward_hidden + self.decode_logits


def transformer_blocks(size: ModelSize) -> float:
    """FLOPs of the blocks of a DiT for all tokens."""
    return float(size.depth * size.tokens * (24 * size.width**2 + 4 * size.length * size.width))


def vocabulary_product(size: ModelSize) -> float:
    """FLOPs of a product of all tokens with a table of the vocabulary."""
    return float(2 * size.tokens * size.width * size.vocab)


def peak_flops(hardware: str) -> float | None:
    """Peak bf16 FLOPs per second of a GPU, matched by the words of its name; None if unknown."""
    words = set(re.findall(r"\w+", hardware.lower()))
    if words & EXCLUDED_WORDS:
        return None
    return next((value for name, value in PEAK_FLOPS.items() if words.issuperset(name.lower().split())), None)
