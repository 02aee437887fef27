"""A small deterministic model for the comparison of engines, which can fail at a chosen step."""

import signal
from typing import Any

import torch
from torch import Tensor, nn

from textflow import training
from textflow.distill.targets.mean_flow import MeanFlow
from textflow.models.base import Trainable
from textflow.runtime.distributed import rank_and_world_size
from textflow.training.engines.gather import local_tensor
from textflow.types import Batch

VOCAB = 320
SIGNALS = (("signal", 3, 1, True), ("signal_in_validation", 5, 0, False))  # fault, step, rank, in training


class Block(nn.Module):
    """A residual block; its width 7 is not divisible by the number of ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.into, self.out = nn.LayerNorm(12), nn.Linear(12, 7), nn.Linear(7, 12, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(self.into(self.norm(x)).tanh())


class Net(nn.Module):
    """Ids -> logits of the next ids, through two public methods, as in a denoiser."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.shift = nn.Embedding(VOCAB, 12), nn.Parameter(torch.zeros(1, 3, 12))
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.scores = nn.Linear(12, VOCAB)
        self.register_buffer("level", torch.zeros(()))  # mean id of the last batch of this process

    def hidden(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.shift.sum(1, keepdim=True)
        for block in self.blocks:
            x = block(x)
        return x

    def logits(self, x: Tensor) -> Tensor:
        return self.scores(x)


class Model(Trainable):
    """Next-token prediction; the loss is a mean over rows, or over tokens with (`tokens`) or without (`local_tokens`)
    their number.

    Faults on the last rank: an infinite loss at step 3 (`loss`) or weight after step 5 (`weight`). Faults on all ranks:
    a full disk (`disk`) or a target with forward-mode derivatives (`tangent`). SIGTERM reaches the last rank at step 3
    (`signal`), or the first in the validation after step 5 (`signal_in_validation`).
    """

    def __init__(self, optimizer: Any, mean: str = "rows", fault: str = "") -> None:
        super().__init__(optimizer, lambda optimizer: training.WarmupLR(optimizer, warmup_steps=3), ema_decay=0.9)
        torch.manual_seed(1)
        self.set_net(Net())
        self.mean, self.fault = mean, fault
        self.target = MeanFlow() if fault == "tangent" else None
        self.records: dict[str, list[Any]] = {"rows": [], "random": [], "buffer": []}

    def losses(self, net: Any, batch: Batch) -> dict[str, Tensor]:
        if net is self.net:
            self.records["buffer"].append(float(net.level))
            net.level.copy_(batch.ids.float().mean())
            self.records["rows"] += batch.ids.tolist()
            self.records["random"].append(float(torch.rand(())))
        logits = net.logits(net.hidden(batch.ids[:, :-1]))
        mask = batch.mask[:, 1:].float()
        nll = nn.functional.cross_entropy(logits.transpose(1, 2), batch.ids[:, 1:], reduction="none") * mask
        if self.fault == "loss" and self.global_step == 3 and rank_and_world_size()[0]:
            return {"loss": nll.sum() * torch.inf}
        if (self.fault, self.global_step, rank_and_world_size()[0], net is self.net) in SIGNALS:
            signal.raise_signal(signal.SIGTERM)
        if self.mean == "rows":
            return {"loss": (nll.sum(1) / mask.sum(1).clamp(min=1)).mean()}
        counted = mask * (batch.ids[:, 1:] % 5 < 2)
        loss = {"loss": (nll * counted).sum() / counted.sum().clamp(min=1)}
        return loss if self.mean == "local_tokens" else loss | {"tokens": counted.sum()}


class FaultyTraining(training.TrainingModule):
    """Training of a `Model` that causes its faults after a step."""

    model: Model

    def on_train_batch_end(self, *_: Any) -> None:
        if self.model.fault == "weight" and self.global_step == 5 and self.global_rank:
            local_tensor(self.model.net.scores.weight).data.fill_(torch.inf)
        if self.model.fault == "disk" and self.global_step == 5:
            training.checkpoint_io.fsync = fail_as_full_disk  # in this process, whose last case this is


def fail_as_full_disk(*_: Any) -> None:
    raise OSError(28, "No space left on device")
