"""Autoencoder: trains a codec, text <-> latents."""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from textflow.codecs import Codec
from textflow.models.base import LRSchedulerFn, OptimizerFn, Trainable
from textflow.objectives import CodecObjective, NoisyReconstruction
from textflow.paths import LinearPath, ProbPath
from textflow.training import MuonAdam, WarmupLR
from textflow.types import Batch


class Autoencoder(Trainable):
    """A codec that is trained by an objective before the generator whose latents it makes.

    Args:
        vocab_size: number of tokens (from the tokenizer).
        codec: makes the codec, text <-> latents, from vocab_size.
        objective: training loss of the codec.
        path: probability path that noises the latents in training or in diagnostics; take the generator's. Default:
            LinearPath().
        optimizer: makes the optimizer from pairs (name, parameter).
        lr_scheduler: makes the learning-rate schedule, stepped after every optimizer step.
        ema_decay: decay of the moving average, in [0, 1).
    """

    objective: CodecObjective

    def __init__(
        self,
        vocab_size: int,
        codec: Callable[[int], Codec],
        objective: CodecObjective | None = None,
        path: ProbPath | None = None,
        optimizer: OptimizerFn = lambda params: MuonAdam(params, lr=1e-2, adam_names="embed"),
        lr_scheduler: LRSchedulerFn = lambda optimizer: WarmupLR(optimizer, warmup_steps=30),
        ema_decay: float = 0.99,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, ema_decay)
        self.objective, self.path, made = objective or NoisyReconstruction(), path or LinearPath(), codec(vocab_size)
        self.objective.build(made)
        self.set_net(made)

    def on_fit_start(self, dry_run: bool = False) -> None:
        """Load the weights that the codec starts from; a resumed fit has its own."""
        if not cast(Codec, self.net).is_trained:
            for net in (self.net, self.ema_net):
                self.objective.initialize(cast(Codec, net))

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return self.objective(cast(Codec, net), self.path, batch)
