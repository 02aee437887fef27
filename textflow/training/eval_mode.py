"""Evaluate a model during training without side effects."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch


@contextmanager
def temporary_eval_mode(module: Any) -> Iterator[None]:
    """Eval mode without gradients; the random state and the mode of each submodule are restored on exit.

    The duration is added to module.eval_seconds. Sharded engines gather the EMA weights.
    """
    modes = [(part, part.training) for part in module.modules()]
    start = time.perf_counter()
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(), gathered_average(module):
            yield
    finally:
        for part, training in modes:
            part.training = training
        module.eval_seconds += time.perf_counter() - start


def gathered_average(module: Any) -> AbstractContextManager[None]:
    """Context in which a sharded engine has gathered the EMA weights."""
    strategy: Any = getattr(module._trainer, "strategy", None)
    return strategy.eval_context() if hasattr(strategy, "eval_context") else nullcontext()
