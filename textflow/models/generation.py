"""Texts of models that make ids from seeds, batch by batch."""

from collections.abc import Callable
from typing import Any

from textflow.noise import sample_seeds
from textflow.types import Ids


def rows(make: Callable[[list[int]], Ids], n: int, seed: int, batch_size: int, first: int = 0) -> list[list[int]]:
    """ids of n samples, as the model says them: entropy over a generator's own tokens is taken of these.

    Args:
        make: ids of one sample a seed.
        n: number of samples.
        seed: of the run.
        batch_size: samples at a time.
        first: number of the first sample.
    """
    made: list[list[int]] = []
    for start in range(0, n, batch_size):
        made += make(sample_seeds(seed, first + start, min(batch_size, n - start))).tolist()
    return made


def write(
    make: Callable[[list[int]], Ids], tokenizer: Any, n: int, seed: int, batch_size: int, first: int
) -> list[str]:
    """Texts; text i depends on `make`, seed and i alone.

    Args:
        make: ids of one sample a seed.
        tokenizer: decodes them, each cut at its first EOS.
        n: number of texts.
        seed: of the run.
        batch_size: texts at a time.
        first: number of the first sample.
    """
    if tokenizer is None:
        raise ValueError("this model has no tokenizer: load it with textflow.load(RUN)")
    return tokenizer.decode(rows(make, n, seed, batch_size, first))
