"""Look at a model while it trains, and change nothing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .module import Trainable


@contextmanager
def still(module: Trainable) -> Iterator[None]:
    """Eval mode, no gradients, and no random stream of training moves; module.looked adds up the seconds.

    Args:
        module: comes back in the modes that it was in, part by part.
    """
    modes = [(part, part.training) for part in module.modules()]
    start = time.perf_counter()
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            yield
    finally:
        for part, training in modes:
            part.training = training
        module.looked += time.perf_counter() - start
