"""A tiny model and endless data; as a script, a run that a test can kill: toy_run.py RUN max_steps [how]."""

import argparse
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from textflow.models.base import Trainable
from textflow.training import (
    CheckpointCallback,
    MetricsCSVLogger,
    MuonAdam,
    ReseedEachBatch,
    SampleLogger,
    StepProgressBar,
    Throughput,
    Trainer,
    WarmupLR,
    checkpoint_io,
)
from textflow.types import Batch

VOCAB, LENGTH = 11, 6


class Rows(IterableDataset):
    """Batch i is a function of i modulo a period."""

    def __init__(self, start: int, period: int = 10**9) -> None:
        self.start, self.period = start, period

    def __iter__(self) -> Iterator[Batch]:
        index = self.start
        while True:
            stream = torch.Generator().manual_seed(index % self.period)
            ids = torch.randint(0, VOCAB, (4, LENGTH), generator=stream)
            yield Batch(ids, ids > 0)
            index += 1


class Data(L.LightningDataModule):
    """Continues after the batches that were trained on."""

    def __init__(self, period: int = 10**9) -> None:
        super().__init__()
        self.consumed, self.period = 0, period

    def state_dict(self) -> dict[str, Any]:
        assert self.trainer is not None
        return {"consumed": self.trainer.fit_loop.epoch_loop.batch_progress.total.processed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.consumed = state_dict["consumed"]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Rows(self.consumed, self.period), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        rows = iter(Rows(10**6))
        return DataLoader([next(rows) for _ in range(2)], batch_size=None)


class Toy(Trainable):
    """Predicts its own ids through dropout and noise, so that random streams matter."""

    def __init__(self, optimizer: Any = lambda params: MuonAdam(params, lr=1e-2), **kwargs: Any) -> None:
        super().__init__(
            optimizer, lambda optimizer: WarmupLR(optimizer, warmup_steps=3), ema_decay=kwargs.pop("ema_decay", 0.9)
        )
        self.after, self.slow = kwargs.pop("after", None), kwargs.pop("slow", 0.0)
        torch.manual_seed(1)
        net = nn.Sequential(nn.Embedding(VOCAB, 8), nn.Linear(8, 8), nn.BatchNorm1d(LENGTH), nn.Dropout(0.3))
        self.set_net(net.append(nn.Linear(8, VOCAB)))
        self.codec = nn.Linear(2, 2).requires_grad_(False)
        self.seen: list[float] = []

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(net, nn.Sequential)
        x = net[0](batch.ids)
        logits = net[1:](x + 0.5 * torch.randn_like(x))
        loss = nn.functional.cross_entropy(logits[batch.mask], batch.ids[batch.mask])
        if net is self.net:
            self.seen.append(loss.item())
            if self.after is not None:
                self.after(self)
        return {"loss": loss, "certainty": logits.detach().softmax(-1).amax(-1).mean()}

    def sample_texts(self, n: int) -> list[str]:
        assert not any(module.training for module in self.modules())
        torch.randn(3)  # a careless sampler must not disturb training
        return [f"text {i}" for i in range(n)]


def trainer(run: Path, max_steps: int, every: int = 4, seed: int = 3, **kwargs: Any) -> Trainer:
    """A quiet trainer over a run folder."""
    save, bar = CheckpointCallback(run, every_n_steps=every), kwargs.pop("bar", False)
    callbacks = [
        ReseedEachBatch(seed),
        Throughput(),
        SampleLogger(run, every_n_steps=5, num_samples=2),
        *([StepProgressBar(0.0)] if bar else []),
        save,
    ]
    settings = dict(val_check_interval=3, log_every_n_steps=1, precision="32-true", accelerator="cpu", devices=1)
    settings |= dict(enable_progress_bar=bar, enable_model_summary=False, logger=[MetricsCSVLogger(run)])
    return Trainer(max_steps=max_steps, callbacks=callbacks, **(settings | kwargs))


def fit(run: Path, max_steps: int, model: Toy | None = None, period: int = 10**9, **kwargs: Any) -> tuple[Toy, Trainer]:
    """Trains, from the newest whole state if there is one."""
    model = model or Toy()
    coach = trainer(run, max_steps, **kwargs)
    coach.fit(model, datamodule=Data(period), ckpt_path=checkpoint_io.latest_state(run))
    return model, coach


def die(*_: Any) -> None:
    """kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_within(step: int, name: str, owner: Any) -> None:
    """Kills the process in the middle of writing the state of a step."""
    whole = getattr(owner, name)

    def half(*args: Any, **kwargs: Any) -> Any:
        if f"step-{step:08d}" not in str(args) + str(getattr(args[-1], "name", "")):
            return whole(*args, **kwargs)
        if name == "save":
            args[1].write(b"half of a state")
            args[1].flush()
        die()

    setattr(owner, name, half)


def main(words: list[str]) -> int:
    """The script: its exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("max_steps", type=int)
    parser.add_argument("how", choices=["plain", "kill", "save", "rename", "signal"])
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    model = Toy()
    if args.how == "kill":
        model.after = lambda toy: die() if len(toy.seen) == 7 else None
    if args.how == "signal":
        model.after = lambda toy: os.kill(os.getpid(), signal.SIGINT) if len(toy.seen) == 6 else None
    if args.how == "save":
        die_within(8, "save", torch)
    if args.how == "rename":
        die_within(8, "rename", os)
    _, coach = fit(args.run, args.max_steps, model)
    save = coach.checkpoint_callback
    assert isinstance(save, CheckpointCallback)
    return 130 if save.stopped else 0
