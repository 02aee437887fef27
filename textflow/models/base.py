"""Trainable: the base class of models that `textflow fit` trains."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from textflow.data import Source, Tokenizer
from textflow.layers.frozen import Frozen
from textflow.models.text_format import TextFormat
from textflow.runtime.rank_zero import rank_zero_info
from textflow.training.engines.gather import full_tensor
from textflow.training.lr_schedule import WarmupLR, short_schedule
from textflow.training.optim import MuonAdam
from textflow.training.weights import describe_mismatch
from textflow.types import Batch

OptimizerFn: TypeAlias = Callable[[Iterable[tuple[str, nn.Parameter]]], Optimizer]  # from pairs (name, parameter)
LRSchedulerFn: TypeAlias = Callable[[Optimizer], LRScheduler]
PHASES = ("curriculum_steps", "ramp_steps")  # arguments of objectives: steps until their loss is the final one


class TrainingData(Protocol):
    """Data of a fit: a data module with its rows open."""

    source: Source
    tokenizer: Tokenizer

    def first_rows(self, num_rows: int, held_out: bool = False) -> Batch:
        """The first rows of the training or validation split."""

    @property
    def has_validation(self) -> bool:
        """True if some rows are held out."""


class Trainable(nn.Module, ABC):
    """A net, its moving average `ema_net`, an optimizer and a schedule. A subclass calls `set_net(net)` once. The
    `TrainingModule` around it is what Lightning trains.

    Args:
        optimizer: makes the optimizer from pairs (name, parameter).
        lr_scheduler: makes the learning-rate schedule, stepped after every optimizer step.
        ema_decay: decay of the moving average, in [0, 1).
    """

    net: nn.Module
    ema_net: nn.Module
    text_format: TextFormat = TextFormat()  # set by `textflow fit` and `textflow.load`
    eval_seconds: float = 0.0  # seconds spent on evaluation rather than training
    data: TrainingData | None = None  # of the fit
    global_step: int = 0  # optimizer steps of the fit so far
    average_context: Callable[[], AbstractContextManager[None]] = nullcontext  # in it a sharded average is whole

    def __init__(
        self,
        optimizer: OptimizerFn = lambda params: MuonAdam(params, lr=2e-3),
        lr_scheduler: LRSchedulerFn = lambda optimizer: WarmupLR(optimizer, warmup_steps=100),
        ema_decay: float = 0.999,
    ) -> None:
        super().__init__()
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay is {ema_decay}; needs a decay in [0, 1), such as 0.999")
        self.optimizer, self.lr_scheduler, self.ema_decay = optimizer, lr_scheduler, ema_decay

    @property
    def device(self) -> torch.device:
        """Device of the weights; the CPU without any."""
        return next((tensor.device for tensor in chain(self.parameters(), self.buffers())), torch.device("cpu"))

    @property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of the model's text."""
        if self.text_format.tokenizer is None:
            raise ValueError("this model has no tokenizer: load it with textflow.load(RUN)")
        return self.text_format.tokenizer

    def set_net(self, net: nn.Module) -> None:
        """Set the net to train and its moving average, a copy without gradients; `Frozen` modules are shared."""
        for name, p in net.named_parameters():
            if p.ndim == 2 and not p.numel():
                shape = f"{len(p)} x {p.shape[1]}"
                raise ValueError(f"{type(net).__name__}.{name} is {shape}: a size in the recipe is 0; needs at least 1")
        shared: dict[int, Any] = {id(m.module): m.module for m in net.modules() if isinstance(m, Frozen)}
        self.net, self.ema_net = net, deepcopy(net, shared).requires_grad_(False)

    @abstractmethod
    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; "loss" is minimised. "tokens", if present, is the number of tokens in the mean: processes
        weight their losses by it, so that the global loss is a mean over all tokens.

        Args:
            net: the net or its moving average.
            batch: token ids and masks.
        """

    def data_batch(self, rows: int, held_out: bool = False) -> Batch:
        """The first rows of the training (or validation) data of the fit, on the device."""
        if self.data is None:
            raise ValueError("this model has no data: it is not being trained")
        return self.data.first_rows(rows, held_out).map(lambda part: part.to(self.device))

    def on_fit_start(self, dry_run: bool = False) -> None:
        """Prepare for a fit whose data is `self.data`; a dry run trains for one step."""

    def on_fit_end(self, run: Path) -> None:
        """Write further files of a trained model into its run folder. Called on all ranks."""

    def trained_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Parameters that the optimizer trains, by name: those of the net that require a gradient."""
        return [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]

    def configure_optimizers(self, max_steps: int | None = None) -> dict[str, Any]:
        """The optimizer over trainable parameters and its schedule by steps, as Lightning takes them.

        Args:
            max_steps: number of optimizer steps of the fit, for the end of the schedule; None outside a fit.
        """
        params = self.trained_parameters()
        if not params:
            raise ValueError(f"{type(self.net).__name__} has no parameter that requires a gradient: nothing to train")
        optimizer = self.optimizer(params)
        schedule = self.lr_scheduler(optimizer)
        if max_steps is not None:
            if isinstance(schedule, WarmupLR):
                schedule.set_training_steps(max_steps)
                rank_zero_info(schedule.describe())
            phases = unfinished_phases(getattr(self, "objective", None), max_steps)
            for line in (*phases, *short_schedule(schedule, max_steps)):
                rank_zero_info(line)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def weights(self) -> dict[str, Tensor]:
        """Tensors of model.safetensors, on rank 0: the net's names with the values of its moving average."""
        state = self.state_dict(keep_vars=True)
        names = [name for name in state if not name.startswith("ema_net.")]
        return {name: full_tensor(state[_ema_name(name)]) for name in names}

    @torch.no_grad()
    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the `weights()` of another model, all finite, into both the net and its moving average."""
        state = self.state_dict()
        needed = {name: tuple(t.shape) for name, t in state.items() if not name.startswith("ema_net.")}
        shapes = {name: tuple(t.shape) for name, t in tensors.items()}
        wrong = [f"{n} is {shapes[n]}, needs {needed[n]}" for n in needed if shapes.get(n, needed[n]) != needed[n]]
        _refuse_weights("missing", [n for n in needed if n not in shapes])
        _refuse_weights("unexpected", [n for n in shapes if n not in needed])
        _refuse_weights("misshaped", wrong)
        if name := next((n for n, tensor in tensors.items() if describe_mismatch(tensor, state[n])), None):
            raise ValueError(
                f"these weights cannot be used: {name} {describe_mismatch(tensors[name], state[name])}; copy the run "
                "again, or continue it from an intact training state"
            )
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
            state[_ema_name(name)].copy_(tensor)


def unfinished_phases(objective: object, max_steps: int) -> list[str]:
    """Lines that name the phases of an objective which last longer than the training."""
    steps = {name: getattr(objective, name, 0) for name in PHASES}
    owner = type(objective).__name__
    return [
        f"{owner}: the training ends at step {max_steps}, before its {name} ({count:,}) are over"
        for name, count in steps.items()
        if count > max_steps > 0
    ]


def _ema_name(name: str) -> str:
    return "ema_net." + name[len("net.") :] if name.startswith("net.") else name


def _refuse_weights(problem: str, names: list[str]) -> None:
    if names:
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise ValueError(
            f"these weights do not fit the model: {len(names)} {problem} ({listed});"
            " load them with the recipe that they were saved with (recipe.yaml in their folder)"
        )
