"""Runs that train a small model with each engine; as a script, all processes of these runs."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from torch import Tensor

from tests.helpers.engine_model import VOCAB, FaultyTraining, Model
from tests.helpers.launcher import fork_ranks
from textflow import training
from textflow.data import DataModule, SentencePiece, TextFiles
from textflow.training.engines.gather import local_tensor
from textflow.training.interrupt import StopRequested

LENGTH, ROWS = 16, 8  # ROWS over all processes


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
        trainer.fit(FaultyTraining(model), datamodule=data, ckpt_path=training.latest_state(run))
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
