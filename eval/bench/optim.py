"""The optimizer's step."""

import torch
from torch import Tensor, nn

from textflow.reference.muon import PlainMuonAdam
from textflow.training import MuonAdam

from .benchmark import Contest, network
from .sizes import Setting


class Update(Contest):
    """One update of all weights; plain takes one matrix after another, Newton-Schulz on the matrix itself."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.nets = {form: network(setting) for form in self.forms}
        self.nets["plain"].load_state_dict(self.nets["lean"].state_dict())
        self.rules = {
            "lean": MuonAdam(self.nets["lean"].named_parameters(), lr=1.0),  # so that weights do not round it away
            "plain": PlainMuonAdam(self.nets["plain"].named_parameters(), lr=1.0),
        }
        for one, other in zip(*(net.parameters() for net in self.nets.values()), strict=True):
            one.grad = other.grad = torch.randn_like(one) / one.numel() ** 0.5

    def run(self, form: str) -> None:
        self.rules[form].step()

    def answer(self, form: str) -> Tensor:
        before = flat(self.nets[form])
        self.run(form)
        return flat(self.nets[form]) - before


def flat(net: nn.Module) -> Tensor:
    """All weights in one row."""
    return torch.cat([p.detach().flatten() for p in net.parameters()])
