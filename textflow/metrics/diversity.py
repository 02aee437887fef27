"""Repetition inside a sample and variety over samples, from n-grams of token ids."""

from collections.abc import Sequence

Samples = Sequence[Sequence[int]]
HUMAN_REPETITION = 0.0192  # seq-rep-4 of human text: a sample at or below it counts in human_repetition_share


def ngrams(ids: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """All n-grams of one sample in order; empty if it is shorter than n."""
    return list(zip(*(ids[i:] for i in range(n)), strict=False))


def sequence_repetition(ids: Sequence[int], n: int = 4) -> float:
    """seq-rep-n = 1 - distinct n-grams / n-grams of one sample; 0 if it is shorter than n.

    Args:
        ids: tokens of one sample, without padding.
        n: length of the n-grams.
    """
    grams = ngrams(ids, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct_n(samples: Samples, n: int) -> float:
    """distinct-n = different n-grams / n-grams over all samples together; 0 without any."""
    grams = [gram for ids in samples for gram in ngrams(ids, n)]
    return len(set(grams)) / max(len(grams), 1)
