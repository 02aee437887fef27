"""Look at a model while it trains, and change nothing."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch


@contextmanager
def still(module: Any) -> Iterator[None]:
    """Eval mode, no gradients, and no random stream of training moves; module.looked adds up the seconds.

    Args:
        module: comes back in the modes that it was in, part by part.
    """
    modes = [(part, part.training) for part in module.modules()]
    start = time.perf_counter()
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(), looking(module):
            yield
    finally:
        for part, training in modes:
            part.training = training
        module.looked += time.perf_counter() - start


def looking(module: Any) -> AbstractContextManager[None]:
    """An engine that cuts the average up makes it whole for a look."""
    strategy: Any = getattr(module._trainer, "strategy", None)
    return strategy.looking() if hasattr(strategy, "looking") else nullcontext()
