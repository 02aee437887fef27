"""Trainable: what `textflow fit` trains."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from textflow.layers.frozen import Frozen
from textflow.training.ema import Average
from textflow.training.engines import Spread
from textflow.training.engines.collectives import least, over_all
from textflow.training.engines.gather import local, whole
from textflow.training.lr_schedule import Warmup
from textflow.training.nan_guard import Finite
from textflow.training.optim import MuonAdam
from textflow.training.values import fault
from textflow.types import Batch


class Trainable(L.LightningModule, ABC):
    """A net, its exponential average `twin`, one optimizer and one schedule. A subclass calls `average(net)` once.

    Args:
        optimizer: makes the optimizer from pairs (name, parameter).
        schedule: makes the schedule, stepped after every optimizer step.
        ema: decay of the average, in [0, 1).
    """

    net: nn.Module
    twin: nn.Module
    tokenizer: Any = None  # set by `textflow fit` and `textflow.load`
    length: int = 128  # tokens a row, likewise
    given: int | None = None  # most tokens of a source, where it is trained on pairs, likewise
    looked: float = 0.0  # seconds spent looking at the model rather than training it

    def __init__(
        self,
        optimizer: Callable[[Any], Optimizer] = lambda params: MuonAdam(params, lr=2e-3),
        schedule: Callable[[Optimizer], LRScheduler] = lambda optimizer: Warmup(optimizer, steps=100),
        ema: float = 0.999,
    ) -> None:
        super().__init__()
        if not 0 <= ema < 1:
            raise ValueError(f"ema is {ema}; needs a decay in [0, 1), such as 0.999")
        self.optimizer, self.schedule, self.ema = optimizer, schedule, ema
        self.finite = Finite()

    def average(self, net: nn.Module) -> None:
        """Sets the net to train and its twin, a copy without gradients; what `Frozen` holds is shared, not copied."""
        for name, p in net.named_parameters():
            if p.ndim == 2 and not p.numel():
                shape = f"{len(p)} x {p.shape[1]}"
                raise ValueError(f"{type(net).__name__}.{name} is {shape}: a size in the recipe is 0; needs at least 1")
        shared: dict[int, Any] = {id(m.module): m.module for m in net.modules() if isinstance(m, Frozen)}
        self.net, self.twin = net, deepcopy(net, shared).requires_grad_(False)

    @abstractmethod
    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; the entry "loss" is minimised. The entry "tokens", if there is one, is how many it is a mean
        over: by it processes weigh theirs, so that the mean is one over the tokens of all.

        Args:
            net: the net or its twin.
            batch: ids and mask.
        """

    def real_text(self, rows: int, held_out: bool = False) -> Batch:
        """Some of the text of the fit, on the device."""
        batch: Batch = self.trainer.datamodule.first(rows, held_out)  # type: ignore[attr-defined]
        return batch.each(lambda part: part.to(self.device))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The net's loss, logged as train/*."""
        values = self.losses(self.net, batch)
        loss, mean = over_all(values["loss"], values.get("tokens"))
        self.finite.watch(self.global_step, mean)
        self._log("train", values | {"loss": mean}, batch)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The twin's losses, averaged over the validation set as val/*."""
        self._log("val", self.losses(self.twin, batch), batch)

    def _log(self, stage: str, values: Mapping[str, Tensor], batch: Batch) -> None:
        named = {f"{stage}/{name}": value.detach() for name, value in values.items() if name != "tokens"}
        self.log_dict(named, prog_bar=True, batch_size=len(batch.ids), sync_dist=stage == "val")

    def configure_optimizers(self) -> Any:
        """The optimizer over what can be trained, and its schedule by steps."""
        params = [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]
        if not params:
            raise ValueError(f"{type(self.net).__name__} has no parameter that requires a gradient: nothing to train")
        optimizer = self.optimizer(params)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule(optimizer), "interval": "step"}}

    def configure_callbacks(self) -> list[L.Callback]:
        """The average always follows; Lightning runs checkpoint callbacks after it."""
        return [Average(), Spread()]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to save weights that are not finite."""
        self.finite.check()
        names, parts = zip(*self.net.named_parameters(), strict=True)
        wrong = (i for i, p in enumerate(parts) if not bool(torch.isfinite(local(p)).all()))
        if (first := least(next(wrong, len(names)), self.device)) < len(names):
            raise ValueError(
                f"net.{names[first]} is no longer finite at step {self.global_step}, so nothing was saved;"
                " lower the learning rate and continue from the last checkpoint"
            )

    def weights(self) -> dict[str, Tensor]:
        """What model.safetensors holds, on the first rank: all but the twin, whose values are in place of the net's."""
        state = self.state_dict(keep_vars=True)
        names = [name for name in state if not name.startswith("twin.")]
        return {name: whole(state[_averaged(name)]) for name in names}

    @torch.no_grad()
    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Copies weights() of another into the net and the twin both.

        Args:
            tensors: the same names and shapes as weights(), finite floating point where those are.
        """
        state = self.state_dict()
        needed = {name: tuple(t.shape) for name, t in state.items() if not name.startswith("twin.")}
        found = {name: tuple(t.shape) for name, t in tensors.items()}
        wrong = [f"{n} is {found[n]}, needs {needed[n]}" for n in needed if n in found and found[n] != needed[n]]
        _refuse("missing", [n for n in needed if n not in found])
        _refuse("unexpected", [n for n in found if n not in needed])
        _refuse("misshaped", wrong)
        if name := next((n for n, tensor in tensors.items() if fault(tensor, state[n])), None):
            raise ValueError(
                f"these weights cannot be used: {name} {fault(tensors[name], state[name])}; copy the run anew, or"
                " continue it from a training state that is sound"
            )
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
            state[_averaged(name)].copy_(tensor)


def _averaged(name: str) -> str:
    return "twin." + name[len("net.") :] if name.startswith("net.") else name


def _refuse(what: str, names: list[str]) -> None:
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise ValueError(
            f"these weights do not fit the model: {len(names)} {what} ({shown});"
            " load them with the recipe that they were saved with (recipe.yaml beside them)"
        )
