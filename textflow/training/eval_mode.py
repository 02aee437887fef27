"""Evaluate a model during training without side effects."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch


@contextmanager
def temporary_eval_mode(module: Any) -> Iterator[None]:
    """Eval mode without gradients; the random state and the mode of each submodule are restored on exit.

    The duration is added to module.eval_seconds. Sharded engines gather the EMA weights.
    """
    modes = [(part, part.training) for part in module.modules()]
    strategy: Any = getattr(module._trainer, "strategy", None)
    start = time.perf_counter()
    module.eval()
    try:
        gathered = strategy.eval_context() if hasattr(strategy, "eval_context") else nullcontext()
        with torch.no_grad(), torch.random.fork_rng(), gathered:
            yield
    finally:
        for part, training in modes:
            part.training = training
        module.eval_seconds += time.perf_counter() - start
