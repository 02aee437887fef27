"""FLOPs of training and of sampling by formula: products of matrices alone; backward is twice forward."""

import re
from dataclasses import dataclass

from .sizes import Size

PREFIX = 12  # time, guidance and mode tokens of the published network
WAVES = 256  # sinusoids of a scalar

# Dense bf16 FLOPs a second as the vendors state them, without sparsity (T4: fp16); the first name that fits counts.
PEAKS = {
    "H200 NVL": 836e12, "H200": 989e12, "H100 NVL": 836e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12,
    "L40S": 362e12, "L40": 181e12, "L4": 121e12, "RTX 4090": 165e12, "T4": 65e12,
}  # fmt: skip
OTHERS = {"mig", "laptop", "d"}  # a slice of a card, or a lesser one of its name


@dataclass(frozen=True)
class Flops:
    """Forward passes over a batch, in FLOPs.

    Args:
        size: of network and batch.
    """

    size: Size

    @property
    def trunk(self) -> float:
        """Way in, prefix and blocks, of all rows."""
        s, n = self.size, self.size.length + PREFIX
        block = 2 * (4 * s.width**2 + 3 * s.width * int(8 * s.width / 3)) + 4 * n * s.width
        into = 2 * (2 * s.dim**2 + s.dim * s.bottleneck + s.bottleneck * s.width)
        scalars = 2 * 2 * (WAVES * s.width + s.width**2)  # a row: time and guidance
        return float(s.rows * (s.depth * n * block + s.length * into + scalars))

    @property
    def guess(self) -> float:
        """The clean guess of all tokens."""
        return float(2 * self.size.tokens * self.size.width * self.size.dim)

    @property
    def logits(self) -> float:
        """Logits of all tokens."""
        s = self.size
        return float(2 * s.tokens * (s.width * s.dim + s.dim * s.vocab))

    @property
    def encoder(self) -> float:
        """The frozen encoder (T5)."""
        s = self.size
        return float(s.layers * s.tokens * (2 * (4 * s.dim**2 + 2 * s.dim * s.hidden) + 4 * s.length * s.dim))

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of the rows: those that decode, those that denoise, and those of them that see their own guess."""
        rows = self.size.rows
        decode = round(0.2 * rows)
        return decode / rows, 1 - decode / rows, round(0.5 * (rows - decode)) / rows

    def step(self, form: str) -> float:
        """One training step, the encoder included: as published, or the least for the same gradient."""
        decode, denoise, again = self.shares if form == "lean" else (1.0, 1.0, 1.0)
        blind = 1 if form == "lean" else 2  # passes without gradient
        kept = 3 * (self.trunk + denoise * self.guess + decode * self.logits)
        return self.encoder + kept + blind * again * (self.trunk + self.guess)

    def distilled(self, form: str, substeps: int) -> float:
        """One step of progressive distillation: as published, or the least for the same gradient."""
        decode, denoise, again = self.shares if form == "lean" else (1.0, 1.0, 1.0)
        asked = denoise * substeps + again  # the teacher's passes
        kept = 3 * (self.trunk + denoise * self.guess + decode * self.logits)
        return self.encoder + kept + asked * (self.trunk + self.guess)

    def sampled(self, steps: int) -> float:
        """A batch of samples: a pass a step and one that reads."""
        return steps * (self.trunk + self.guess) + self.trunk + self.logits


def peak(hardware: str) -> float | None:
    """bf16 FLOPs a second that a card could reach, by the whole words of its name; None where that is not known."""
    words = set(re.findall(r"\w+", hardware.lower()))
    if words & OTHERS:
        return None
    return next((value for name, value in PEAKS.items() if words.issuperset(name.lower().split())), None)
