"""Benchmarks of FLM in the space of its token table, against states and noise as wide as the vocabulary."""

import torch
from torch import Tensor

from textflow.codecs import OneHot
from textflow.nets import DiT
from textflow.noise import Noise
from textflow.objectives import FLMObjective
from textflow.objectives.base import Draws
from textflow.paths import LinearPath
from textflow.readouts import FromPosterior, View
from textflow.reference.flm import reference_flm_loss, reference_flm_sample
from textflow.samplers import Euler, Trace, sample
from textflow.schedules import OneHotDecodeError
from textflow.types import Conditioning, Latents, Posterior

from .benchmark import Benchmark, fill_zero_weights, flat_gradients, random_batch
from .flops import transformer_blocks, vocabulary_product
from .sizes import BenchConfig

PATH = LinearPath(1.0, 0.0, 1e-5)


def make_flm(config: BenchConfig) -> tuple[DiT, OneHotDecodeError]:
    """FLM of the given size with its schedule; no weight is zero, as in a trained network."""
    s = config.size
    torch.manual_seed(1)
    schedule = OneHotDecodeError(s.vocab)
    net = DiT(OneHot(s.vocab), s.width, s.depth, s.heads, time_schedule=schedule)
    return fill_zero_weights(net).to(config.device), schedule.to(config.device)


class FLMStepBenchmark(Benchmark):
    """Loss and gradients of a training step, with its noise."""

    all_logits = True

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        self.net, schedule = make_flm(config)
        self.objective, self.batch = FLMObjective(schedule), random_batch(config)
        self.t = schedule.sample_stratified(config.size.rows, self.batch.ids.device)

    def run(self, variant: str) -> None:
        self.net.zero_grad()
        with self.autocast(variant):
            if variant == "optimized":
                losses = self.objective(self.net, self.net.token_codec, PATH, self.batch, 0)
            else:
                losses = reference_flm_loss(self.net, self.batch, self.t, self.wide_noise())
        losses["loss"].backward()

    def wide_noise(self) -> Latents:
        """Standard normal noise, as wide as the vocabulary."""
        return torch.randn(*self.batch.ids.shape, self.config.size.vocab, device=self.batch.ids.device)

    def result(self, variant: str) -> Tensor:
        """Gradients with the same noise in both variants."""
        torch.manual_seed(2)
        eps = self.wide_noise()
        self.net.zero_grad()
        if variant == "optimized":
            losses = self.objective.loss(self.net, PATH, self.batch, Draws(self.t, eps @ self.net.embed))
        else:
            losses = reference_flm_loss(self.net, self.batch, self.t, eps)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        return flat_gradients(self.net)

    def flops(self, variant: str) -> float:
        s = self.config.size
        covariance = 4 * s.vocab * s.width**2 + 6 * s.tokens * s.width**2
        table = covariance if variant == "optimized" else 2 * vocabulary_product(s)  # its gradient needs one product
        return float(3 * (transformer_blocks(s) + vocabulary_product(s)) + table)


class FLMSamplingBenchmark(Benchmark):
    """Noise, Euler's steps and readout of a batch of texts."""

    all_logits = True

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        self.net, schedule = make_flm(config)
        self.net.eval().requires_grad_(False)
        self.times = schedule.grid(config.steps)

    @torch.no_grad()
    def run(self, variant: str) -> None:
        with self.autocast(variant):
            if variant == "optimized":
                net, codec = self.net.sampling_space(self.net.token_codec)
                trace = self.integrate(self.noise(codec.dim))
                last = trace.states[-1], trace.times[-1], trace.beliefs[-1]
                self.ids = FromPosterior().decode(View(*last, PATH, codec, net))
            else:
                for _, p in reference_flm_sample(self.net, self.noise(self.config.size.vocab), self.times):
                    self.ids = p.argmax(-1)

    def noise(self, width: int) -> Latents:
        """Standard normal noise of a batch, one stream per text."""
        s = self.config.size
        return Noise(range(s.rows)).normal(s.length, width).to(self.config.device)

    def integrate(self, z: Latents) -> Trace:
        """The sampling loop of a generator, in the table's space."""
        net = self.net.sampling_space(self.net.token_codec)[0]

        def denoise(
            z: Latents, t: float, self_cond: Latents | None = None, t_next: float | None = None, carry: object = None
        ) -> Posterior:
            return net(z, z.new_full((len(z),), t), Conditioning())

        return sample(denoise, Euler(), PATH, self.times, z, Noise(range(len(z))), keep_logits=False)

    @torch.no_grad()
    def result(self, variant: str) -> Tensor:
        """Probabilities of the last step, from the same noise in both variants."""
        z = self.noise(self.config.size.vocab)
        if variant == "reference":
            *_, (_, p) = reference_flm_sample(self.net, z, self.times)
            return p.flatten()
        net, codec = self.net.sampling_space(self.net.token_codec)
        trace = self.integrate(codec.expected_latents(z))
        logits = net.belief_logits(trace.beliefs[-1])
        assert logits is not None, "the belief carries hidden states"
        return logits.softmax(-1).flatten()

    def flops(self, variant: str) -> float:
        s, steps = self.config.size, self.config.steps
        readout = vocabulary_product(s) if variant == "optimized" else 0.0
        return steps * (transformer_blocks(s) + 2 * vocabulary_product(s)) + readout
