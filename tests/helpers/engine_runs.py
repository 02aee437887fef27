"""A small model without chance; as a script, one of several processes that train it."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from torch import Tensor, nn

from textflow.data import DataModule, SentencePiece, TextFiles
from textflow.distill.targets.mean_flow import MeanFlow
from textflow.models.base import Trainable
from textflow.training import (
    FSDP,
    CheckpointCallback,
    MetricsCSVLogger,
    MuonAdam,
    ReseedEachBatch,
    Trainer,
    WarmupLR,
    Zero,
    checkpoint_io,
    latest_state,
    optim,
)
from textflow.training.engines.gather import local_tensor
from textflow.types import Batch

VOCAB, LENGTH, ROWS = 320, 16, 8  # ROWS of all processes together


class Part(nn.Module):
    """x + a narrow layer of x; 7 divides no number of ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.into, self.out = nn.LayerNorm(12), nn.Linear(12, 7), nn.Linear(7, 12, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(self.into(self.norm(x)).tanh())


class Net(nn.Module):
    """Tokens -> scores of the next ones; its parts are reached by methods, as a denoiser's are."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.shift = nn.Embedding(VOCAB, 12), nn.Parameter(torch.zeros(1, 3, 12))
        self.blocks = nn.ModuleList(Part() for _ in range(2))
        self.scores = nn.Linear(12, VOCAB)
        self.register_buffer("level", torch.zeros(()))  # of the ids in the last batch of this process

    def trunk(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.shift.sum(1, keepdim=True)
        for block in self.blocks:
            x = block(x)
        return x

    def read(self, x: Tensor) -> Tensor:
        return self.scores(x)

    def forward(self, ids: Tensor) -> Tensor:
        return self.read(self.trunk(ids))


class Even(Trainable):
    """The loss is a mean over rows, or over some of the tokens whose number is told (`tokens`) or not (`untold`).

    On the last rank there is a fault: the loss of step 3 or a weight after step 5 is infinite; on all the disk is full,
    or a target asks for derivatives forward-mode (`tangent`).
    """

    def __init__(
        self, optimizer: Any = lambda params: MuonAdam(params, lr=1e-2), mean: str = "rows", fault: str = ""
    ) -> None:
        super().__init__(optimizer, lambda optimizer: WarmupLR(optimizer, warmup_steps=3), ema_decay=0.9)
        torch.manual_seed(1)
        self.set_net(Net())
        self.mean, self.fault = mean, fault
        self.target = MeanFlow() if fault == "tangent" else None
        self.seen: list[list[int]] = []
        self.drawn: list[float] = []
        self.heard: list[float] = []

    def losses(self, net: Any, batch: Batch) -> dict[str, Tensor]:
        if net is self.net:
            self.heard.append(float(net.level))
            net.level.copy_(batch.ids.float().mean())
            self.seen += [row.tolist() for row in batch.ids]
            self.drawn.append(float(torch.rand(())))
        logits = net.read(net.trunk(batch.ids[:, :-1]))
        said = batch.mask[:, 1:].float()
        nll = nn.functional.cross_entropy(logits.transpose(1, 2), batch.ids[:, 1:], reduction="none") * said
        if self.fault == "loss" and self.global_step == 3 and self.global_rank:
            return {"loss": nll.sum() * torch.inf}
        if self.mean == "rows":
            return {"loss": (nll.sum(1) / said.sum(1).clamp(min=1)).mean()}
        some = said * (batch.ids[:, 1:] % 5 < 2)
        loss = {"loss": (nll * some).sum() / some.sum().clamp(min=1)}
        return loss if self.mean == "untold" else loss | {"tokens": some.sum()}

    def on_train_batch_end(self, *_: Any) -> None:
        if self.fault == "weight" and self.global_step == 5 and self.global_rank:
            local_tensor(self.net.scores.weight).data.fill_(torch.inf)
        if self.fault == "disk" and self.global_step == 5:
            checkpoint_io.fsync = full  # of this process, which makes no other case after it


def full(*_: Any) -> None:
    """What a disk says."""
    raise OSError(28, "No space left on device")


class Twice(Zero):
    """ZeRO with Lightning's own way back, which divides the loss twice under accumulation."""

    @property
    def precision_plugin(self) -> Any:
        return super().precision_plugin

    @precision_plugin.setter
    def precision_plugin(self, plugin: Any) -> None:
        self._precision_plugin = plugin and DeepSpeedPrecision("32-true")


ENGINES = {
    "one": lambda: "auto",
    "ddp": lambda: "ddp",
    "zero1": lambda: Zero(1),
    "zero2": lambda: Zero(2),
    "zero3": lambda: Zero(3),
    "fsdp": FSDP,
    "twice": lambda: Twice(2),
}
OPTIMIZERS = {
    "muon": lambda params: MuonAdam(params, lr=1e-2, adam_names=["embedding"]),
    "adamw": lambda params: torch.optim.AdamW(params, lr=1e-2, weight_decay=0.1),
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1),
    "torch_muon": lambda params: torch.optim.Muon([p for _, p in params if p.ndim == 2]),
}


