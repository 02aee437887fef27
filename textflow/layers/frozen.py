"""Frozen: a module that is used but not trained, averaged or saved (an encoder from the Hub, a teacher)."""

from collections.abc import Callable
from typing import Any

from torch import nn


class Frozen(nn.Module):
    """A wrapper that excludes a module from optimizers, averages and checkpoints; it moves to its owner's device.

    Args:
        module: module to freeze; it is put in eval mode, without gradients.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._held = (module.requires_grad_(False).eval(),)  # a tuple is not registered

    @property
    def module(self) -> nn.Module:
        """The wrapped module."""
        return self._held[0]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Frozen":
        self.module._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
