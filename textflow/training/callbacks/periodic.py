"""Every: something is looked at every so many steps, and at the end."""

from abc import ABC, abstractmethod
from typing import Any

import lightning as L


class Every(L.Callback, ABC):
    """Acts after every so many optimizer steps and after the last; a continued run acts at the same steps.

    Args:
        every_n_steps: optimizer steps between two acts, at least 1.
    """

    def __init__(self, every_n_steps: int) -> None:
        if every_n_steps < 1:
            raise ValueError(f"{type(self).__name__} got {every_n_steps} steps between two looks; it needs at least 1")
        self.every_n_steps = every_n_steps
        self.seen = 0  # the step of the last batch
        self.acted = -1  # the step of the last act

    @abstractmethod
    def act(self, trainer: Any, module: Any) -> None:
        """On all ranks, between two steps."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Counts from the step that the run continues at."""
        self.seen = self.acted = trainer.global_step

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Acts if the batch ended a step and it is time."""
        if trainer.global_step != self.seen and trainer.global_step % self.every_n_steps == 0:
            self._act(trainer, module)
        self.seen = trainer.global_step

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Acts at the end, unless the run was interrupted and is to stop soon."""
        interrupted = any(getattr(callback, "stopped", False) for callback in trainer.callbacks)
        if trainer.global_step != self.acted and not interrupted:
            self._act(trainer, module)

    def _act(self, trainer: Any, module: Any) -> None:
        self.acted = trainer.global_step
        self.act(trainer, module)
