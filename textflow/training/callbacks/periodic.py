"""PeriodicCallback: base of callbacks that act every n optimizer steps and at the end."""

from abc import ABC, abstractmethod
from typing import Any

import lightning as L

from textflow.runtime.rank_zero import rank_zero_info
from textflow.training.interrupt import StopRequested, leave_when_requested, was_interrupted


class PeriodicCallback(L.Callback, ABC):
    """Act every n optimizer steps and after the last; a resumed run acts at the same steps.

    Args:
        every_n_steps: optimizer steps between two actions, at least 1.
    """

    def __init__(self, every_n_steps: int) -> None:
        if every_n_steps < 1:
            raise ValueError(f"{type(self).__name__} got every_n_steps={every_n_steps}; it needs at least 1")
        self.every_n_steps = every_n_steps
        self.last_step = 0  # the step of the last batch
        self.last_act_step = -1  # the step of the last action

    @abstractmethod
    def act(self, trainer: L.Trainer, model: Any) -> None:
        """Perform the action with a Trainable; called on all ranks, between two steps."""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.last_step = self.last_act_step = trainer.global_step  # above 0 for a resumed run

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Act if the batch completed a step that is a multiple of every_n_steps."""
        if trainer.global_step != self.last_step and trainer.global_step % self.every_n_steps == 0:
            self._act(trainer, module)
        self.last_step = trainer.global_step

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Act at the end, unless the run was interrupted."""
        if trainer.global_step != self.last_act_step and not was_interrupted(trainer):
            self._act(trainer, module)

    def _act(self, trainer: L.Trainer, module: Any) -> None:
        self.last_act_step = trainer.global_step
        try:
            with leave_when_requested(trainer, module.model):
                self.act(trainer, module.model)
        except StopRequested:
            rank_zero_info(f"{type(self).__name__} of step {trainer.global_step} is left out, to save and stop")
