"""Evaluate a model during training without side effects."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def temporary_eval_mode(model: Any) -> Iterator[None]:
    """Eval mode without gradients; the random state and the mode of each submodule are restored on exit.

    The duration is added to model.eval_seconds. Sharded engines gather the EMA weights.
    """
    modes = [(part, part.training) for part in model.modules()]
    start = time.perf_counter()
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(), model.average_context():
            yield
    finally:
        for part, training in modes:
            part.training = training
        model.eval_seconds += time.perf_counter() - start
