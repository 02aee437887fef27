"""The whole training step: encoder, loss, gradients, clipping, update and average."""

from copy import deepcopy

import torch

from textflow.reference.muon import PlainMuonAdam
from textflow.training import MuonAdam
from textflow.training.ema import follow

from .sizes import Setting
from .step import Step


class Train(Step):
    """All that a step of `textflow fit` computes; plain as published, its matrices one after another."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.rules = {
            "lean": MuonAdam(self.nets["lean"].named_parameters()),
            "plain": PlainMuonAdam(self.nets["plain"].named_parameters()),
        }
        self.twin = deepcopy(self.nets["plain"])

    def run(self, form: str) -> None:
        super().run(form)
        net = self.net(form)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        self.rules["lean" if form == "lean" else "plain"].step()
        follow(net, self.twin, 0.999)
