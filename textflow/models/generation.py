"""Generation of token ids and texts from seeds, batch by batch."""

from collections.abc import Callable
from typing import Any

from textflow.noise import sample_seeds
from textflow.types import Ids


def generate_ids(
    sample_fn: Callable[[list[int]], Ids], num_samples: int, seed: int, batch_size: int, first_index: int = 0
) -> list[list[int]]:
    """Token ids of samples before decoding, for entropy over the generator's own tokens.

    Args:
        sample_fn: seeds -> token ids, one sample a seed.
        num_samples: number of samples.
        seed: random seed of the run.
        batch_size: number of samples in a batch.
        first_index: index of the first sample.
    """
    ids: list[list[int]] = []
    for start in range(0, num_samples, batch_size):
        ids += sample_fn(sample_seeds(seed, first_index + start, min(batch_size, num_samples - start))).tolist()
    return ids


def generate_texts(
    sample_fn: Callable[[list[int]], Ids],
    tokenizer: Any,
    num_samples: int,
    seed: int,
    batch_size: int,
    first_index: int,
) -> list[str]:
    """Texts; text i depends on `sample_fn`, seed and i alone.

    Args:
        sample_fn: seeds -> token ids, one sample a seed.
        tokenizer: tokenizer, which cuts each text at its first EOS.
        num_samples: number of texts.
        seed: random seed of the run.
        batch_size: number of texts in a batch.
        first_index: index of the first sample.
    """
    if tokenizer is None:
        raise ValueError("this model has no tokenizer: load it with textflow.load(RUN)")
    return tokenizer.decode(generate_ids(sample_fn, num_samples, seed, batch_size, first_index))
