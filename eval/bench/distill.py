"""Progressive distillation step: encoder, teacher rollout, loss and gradients."""

import torch
from torch import Tensor

from textflow.distill.step import StepDistillation
from textflow.distill.targets import Progressive
from textflow.objectives import ELFObjective
from textflow.objectives.elf import ELFDraws
from textflow.paths import LinearPath
from textflow.reference.distill import reference_distill_loss

from .benchmark import Benchmark, flat_gradients, make_network, make_t5, network_pair, random_batch
from .flops import Flops
from .sizes import BenchConfig


class DistillationBenchmark(Benchmark):
    """Training step of a student; the published reference runs a first prediction and the teacher rollout on all
    rows, logits of all tokens."""

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        s = config.size
        self.codec, self.nets, self.batch = make_t5(config), network_pair(config), random_batch(config)
        self.objective = StepDistillation(Progressive(config.steps), 4, ELFObjective(row_assignment="stratified"))
        self.teacher, self.path = make_network(config), LinearPath()
        self.objective.set_teacher(self.objective.teacher_objective, self.teacher)
        x = torch.zeros(s.rows, s.length, s.dim, device=config.device)
        self.draws = self.objective.teacher_objective.sample_draws(x)
        self.times = self.objective.step_times(self.draws.t)

    def run(self, variant: str) -> None:
        net = self.nets[variant]
        net.zero_grad()
        with self.autocast(variant):
            with torch.no_grad():
                x = self.codec.encode(self.batch.ids, self.batch.mask)
            assert isinstance(self.draws, ELFDraws)
            parts = (self.path, x, self.batch, self.draws, self.times)
            if variant == "optimized":
                losses = self.objective.loss(net, *parts)
            else:
                losses = reference_distill_loss(self.objective, net, self.teacher, *parts)
        losses["loss"].backward()

    def result(self, variant: str) -> Tensor:
        self.run(variant)
        return flat_gradients(self.nets[variant])

    def flops(self, variant: str) -> float:
        return Flops(self.config.size).distillation_step(variant, self.config.steps)
