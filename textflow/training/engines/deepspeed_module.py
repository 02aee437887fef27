"""What DeepSpeed may cut up, and the average whole again for a look at it."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from textflow.layers.frozen import Frozen
from textflow.training.engines.gather import gathered


class Trained(nn.Module):
    """The net and its average; what is frozen beside them, a codec say, stays whole on every rank.

    Args:
        module: whose forward Lightning makes the training or validation step.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.net, self.twin = module.net, module.twin
        self.step = [module]  # not a child

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.step[0].forward(*args, **kwargs)


class Bare:
    """A copy of an average before it is cut up, without memory until it is asked for.

    Args:
        twin: the average, whole.
    """

    def __init__(self, twin: nn.Module) -> None:
        shared: dict[int, Any] = {id(m.module): m.module for m in twin.modules() if isinstance(m, Frozen)}
        self.copy = deepcopy(twin, shared).to("meta")

    @contextmanager
    def instead(self, module: Any) -> Iterator[None]:
        """The average is whole and free of DeepSpeed's hooks for a while. Called on all ranks.

        Args:
            module: whose twin it is.
        """
        cut = module.twin
        module.twin = self.fill(cut)
        try:
            yield
        finally:
            module.twin = cut
            self.copy.to("meta")

    @torch.no_grad()
    def fill(self, cut: nn.Module) -> nn.Module:
        """The copy with the numbers of the average that is cut up."""
        device = next(cut.parameters()).device
        self.copy.to_empty(device=device)
        here = named(self.copy)
        for name, there in named(cut).items():
            with gathered(there):
                here[name].copy_(there)
        return self.copy


def named(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers; what two parts share is there twice, since memory made anew is not shared."""
    parameters = dict[str, Tensor](module.named_parameters(remove_duplicate=False))
    return parameters | dict(module.named_buffers(remove_duplicate=False))
