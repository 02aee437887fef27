"""TrainingModule: a model as Lightning trains it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from textflow.training.ema import EMA
from textflow.training.engines.collectives import all_reduce_min, global_token_mean
from textflow.training.engines.distributed_muon import DistributedMuonCallback
from textflow.training.engines.gather import local_tensor
from textflow.training.nan_guard import NonFiniteError, NonFiniteGuard
from textflow.types import Batch


class TrainingModule(L.LightningModule):
    """Training and validation steps, logs and hooks of a `Trainable`, so that a model itself does not need Lightning.

    Args:
        model: model to train, a `textflow.models.base.Trainable`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model
        self.nan_guard = NonFiniteGuard()

    def setup(self, stage: str) -> None:
        """Give the model the data of the fit, and its moving average in full where an engine shards it."""
        trainer: Any = self.trainer
        self.model.data = trainer.datamodule
        if hasattr(trainer.strategy, "eval_context"):
            self.model.average_context = trainer.strategy.eval_context

    def on_fit_start(self) -> None:
        self.model.on_fit_start(bool(self.trainer.fast_dev_run))  # type: ignore[attr-defined]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The net's loss, logged as train/*."""
        self.model.global_step = self.global_step
        values = self.model.losses(self.model.net, batch)
        loss, mean = global_token_mean(values["loss"], values.get("tokens"))
        self.nan_guard.watch(self.global_step, mean)
        self._log("train", values | {"loss": mean}, batch)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The moving average's losses, averaged over the validation set as val/*."""
        self.model.global_step = self.global_step
        self._log("val", self.model.losses(self.model.ema_net, batch), batch)

    def _log(self, stage: str, values: Mapping[str, Tensor], batch: Batch) -> None:
        logs = {f"{stage}/{name}": value.detach() for name, value in values.items() if name != "tokens"}
        self.log_dict(logs, prog_bar=True, batch_size=len(batch.ids), sync_dist=stage == "val")

    def configure_optimizers(self) -> Any:
        return self.model.configure_optimizers(self.trainer.max_steps)

    def configure_callbacks(self) -> list[L.Callback]:
        """The moving average's and Muon's callbacks; Lightning runs checkpoint callbacks after them."""
        return [EMA(), DistributedMuonCallback()]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise an error instead of saving weights that are not finite."""
        self.nan_guard.check()
        names, parts = zip(*self.model.net.named_parameters(), strict=True)
        wrong = (i for i, p in enumerate(parts) if not bool(torch.isfinite(local_tensor(p)).all()))
        if (first := all_reduce_min(next(wrong, len(names)), self.device)) < len(names):
            raise NonFiniteError(
                f"net.{names[first]} is no longer finite at step {self.global_step}, so nothing was saved;"
                " lower the learning rate and continue from the last checkpoint"
            )

    def on_fit_end(self) -> None:
        """Let the model write its files into the run folder, that of the checkpoints."""
        trainer: Any = self.trainer
        if not trainer.fast_dev_run:
            own = (callback.run for callback in trainer.checkpoint_callbacks if hasattr(callback, "run"))
            self.model.on_fit_end(Path(next(own, trainer.default_root_dir)))
