"""Sampling, and the reading of tokens at its end."""

import torch
from torch import Tensor

from textflow.codecs import Table
from textflow.noise import Noise
from textflow.paths import Linear
from textflow.readouts import FromNet
from textflow.samplers import Euler, sample
from textflow.schedules import LogitNormal
from textflow.types import Given, Ids, Latents, Posterior

from .benchmark import Contest, pair
from .flops import Flops
from .sizes import Setting

W = 3.0  # guidance


class Writing(Contest):
    """A batch of samples by Euler's rule; plain holds its grid on the device and all logits at once."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        if setting.bf16:
            self.forms = ("lean", "plain", "plain fp32")
        s = setting.size
        self.nets, self.path = pair(setting), Linear()
        self.grid = LogitNormal().grid(setting.steps)
        self.noise = Noise(range(s.rows))
        self.z = 2 * self.noise.normal(s.length, s.dim).to(setting.device)
        self.w = torch.full((s.rows,), W, device=setting.device)

    @torch.no_grad()
    def run(self, form: str) -> None:
        with self.autocast(form):
            self.ids = self.lean() if form == "lean" else self.plain()

    def lean(self) -> Ids:
        """The loop and the readout of a generator."""
        net = self.nets["lean"]

        def denoise(z: Latents, t: float, prev: Latents | None = None) -> Posterior:
            return net(z, torch.full_like(self.w, t), Given(prev, self.w))

        trace = sample(denoise, Euler(), self.path, self.grid, self.z, self.noise)
        self.end = trace.z
        codec = Table(net.vocab, 1)  # not asked
        return FromNet().tokens(
            trace.z, 1.0, trace.beliefs[-1]._replace(mean=trace.z), self.path, codec, net, self.told
        )

    def plain(self) -> Ids:
        """z + (u - t) v, told by a grid on the device."""
        net, z, grid = self.nets["plain"], self.z, torch.tensor(self.grid, device=self.z.device)
        prev = torch.zeros_like(z)
        for t, u in zip(grid[:-1], grid[1:], strict=True):
            prev = net(z, t.expand(len(z)), Given(prev, self.w)).mean
            z = prev if float(u) == 1 else z + (float(u) - float(t)) * (prev - z) / max(1 - float(t), 0.05)
        self.end = z
        return net.decode(z, torch.ones_like(self.w), self.told).argmax(-1)

    @property
    def told(self) -> Given:
        """What reading is told."""
        return Given(w=self.w)

    def answer(self, form: str) -> Tensor:
        self.run(form)
        return self.end.flatten()

    def flops(self, form: str) -> float:
        return Flops(self.setting.size).sampled(self.setting.steps)


class Reading(Contest):
    """Final latents -> tokens; plain holds all logits at once."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        s = setting.size
        self.net = pair(setting)["plain"].requires_grad_(False)
        self.z = torch.randn(s.rows, s.length, s.dim, device=setting.device)
        self.w = torch.full((s.rows,), W, device=setting.device)

    @torch.no_grad()
    def run(self, form: str) -> None:
        parts = (self.z, torch.ones_like(self.w), Given(w=self.w))
        with self.autocast(form):
            self.ids = self.net.tokens(*parts) if form == "lean" else self.net.decode(*parts).argmax(-1)

    def answer(self, form: str) -> Tensor:
        self.run(form)
        return self.ids.flatten().double()

    def flops(self, form: str) -> float:
        return Flops(self.setting.size).sampled(0)
