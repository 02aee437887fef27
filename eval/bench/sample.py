"""Benchmarks of sampling and of decoding the final latents."""

import torch
from torch import Tensor

from textflow.codecs import LatentSpace
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.readouts import FromNet, View
from textflow.samplers import Euler, sample
from textflow.schedules import LogitNormal
from textflow.types import Conditioning, Ids, Latents, Posterior

from .benchmark import Benchmark, network_pair
from .flops import Flops
from .sizes import BenchConfig

GUIDANCE = 3.0


class SamplingBenchmark(Benchmark):
    """Euler sampling of a batch; the reference keeps its time grid on the device and all logits in memory."""

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        if config.bf16:
            self.variants = ("optimized", "reference", "reference fp32")
        s = config.size
        self.nets, self.path = network_pair(config), LinearPath()
        self.times = LogitNormal().grid(config.steps)
        self.noise = Noise(range(s.rows))
        self.z = 2 * self.noise.normal(s.length, s.dim).to(config.device)
        self.guidance = torch.full((s.rows,), GUIDANCE, device=config.device)

    @torch.no_grad()
    def run(self, variant: str) -> None:
        with self.autocast(variant):
            self.ids = self.run_optimized() if variant == "optimized" else self.run_reference()

    def run_optimized(self) -> Ids:
        """Sampling loop and readout of a generator."""
        net = self.nets["optimized"]

        def denoise(
            z: Latents, t: float, self_cond: Latents | None = None, t_next: float | None = None, carry: object = None
        ) -> Posterior:
            return net(z, torch.full_like(self.guidance, t), Conditioning(self_cond, self.guidance))

        trace = sample(denoise, Euler(), self.path, self.times, self.z, self.noise)
        self.end = trace.z
        final = trace.beliefs[-1]._replace(mean=trace.z)
        space = LatentSpace(net.dim, net.vocab_size)
        conditioning = Conditioning(guidance=self.guidance)
        return FromNet().decode(View(trace.z, 1.0, final, self.path, space, net, conditioning))

    def run_reference(self) -> Ids:
        """Euler updates z + (u - t) v with the time grid on the device."""
        net, z, grid = self.nets["reference"], self.z, torch.tensor(self.times, device=self.z.device)
        prev = torch.zeros_like(z)
        for t, u in zip(grid[:-1], grid[1:], strict=True):
            prev = net(z, t.expand(len(z)), Conditioning(prev, self.guidance)).mean
            z = prev if float(u) == 1 else z + (float(u) - float(t)) * (prev - z) / max(1 - float(t), 0.05)
        self.end = z
        conditioning = Conditioning(guidance=self.guidance)
        return net.decode_logits(z, torch.ones_like(self.guidance), conditioning).argmax(-1)

    def result(self, variant: str) -> Tensor:
        self.run(variant)
        return self.end.flatten()

    def flops(self, variant: str) -> float:
        return Flops(self.config.size).sampling(self.config.steps)


class DecodingBenchmark(Benchmark):
    """Final latents -> tokens; the reference keeps all logits in memory."""

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        s = config.size
        self.net = network_pair(config)["reference"].requires_grad_(False)
        self.z = torch.randn(s.rows, s.length, s.dim, device=config.device)
        self.guidance = torch.full((s.rows,), GUIDANCE, device=config.device)

    @torch.no_grad()
    def run(self, variant: str) -> None:
        parts = (self.z, torch.ones_like(self.guidance), Conditioning(guidance=self.guidance))
        with self.autocast(variant):
            optimized = variant == "optimized"
            self.ids = self.net.decode_ids(*parts) if optimized else self.net.decode_logits(*parts).argmax(-1)

    def result(self, variant: str) -> Tensor:
        self.run(variant)
        return self.ids.flatten().double()

    def flops(self, variant: str) -> float:
        return Flops(self.config.size).sampling(0)
