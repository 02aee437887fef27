"""Benchmark of the optimizer step."""

import torch
from torch import Tensor, nn

from textflow.reference.muon import ReferenceMuon
from textflow.training import MuonAdam

from .benchmark import Benchmark, make_network
from .sizes import BenchConfig


class OptimizerBenchmark(Benchmark):
    """One update of all weights; the reference runs Newton-Schulz on one matrix after another."""

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        self.nets = {form: make_network(config) for form in self.variants}
        self.nets["reference"].load_state_dict(self.nets["optimized"].state_dict())
        optimized, reference = (self.nets[form].named_parameters() for form in self.variants)
        # lr = 1: updates are not rounded away
        self.optimizers = {"optimized": MuonAdam(optimized, lr=1.0), "reference": ReferenceMuon(reference, lr=1.0)}
        for one, other in zip(*(net.parameters() for net in self.nets.values()), strict=True):
            one.grad = other.grad = torch.randn_like(one) / one.numel() ** 0.5

    def run(self, variant: str) -> None:
        self.optimizers[variant].step()

    def result(self, variant: str) -> Tensor:
        before = flat_parameters(self.nets[variant])
        self.run(variant)
        return flat_parameters(self.nets[variant]) - before


def flat_parameters(net: nn.Module) -> Tensor:
    """All weights as one flat vector."""
    return torch.cat([p.detach().flatten() for p in net.parameters()])
