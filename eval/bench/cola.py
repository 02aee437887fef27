"""Benchmark of Cola-DLM's sampling: keys and values of the blocks before in a cache, against computing them again."""

import torch
from torch import Tensor

from textflow.codecs import TextVAE
from textflow.nets import ColaDiT
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.readouts import FromCodec
from textflow.samplers import Blockwise, DenoiseFn, Euler
from textflow.schedules import Uniform

from .benchmark import Benchmark, fill_zero_weights
from .sizes import BenchConfig

BLOCK, PENALTY = 16, 1.1  # latents denoised together, and the readout's penalty of tokens before (Cola-DLM)
FREQUENCIES = 256  # of the time embedding


class ColaSamplingBenchmark(Benchmark):
    """Denoising and readout of texts, block after block with guidance; the reference evaluates all blocks before in
    each step. The VAE has one decoder block, which keeps its keys and values in both variants."""

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        s = config.size
        torch.manual_seed(1)
        codec = TextVAE(s.vocab, s.dim, s.width, 2 * s.width, 1, 1, s.heads, block_size=BLOCK)
        net = ColaDiT(codec, s.width, s.depth, s.heads, block_size=BLOCK)
        for part in (codec, net):
            fill_zero_weights(part).to(config.device).eval().requires_grad_(False)
        self.denoise = DenoiseFn(net, codec, LinearPath(1.0, 0.0), FromCodec())
        self.noise, self.times = Noise(range(s.rows)), Uniform().grid(config.steps)
        self.z = self.noise.normal(s.length, s.dim).to(config.device)

    @torch.no_grad()
    def run(self, variant: str) -> None:
        order = Blockwise(cache=variant == "optimized")
        with self.autocast(variant):
            parts = FromCodec(PENALTY), Euler(), self.times, self.z, self.noise
            self.ids = order.sample(self.denoise, *parts).ids

    def result(self, variant: str) -> Tensor:
        self.run(variant)
        return self.ids.flatten().double()

    def flops(self, variant: str) -> float:
        s, steps = self.config.size, self.config.steps
        return s.rows * sum(
            steps * (self.given(variant, start, min(BLOCK, s.length - start)))
            + self.before(variant, start)
            + self.read(start, min(BLOCK, s.length - start))
            for start in range(0, s.length, BLOCK)
        )

    def given(self, variant: str, start: int, new: int) -> float:
        """FLOPs of one step of the block at `start`: its velocity after the blocks before, and that of it alone."""
        whole = start + new
        after = self.prior(new, whole, 1) if variant == "optimized" or not start else self.prior(whole, whole, whole)
        return after + (self.prior(new, new, 1) if start else 0.0)

    def before(self, variant: str, start: int) -> float:
        """FLOPs of the keys and values of the block before `start`, of the decoder and, if kept, of the prior."""
        if not start:
            return 0.0
        return self.decoder_blocks(start - BLOCK, BLOCK) + (
            self.prior(BLOCK, start, 1) if variant == "optimized" else 0.0
        )

    def prior(self, new: int, keys: int, times: int) -> float:
        """FLOPs of the prior on `new` latents that attend to `keys`, at a number of times that differ."""
        s = self.config.size
        latents = new * (s.depth * (24 * s.width**2 + 4 * keys * s.width) + 4 * s.dim * s.width)
        modulation = 12 * s.depth * s.width**2 + 4 * s.width**2 + 2 * (FREQUENCIES * s.width + 2 * s.width**2)
        return float(latents + times * modulation)

    def read(self, start: int, new: int) -> float:
        """FLOPs of the token logits of `new` latents after `start`."""
        s = self.config.size
        return self.decoder_blocks(start, new) + float(new * (2 * s.width**2 + 2 * s.width * s.vocab))

    def decoder_blocks(self, start: int, new: int) -> float:
        """FLOPs of the decoder's blocks on `new` latents after `start`."""
        s = self.config.size
        block = 8 * s.width**2 + 12 * s.width**2 + 4 * (start + new) * s.width
        return float(new * (block + 2 * s.dim * s.width))
