"""Checkpoints of sharded engines: one file, equal to one process's, that any number of processes can read."""

from abc import ABC
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.strategies import Strategy
from torch import Tensor
from torch.optim import Optimizer

from textflow.training.engines.distributed_muon import MuonAllToAll
from textflow.training.engines.gather import full_state_dict
from textflow.training.engines.shards import ShardGroups, load_optimizer_state, optimizer_state
from textflow.training.optim import MuonAdam


class ConsolidatedCheckpointMixin(Strategy, ABC):
    """Load weights before they are sharded and the optimizer state after; the first rank gathers and writes both."""

    base_optimizer: Optimizer  # updates this rank's shards
    groups: ShardGroups  # those shards, for each of its parameter groups

    restore_checkpoint_after_setup = Strategy.restore_checkpoint_after_setup  # instead of the sharded engine's own
    lightning_restore_optimizer = Strategy.lightning_restore_optimizer
    save_checkpoint = Strategy.save_checkpoint
    load_checkpoint = Strategy.load_checkpoint
    load_model_state_dict = Strategy.load_model_state_dict

    @property
    def trainable(self) -> Any:
        """The model being trained, a Trainable."""
        return self.training_module.model

    @property
    def training_module(self) -> Any:
        """The TrainingModule around it."""
        return self.lightning_module

    def set_optimizer(self, optimizer: Optimizer, groups: ShardGroups) -> None:
        """Set the optimizer of this rank's shards, and distribute Muon's orthogonalisation."""
        self.base_optimizer, self.groups = optimizer, groups
        if isinstance(optimizer, MuonAdam):
            optimizer.orthogonalize = MuonAllToAll(owner for group in groups for owner in group)

    def lightning_module_state_dict(self) -> dict[str, Tensor]:
        return full_state_dict(self.training_module)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return optimizer_state(self.base_optimizer, self.groups)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        load_optimizer_state(self.base_optimizer, self.groups, checkpoint["optimizer_states"][0])
