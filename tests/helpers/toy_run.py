"""A tiny model and endless data; as a script, a run that a test can kill: toy_run.py RUN MAX_STEPS FAULT."""

import os
import signal
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from textflow import training
from textflow.models.base import Trainable
from textflow.types import Batch

VOCAB, LENGTH = 11, 6


class RowStream(IterableDataset):
    """Endless batches; batch i is a function of i modulo a period."""

    def __init__(self, start: int, period: int = 10**9) -> None:
        self.start, self.period = start, period

    def __iter__(self) -> Iterator[Batch]:
        for index in count(self.start):
            generator = torch.Generator().manual_seed(index % self.period)
            ids = torch.randint(0, VOCAB, (4, LENGTH), generator=generator)
            yield Batch(ids, ids > 0)


class RowData(L.LightningDataModule):
    """Data that resumes after the batches that were trained on."""

    def __init__(self, period: int = 10**9) -> None:
        super().__init__()
        self.consumed, self.period = 0, period

    def state_dict(self) -> dict[str, Any]:
        assert self.trainer is not None
        return {"consumed": self.trainer.fit_loop.epoch_loop.batch_progress.total.processed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.consumed = state_dict["consumed"]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(RowStream(self.consumed, self.period), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(list(islice(RowStream(10**6), 2)), batch_size=None)


class Toy(Trainable):
    """A net that predicts its own ids through dropout and noise, so that random streams matter; `after` is called with
    the model after each training loss."""

    def __init__(self, optimizer: Any = None, after: Any = None, ema_decay: float = 0.9) -> None:
        optimizer = optimizer or (lambda params: training.MuonAdam(params, lr=1e-2))
        super().__init__(optimizer, lambda optimizer: training.WarmupLR(optimizer, warmup_steps=3), ema_decay)
        torch.manual_seed(1)
        net = nn.Sequential(nn.Embedding(VOCAB, 8), nn.Linear(8, 8), nn.BatchNorm1d(LENGTH), nn.Dropout(0.3))
        self.set_net(net.append(nn.Linear(8, VOCAB)))
        self.codec = nn.Linear(2, 2).requires_grad_(False)
        self.after = after
        self.train_losses: list[float] = []

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(net, nn.Sequential)
        x = net[0](batch.ids)
        logits = net[1:](x + 0.5 * torch.randn_like(x))
        loss = nn.functional.cross_entropy(logits[batch.mask], batch.ids[batch.mask])
        if net is self.net:
            self.train_losses.append(loss.item())
            if self.after is not None:
                self.after(self)
        return {"loss": loss, "certainty": logits.detach().softmax(-1).amax(-1).mean()}

    def sample_texts(self, n: int) -> list[str]:
        assert not any(module.training for module in self.modules())
        torch.randn(3)  # a careless sampler must not disturb training
        return [f"text {i}" for i in range(n)]


def trainer(
    run: Path, max_steps: int, every: int = 4, seed: int = 3, bar: float | None = None, **kwargs: Any
) -> L.Trainer:
    """A quiet trainer over a run folder; `bar` is the seconds between two updates of a progress bar."""
    callbacks = [training.ReseedEachBatch(seed), training.Throughput(), training.SampleLogger(run, 5, num_samples=2)]
    bars = [] if bar is None else [training.StepProgressBar(bar)]
    callbacks += [*bars, training.CheckpointCallback(run, every)]
    settings = dict(val_check_interval=3, log_every_n_steps=1, precision="32-true", accelerator="cpu", devices=1)
    settings |= dict(
        enable_progress_bar=bool(bars), enable_model_summary=False, logger=[training.MetricsCSVLogger(run)]
    )
    return training.Trainer(max_steps=max_steps, callbacks=callbacks, **(settings | kwargs))


def fit(
    run: Path, max_steps: int, model: Toy | None = None, period: int = 10**9, **kwargs: Any
) -> tuple[Toy, L.Trainer]:
    """Train, from the newest intact state if there is one."""
    model, fitter = model or Toy(), trainer(run, max_steps, **kwargs)
    fitter.fit(model, datamodule=RowData(period), ckpt_path=training.latest_state(run))
    return model, fitter


def send_signal(number: int, at: int, times: int = 1) -> Callable[[Toy], None]:
    """Function for `Toy.after` that sends signals to this process in the batch `at`, counted from 1."""
    return lambda toy: [os.kill(os.getpid(), number) for _ in range(times * (len(toy.train_losses) == at))]


def kill_while_writing(step: int, name: str, owner: Any) -> None:
    """Kill the process in the middle of writing the state of a step, in the function owner.name."""
    original = getattr(owner, name)

    def kill_halfway(*args: Any, **kwargs: Any) -> Any:
        if f"step-{step:08d}" not in str(args) + str(getattr(args[-1], "name", "")):
            return original(*args, **kwargs)
        if name == "save":
            args[1].write(b"half of a state")
            args[1].flush()
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, kill_halfway)


def main(words: list[str]) -> int:
    """Train with a fault (kill, signal, save or rename); return the exit code."""
    run, max_steps, fault = words
    torch.set_num_threads(1)
    faults = {"kill": send_signal(signal.SIGKILL, at=7), "signal": send_signal(signal.SIGINT, at=6)}
    if fault not in faults:
        kill_while_writing(8, fault, {"save": torch, "rename": os}[fault])
    _, fitter = fit(Path(run), int(max_steps), Toy(after=faults.get(fault)))
    return 130 if fitter.checkpoint_callback.stopped else 0
