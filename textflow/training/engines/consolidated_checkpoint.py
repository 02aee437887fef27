"""Checkpoints of sharded engines: one file, the same as of one process, read by any number of processes."""

from abc import ABC
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.strategies import Strategy
from torch import Tensor
from torch.optim import Optimizer

from textflow.training.engines.gather import full_state_dict
from textflow.training.engines.shards import ShardGroups, load_optimizer_state, optimizer_state


class ConsolidatedCheckpointMixin(Strategy, ABC):
    """Weights are read before they are shared out, the optimizer's state piece by piece after.

    The first rank writes, so it holds the whole state for a moment.
    """

    base_optimizer: Optimizer  # steps this rank's pieces
    groups: ShardGroups  # where they lie

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    @property
    def trainable(self) -> Any:
        """What is trained: a Trainable."""
        return self.lightning_module

    def lightning_module_state_dict(self) -> dict[str, Tensor]:
        return full_state_dict(self.trainable)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return optimizer_state(self.base_optimizer, self.groups)

    def save_checkpoint(self, checkpoint: Any, filepath: Any, storage_options: Any = None) -> None:
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        self.trainable.load_state_dict(checkpoint["state_dict"], strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        load_optimizer_state(self.base_optimizer, self.groups, checkpoint["optimizer_states"][0])
