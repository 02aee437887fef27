"""Evaluate a model during training without side effects."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch


@contextmanager
def temporary_eval_mode(module: Any) -> Iterator[None]:
    """Eval mode without gradients that preserves the random state; module.eval_seconds accumulates the duration.

    Args:
        module: model to evaluate; the training mode of each submodule is restored on exit.
    """
    modes = [(part, part.training) for part in module.modules()]
    start = time.perf_counter()
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(), engine_eval_context(module):
            yield
    finally:
        for part, training in modes:
            part.training = training
        module.eval_seconds += time.perf_counter() - start


def engine_eval_context(module: Any) -> AbstractContextManager[None]:
    """Context in which a sharded engine gathers the EMA weights."""
    strategy: Any = getattr(module._trainer, "strategy", None)
    return strategy.eval_context() if hasattr(strategy, "eval_context") else nullcontext()
