"""Benchmarks of LangFlow with token logits in chunks, against logits of all positions in memory."""

import torch
from torch import Tensor

from textflow.codecs import EmbeddingTable
from textflow.nets import LangFlow
from textflow.noise import Noise
from textflow.objectives import LangFlowObjective
from textflow.objectives.base import Draws
from textflow.paths import VariancePreserving
from textflow.readouts import FromPosterior, View
from textflow.reference.langflow import reference_langflow_loss, reference_langflow_sample
from textflow.samplers import Euler, sample
from textflow.types import Conditioning, Latents, Posterior

from .benchmark import Benchmark, fill_zero_weights, flat_gradients, random_batch
from .flops import transformer_blocks, vocabulary_product
from .sizes import BenchConfig, ModelSize

PATH = VariancePreserving()


def make_langflow(config: BenchConfig) -> LangFlow:
    """LangFlow of the given size, with trained embeddings; no weight is zero, as in a trained network."""
    s = config.size
    torch.manual_seed(1)
    codec = EmbeddingTable(s.vocab, s.width, trainable=True, init="uniform")
    net = LangFlow(codec, s.depth, s.heads, dropout=0.0)
    net.codec = codec
    return fill_zero_weights(net).to(config.device)


class LangFlowStepBenchmark(Benchmark):
    """Loss and gradients of a training step; the reference has the logits of both passes on all rows."""

    all_logits = True

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        self.net, self.objective = make_langflow(config), LangFlowObjective().to(config.device)
        self.batch, rows = random_batch(config), torch.arange(config.size.rows, device=config.device)
        x = torch.zeros(*self.batch.ids.shape, self.net.dim, device=config.device)
        self.conditioned = round(self.objective.self_cond_prob * len(rows))
        draws = self.objective.sample_draws(x)
        self.draws = Draws(draws.t, draws.eps, self_cond=rows < self.conditioned)

    def run(self, variant: str) -> None:
        self.net.zero_grad()
        with self.autocast(variant):
            x = self.net.token_codec.encode(self.batch.ids)
            parts = self.net, PATH, x, self.batch, self.draws
            if variant == "optimized":
                losses = self.objective.loss(*parts)
            else:
                losses = reference_langflow_loss(self.objective, *parts)
        losses["loss"].backward()  # type: ignore[no-untyped-call]

    def result(self, variant: str) -> Tensor:
        self.run(variant)
        return flat_gradients(self.net)

    def flops(self, variant: str) -> float:
        s = self.config.size
        first = self.conditioned / s.rows if variant == "optimized" else 1.0
        return 3 * logits_flops(s) + first * (logits_flops(s) + vocabulary_product(s))


class LangFlowSamplingBenchmark(Benchmark):
    """Euler's steps and readout of a batch of texts."""

    all_logits = True

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        s = config.size
        self.net = make_langflow(config).eval().requires_grad_(False)
        self.noise, self.times = Noise(range(s.rows)), LangFlowObjective().time_schedule.grid(config.steps)
        self.z = self.noise.normal(s.length, s.width).to(config.device)

    @torch.no_grad()
    def run(self, variant: str) -> None:
        with self.autocast(variant):
            if variant == "optimized":
                self.run_optimized()
            else:
                for z, p in reference_langflow_sample(self.net, PATH, self.z, self.times):
                    self.end, self.ids = z, p.argmax(-1)

    def run_optimized(self) -> None:
        """Sampling loop and readout of a generator."""

        def denoise(
            z: Latents, t: float, self_cond: Latents | None = None, t_next: float | None = None, carry: object = None
        ) -> Posterior:
            return self.net(z, z.new_full((len(z),), t), Conditioning(self_cond))

        trace = sample(denoise, Euler(), PATH, self.times, self.z, self.noise, keep_logits=False)
        last = trace.states[-1], trace.times[-1], trace.beliefs[-1]
        self.end, self.ids = last[0], FromPosterior().decode(View(*last, PATH, self.net.token_codec, self.net))

    def result(self, variant: str) -> Tensor:
        self.run(variant)
        return self.end.flatten()

    def flops(self, variant: str) -> float:
        s = self.config.size
        readout = 2 * vocabulary_product(s) if variant == "optimized" else 0.0  # the last step's logits once more
        return self.config.steps * (logits_flops(s) + vocabulary_product(s)) + readout


def logits_flops(size: ModelSize) -> float:
    """FLOPs of the logits of all tokens: self-conditioning, blocks, and products with the weights and with E."""
    return transformer_blocks(size) + size.tokens * 4 * size.width**2 + 2 * vocabulary_product(size)
