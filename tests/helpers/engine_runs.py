"""A small deterministic model and the runs that train it with each engine; as a script, all processes of these runs."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from torch import Tensor, nn

from tests.helpers.launcher import fork_ranks
from textflow import training
from textflow.data import DataModule, SentencePiece, TextFiles
from textflow.distill.targets.mean_flow import MeanFlow
from textflow.models.base import Trainable
from textflow.training.engines.gather import local_tensor
from textflow.training.interrupt import StopRequested
from textflow.types import Batch

VOCAB, LENGTH, ROWS = 320, 16, 8  # ROWS over all processes
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
        if self.fault == "loss" and self.global_step == 3 and self.global_rank:
            return {"loss": nll.sum() * torch.inf}
        if (self.fault, self.global_step, self.global_rank, net is self.net) in SIGNALS:
            signal.raise_signal(signal.SIGTERM)
        if self.mean == "rows":
            return {"loss": (nll.sum(1) / mask.sum(1).clamp(min=1)).mean()}
        counted = mask * (batch.ids[:, 1:] % 5 < 2)
        loss = {"loss": (nll * counted).sum() / counted.sum().clamp(min=1)}
        return loss if self.mean == "local_tokens" else loss | {"tokens": counted.sum()}

    def on_train_batch_end(self, *_: Any) -> None:
        if self.fault == "weight" and self.global_step == 5 and self.global_rank:
            local_tensor(self.net.scores.weight).data.fill_(torch.inf)
        if self.fault == "disk" and self.global_step == 5:
            training.checkpoint_io.fsync = fail_as_full_disk  # in this process, whose last case this is


def fail_as_full_disk(*_: Any) -> None:
    raise OSError(28, "No space left on device")


class DividesTwice(training.Zero):
    """ZeRO with Lightning's own backward pass, which divides the loss twice under accumulation."""

    @property
    def precision_plugin(self) -> Any:
        return super().precision_plugin

    @precision_plugin.setter
    def precision_plugin(self, plugin: Any) -> None:
        self._precision_plugin = plugin and DeepSpeedPrecision("32-true")


ENGINES = {
    "one": lambda: "auto",
    "ddp": lambda: "ddp",
    **{f"zero{stage}": partial(training.Zero, stage) for stage in (1, 2, 3)},
    "fsdp": training.FSDP,
    "divides_twice": partial(DividesTwice, 2),
}
OPTIMIZERS = {
    "muon": lambda params: training.MuonAdam(params, lr=1e-2, adam_names=["embedding"]),
    "adamw": lambda params: torch.optim.AdamW(params, lr=1e-2, weight_decay=0.1),
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1),
    "torch_muon": lambda params: torch.optim.Muon([p for _, p in params if p.ndim == 2]),
}


def fit(folder: Path, case: dict[str, Any], world_size: int) -> None:
    """Train one case in its run folder, from its newest state if there is one."""
    run, accumulate = folder / case["run"], case.get("accumulate", 1)
    model = Model(OPTIMIZERS[case["optimizer"]], case.get("mean", "rows"), case.get("fault", ""))
    batch_size = ROWS // case.get("shares", world_size * accumulate)
    source, cache = TextFiles(str(folder / "text.txt")), str(folder / "cache")
    data = DataModule(source, SentencePiece(VOCAB), LENGTH, batch_size, val_fraction=0.2, cache=cache)
    data.prepare_data()
    trainer = training.Trainer(
        max_steps=10, strategy=ENGINES[case["engine"]](), devices=world_size, accelerator="cpu",
        logger=[training.MetricsCSVLogger(run)], log_every_n_steps=1, val_check_interval=5 * accumulate,
        limit_val_batches=2, precision=case.get("precision", "32-true"), gradient_clip_val=case.get("clip", 1.0),
        callbacks=[training.ReseedEachBatch(3), training.CheckpointCallback(run, every_n_steps=5)],
        accumulate_grad_batches=accumulate, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with count_matrices() as matrices:
        trainer.fit(model, datamodule=data, ckpt_path=training.latest_state(run))
    records = model.records | {"matrices": matrices, "memory": persistent_bytes(model, trainer)}
    (run / f"rank-{trainer.global_rank}.json").write_text(json.dumps(records))


@contextmanager
def count_matrices() -> Iterator[list[int]]:
    """Number of matrices that this process orthogonalises at each call."""
    counts, original = [], training.optim.orthogonalize

    def count(u: Tensor, ns_steps: int) -> Tensor:
        counts.append(len(u))
        return original(u, ns_steps)

    training.optim.orthogonalize = count
    try:
        yield counts
    finally:
        training.optim.orthogonalize = original


def persistent_bytes(model: Model, trainer: training.Trainer) -> dict[str, int]:
    """Bytes that persist between training steps in this process, by kind."""
    optimizer: Any = getattr(trainer.strategy, "base_optimizer", trainer.optimizers[0])
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    tensors = {"weights": model.net.parameters(), "average": model.ema_net.parameters(), "optimizer": states}
    sizes = {name: sum(4 * local_tensor(tensor).numel() for tensor in group) for name, group in tensors.items()}
    if isinstance(trainer.strategy, training.Zero):  # DeepSpeed's buffers
        buffers = 1 if trainer.strategy.stage == 3 else 2
        sizes["buckets"] = buffers * 4 * trainer.strategy.config["zero_optimization"]["reduce_bucket_size"]
    return sizes


def main(words: list[str]) -> int:
    """Train all cases of FOLDER/cases-WORLD.json, one after another, with one fork per rank; words: FOLDER WORLD."""
    folder, world_size = Path(words[0]), int(words[1])
    cases = json.loads((folder / f"cases-{world_size}.json").read_text())
    if any(isinstance(ENGINES[case["engine"]](), training.Zero) for case in cases):
        import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401  all of DeepSpeed once, not once a rank

    def train(rank: int) -> None:
        for case in cases:
            state = Path("state") / "step-00000005"
            if "start" in case and rank == 0:
                shutil.copytree(folder / case["start"] / state, folder / case["run"] / state)
            if dist.is_initialized():
                dist.barrier()
            try:
                fit(folder, case, world_size)
            except (OSError, ValueError, StopRequested) as error:
                (folder / f"{case['run']}-{rank}.refused").write_text(str(error))

    return fork_ranks(train, world_size)
