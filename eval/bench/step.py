"""The training step: encoder, loss and gradients."""

import torch
from torch import Tensor

from textflow.nets import ELF
from textflow.objectives import ELFObjective
from textflow.paths import Linear
from textflow.reference.elf import plain_loss

from .benchmark import Contest, gradients, pair, t5, text
from .flops import Flops
from .sizes import Setting


class Step(Contest):
    """One training step of a teacher; plain is as published: three passes on all rows, logits of all tokens."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        if setting.bf16:
            self.forms = ("lean", "plain", "plain fp32")
        self.codec, self.nets, self.batch = t5(setting), pair(setting), text(setting)
        self.objective, self.path = ELFObjective(coins="stratified"), Linear()
        s = setting.size
        self.draws = self.objective.draw(torch.zeros(s.rows, s.length, s.dim, device=setting.device))

    def run(self, form: str) -> None:
        net = self.net(form)
        net.zero_grad()
        with self.autocast(form):
            with torch.no_grad():
                x = self.codec.encode(self.batch.ids, self.batch.mask)
            parts = (net, self.path, x, self.batch, self.draws)
            losses = self.objective.loss(*parts) if form == "lean" else plain_loss(self.objective, *parts)
        losses["loss"].backward()  # type: ignore[no-untyped-call]

    def net(self, form: str) -> ELF:
        """The network of a form."""
        return self.nets["lean" if form == "lean" else "plain"]

    def answer(self, form: str) -> Tensor:
        self.run(form)
        return gradients(self.net(form))

    def flops(self, form: str) -> float:
        return Flops(self.setting.size).step("lean" if form == "lean" else "plain")