def data(folder: Path, shares: int) -> DataModule:
    """Rows of a text that the folder holds, in batches of a share of ROWS."""
    source = TextFiles(str(folder / "text.txt"))
    return DataModule(
        source, SentencePiece(VOCAB), LENGTH, ROWS // shares, val_fraction=0.2, cache=str(folder / "cache")
    )


def fit(folder: Path, case: dict[str, Any], world: int) -> None:
    """Trains one case in its run folder, from the newest state if there is one."""
    run, accumulate = folder / case["run"], case.get("accumulate", 1)
    model = Even(OPTIMIZERS[case["optimizer"]], case.get("mean", "rows"), case.get("fault", ""))
    rows = data(folder, case.get("shares", world * accumulate))
    rows.prepare_data()
    trainer = Trainer(
        max_steps=10, strategy=ENGINES[case["engine"]](), devices=world, accelerator="cpu",
        logger=[MetricsCSVLogger(run)],
        precision=case.get("precision", "32-true"), gradient_clip_val=case.get("clip", 1.0), log_every_n_steps=1,
        accumulate_grad_batches=accumulate, callbacks=[ReseedEachBatch(3), CheckpointCallback(run, every_n_steps=5)],
        val_check_interval=5 * accumulate,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with counted() as worked:
        trainer.fit(model, datamodule=rows, ckpt_path=latest_state(run))
    said = {"seen": model.seen, "drawn": model.drawn, "heard": model.heard, "worked": worked}
    said["held"] = held(model, trainer)
    (run / f"rank-{trainer.global_rank}.json").write_text(json.dumps(said))


@contextmanager
def counted() -> Iterator[list[int]]:
    """Matrices that this process orthogonalises at each call."""
    worked, whole = [], optim.orthogonalize

    def counting(u: Tensor, steps: int) -> Tensor:
        worked.append(len(u))
        return whole(u, steps)

    optim.orthogonalize = counting
    try:
        yield worked
    finally:
        optim.orthogonalize = whole


def held(model: Even, trainer: Trainer) -> dict[str, int]:
    """Bytes that this process keeps from step to step."""
    optimizer: Any = getattr(trainer.strategy, "base_optimizer", trainer.optimizers[0])
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    parts = {"weights": model.net.parameters(), "average": model.ema_net.parameters(), "optimizer": states}
    kept = {name: sum(4 * local_tensor(tensor).numel() for tensor in tensors) for name, tensors in parts.items()}
    if isinstance(trainer.strategy, Zero):  # what DeepSpeed makes its buffers of
        buffers = 1 if trainer.strategy.stage == 3 else 2
        kept["buckets"] = buffers * 4 * trainer.strategy.config["zero_optimization"]["reduce_bucket_size"]
    return kept


def begin(folder: Path, case: dict[str, Any], rank: int) -> None:
    """Gives a case the state of step 5 of another."""
    state = Path("state") / "step-00000005"
    if "start" in case and rank == 0:
        shutil.copytree(folder / case["start"] / state, folder / case["run"] / state)
    if dist.is_initialized():
        dist.barrier()


def main() -> None:
    """engine_runs.py FOLDER RANK WORLD: all cases of FOLDER/cases-WORLD.json, one after another."""
    torch.set_num_threads(1)
    folder, rank, world = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for case in json.loads((folder / f"cases-{world}.json").read_text()):
        begin(folder, case, rank)
        try:
            fit(folder, case, world)
        except (OSError, ValueError) as error:
            (folder / f"{case['run']}-{rank}.refused").write_text(str(error))


if __name__ == "__main__":
    main()
