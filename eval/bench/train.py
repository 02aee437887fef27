"""Benchmark of a full training step: encoder, loss, gradients, clipping, update and EMA."""

from copy import deepcopy

import torch

from textflow.reference.muon import ReferenceMuon
from textflow.training import MuonAdam
from textflow.training.ema import update_ema

from .sizes import BenchConfig
from .step import LossStepBenchmark


class TrainStepBenchmark(LossStepBenchmark):
    """Full step of `textflow fit`; the published reference updates one matrix after another."""

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        self.optimizers = {
            "optimized": MuonAdam(self.nets["optimized"].named_parameters()),
            "reference": ReferenceMuon(self.nets["reference"].named_parameters()),
        }
        self.ema_net = deepcopy(self.nets["reference"])

    def run(self, variant: str) -> None:
        super().run(variant)
        net = self.net(variant)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        self.optimizers["optimized" if variant == "optimized" else "reference"].step()
        update_ema(net, self.ema_net, 0.999)
