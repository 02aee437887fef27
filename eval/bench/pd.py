"""The step of progressive distillation: encoder, teacher's walk, loss and gradients."""

import torch
from torch import Tensor

from textflow.distill.step import Distill
from textflow.distill.targets import Progressive
from textflow.objectives import ELFObjective
from textflow.paths import Linear
from textflow.reference.distill import plain_distill

from .benchmark import Contest, gradients, network, pair, t5, text
from .flops import Flops
from .sizes import Setting


class Students(Contest):
    """One training step of a student; plain is as published: a blind guess and a walk of the teacher on all rows,
    logits of all tokens."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        s = setting.size
        self.codec, self.nets, self.batch = t5(setting), pair(setting), text(setting)
        self.objective = Distill(Progressive(setting.steps), 4, ELFObjective(coins="stratified"))
        self.teacher, self.path = network(setting), Linear()
        self.objective.learn_from(self.objective.like, self.teacher)
        self.draws = self.objective.like.draw(torch.zeros(s.rows, s.length, s.dim, device=setting.device))
        self.times = self.objective.walk(self.draws.t)

    def run(self, form: str) -> None:
        net = self.nets[form]
        net.zero_grad()
        with self.autocast(form):
            with torch.no_grad():
                x = self.codec.encode(self.batch.ids, self.batch.mask)
            parts = (self.path, x, self.batch, self.draws, self.times)
            if form == "lean":
                losses = self.objective.loss(net, *parts)
            else:
                losses = plain_distill(self.objective, net, self.teacher, *parts)
        losses["loss"].backward()  # type: ignore[no-untyped-call]

    def answer(self, form: str) -> Tensor:
        self.run(form)
        return gradients(self.nets[form])

    def flops(self, form: str) -> float:
        return Flops(self.setting.size).distilled(form, self.setting.steps)
